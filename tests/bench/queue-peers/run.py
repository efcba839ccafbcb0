#!/usr/bin/env python3
"""Jobs a second of the queue and of what people use on PostgreSQL; README.md says how to run it and what it compares."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servers import MariaDb, Postgres, install_peers

HERE = Path(__file__).resolve().parent
WORKER = HERE.parents[2] / "target/release/queue-test-worker"
LONG = 3_600_000

GRAPHILE = [
    {"concurrentJobs": 16, "localQueue": {"size": size}, "completeJobBatchDelay": complete}
    for size, complete in [(100, 0), (500, 0), (500, 10), (1000, 0)]
] + [{"concurrentJobs": 64, "localQueue": {"size": 500}, "completeJobBatchDelay": 0}]
PG_BOSS = [
    {"batchSize": size, "localConcurrency": concurrency}
    for size, concurrency in [(500, 1), (1000, 1), (500, 2), (1000, 2)]
]


class Ours:
    def __init__(self, server, name, kept):
        self.server, self.name, self.kept, self.candidates = server, name, kept, [{}]

    def fill(self, jobs):
        self.server.fresh_queue()
        self.server.fill(jobs)

    def work(self, jobs, options):
        settings = {"CONCURRENCY": 16, "PREFETCH": 1000, "LEASE_MS": 30_000, "KEEP_MS": LONG if self.kept else 0} | options
        environment = {name: str(value) for name, value in settings.items()}
        return run([ARGS.worker], environment | {"DATABASE_URL": self.server.url, "JOBS": str(jobs)})


class Peer:
    def __init__(self, server, name, script, node, candidates):
        self.server, self.name, self.candidates = server, name, candidates
        self.command = [node, node.parents[3] / script]

    def fill(self, jobs):
        self.server.fresh_database()
        run([*self.command, "fill", str(jobs)], {"PEERS_URL": self.server.url}, answers=False)
        self.server.checkpoint()

    def work(self, jobs, options):
        return run([*self.command, "work", str(jobs), json.dumps(options)], {"PEERS_URL": self.server.url})


def run(command, environment, answers=True):
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_ENV": "production"} | environment
    done = subprocess.run([str(word) for word in command], env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if answers else None


def measure(contender, jobs, options):
    contender.fill(jobs)
    before = contender.server.cpu_seconds()
    took = contender.work(jobs, options)["seconds"]
    cpu = contender.server.cpu_seconds() - before
    return jobs / took, cpu / jobs * 1e6


def best_options(contender, jobs):
    if len(contender.candidates) == 1:
        return contender.candidates[0]
    rates = [(measure(contender, jobs, options)[0], options) for options in contender.candidates]
    for rate, options in rates:
        print(f"  tried {contender.name} {json.dumps(options)}: {rate:.0f}/s", flush=True)
    return max(rates, key=lambda tried: tried[0])[1]


def compare(contenders, jobs, rounds, trial):
    options = {contender.name: best_options(contender, trial) for contender in contenders}
    results = {contender.name: [] for contender in contenders}
    print(f"\n**{jobs:,} waiting**, load before the run {Path('/proc/loadavg').read_text().split()[0]}\n", flush=True)
    for _ in range(rounds):
        for contender in contenders:
            rate, cpu = measure(contender, jobs, options[contender.name])
            results[contender.name].append((rate, cpu))
            print(f"  {contender.name}: {rate:.0f}/s, server {cpu:.0f} µs a job", file=sys.stderr, flush=True)
    peers = [contender.name for contender in contenders if isinstance(contender, Peer)]
    print("| who | options | jobs/s | server's CPU a job, µs |" + "".join(f" / {peer} |" for peer in peers))
    print("|---|---|---|---|" + "---|" * len(peers))
    for contender in contenders:
        mine = results[contender.name]
        cells = [contender.name, f"`{json.dumps(options[contender.name])}`"]
        cells += [f"{statistics.median(column):.0f}" for column in zip(*mine)]
        for peer in peers:
            pairs = zip(mine, results[peer])
            cells.append(f"{statistics.median(own[0] / other[0] for own, other in pairs):.2f}")
        print("| " + " | ".join(cells) + " |", flush=True)


def latency(graphile, jobs=100):
    """From just before the enqueue in one process to the handler's beginning in another, idle one."""
    graphile.fill(0)
    environment = {"PATH": "/usr/bin:/bin", "PEERS_URL": graphile.server.url}
    start = [str(word) for word in graphile.command]
    with subprocess.Popen([*start, "start", "0"], env=environment, stdout=subprocess.PIPE, text=True) as worker:
        time.sleep(2)
        enqueued = subprocess.run([*start, "enqueue", str(jobs)], env=environment, stdout=subprocess.PIPE, check=True, text=True)
        time.sleep(1)
        worker.terminate()
        started = {line["n"]: line["at"] for line in map(json.loads, worker.stdout)}
    lines = map(json.loads, enqueued.stdout.splitlines())
    waits = sorted(started[line["n"]] - line["at"] for line in lines)
    print(f"\n{graphile.name}, enqueue to start in an idle process: p50 {waits[jobs // 2]}, p99 {waits[-2]} ms", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trial", type=int, default=50_000, help="jobs of each try for a peer's best options")
    parser.add_argument("--only", nargs="+", default=["ours", "kept", "graphile-worker", "pg-boss"])
    parser.add_argument("--options", help="JSON: the worker's settings for ours, CONCURRENCY say", default="{}")
    parser.add_argument("--graphile", help="JSON: these options instead of a try of several")
    parser.add_argument("--pg-boss", help="the same for pg-boss")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to install and to keep data; default: target/queue-peers")
    parser.add_argument("--worker", type=Path, default=WORKER)
    global ARGS
    ARGS = parser.parse_args()
    folder = ARGS.folder or WORKER.parents[1] / "queue-peers"
    node = install_peers(HERE, folder)
    # The servers' data lies beside it, on the same disk, for the time of the run.
    with tempfile.TemporaryDirectory(dir=folder, prefix="data-") as data, MariaDb(Path(data)) as ours, Postgres(Path(data)) as theirs:
        print(f"{ours.version()}; {theirs.version()}; {len(__import__('os').sched_getaffinity(0))} cores", flush=True)
        graphile = [json.loads(ARGS.graphile)] if ARGS.graphile else GRAPHILE
        pg_boss = [json.loads(ARGS.pg_boss)] if ARGS.pg_boss else PG_BOSS
        contenders = [
            Ours(ours, "ours", kept=False),
            Peer(theirs, "graphile-worker", "graphile.mjs", node, graphile),
            Ours(ours, "kept", kept=True),
            Peer(theirs, "pg-boss", "pgboss.mjs", node, pg_boss),
        ]
        contenders = [contender for contender in contenders if contender.name in ARGS.only]
        for contender in contenders:
            if isinstance(contender, Ours):
                contender.candidates = [json.loads(ARGS.options)]
        if ARGS.latency:
            latency(next(contender for contender in contenders if contender.name == "graphile-worker"))
        for jobs in ARGS.jobs:
            compare(contenders, jobs, ARGS.rounds, min(jobs, ARGS.trial))


if __name__ == "__main__":
    main()
