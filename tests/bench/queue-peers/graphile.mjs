// One worker process of graphile-worker: `fill N` puts jobs in, `work N OPTIONS` runs them and says how long it took, from
// the first handler to the moment when the database has none left; `start` prints when each job begins, and `enqueue N` puts
// jobs in one by one and prints when.
import { makeWorkerUtils, run, Logger } from "graphile-worker";
import pg from "pg";

const [mode, count, options] = process.argv.slice(2);
const jobs = Number(count);
const connectionString = process.env.PEERS_URL;
const logger = new Logger(() => () => {});
const pool = new pg.Pool({ connectionString });

if (mode === "fill") {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  await utils.release();
  for (let left = jobs; left > 0; left -= 50_000) {
    await pool.query(
      `select 1 from graphile_worker.add_jobs(array(
         select row('nothing', '{}'::json, null, null, null, null, null, null)::graphile_worker.job_spec
         from generate_series(1, $1)))`,
      [Math.min(left, 50_000)],
    );
  }
  await pool.query("vacuum analyze");
} else if (mode === "enqueue") {
  for (let n = 0; n < jobs; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200 + Math.random() * 500));
    console.log(JSON.stringify({ n, at: Date.now() }));
    await pool.query("select graphile_worker.add_job('note', json_build_object('n', $1::int))", [n]);
  }
} else {
  const { concurrentJobs = 16, ...worker } = JSON.parse(options ?? "{}");
  let ran = 0;
  let began;
  let reached;
  const all = new Promise((resolve) => (reached = resolve));
  const runner = await run({
    logger,
    noHandleSignals: true,
    taskList: {
      nothing: () => {
        began ??= performance.now();
        ran += 1;
        if (ran === jobs) reached();
      },
      note: (payload) => console.log(JSON.stringify({ n: payload.n, at: Date.now() })),
    },
    preset: { worker: { connectionString, concurrentJobs, maxPoolSize: concurrentJobs + 4, ...worker } },
  });
  if (mode === "work") {
    await all;
    while ((await pool.query("select 1 from graphile_worker._private_jobs limit 1")).rowCount > 0) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    console.log(JSON.stringify({ jobs, seconds: (performance.now() - began) / 1000 }));
    process.exit(0);
  }
  await runner.promise;
}
await pool.end();
