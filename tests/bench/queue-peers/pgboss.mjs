// One worker process of pg-boss, as graphile.mjs. pg-boss keeps finished jobs, so "none left" means that all are completed.
import { PgBoss } from "pg-boss";
import pg from "pg";

const [mode, count, options] = process.argv.slice(2);
const jobs = Number(count);
const connectionString = process.env.PEERS_URL;
const pool = new pg.Pool({ connectionString });
const { batchSize = 500, localConcurrency = 1 } = JSON.parse(options ?? "{}");
const boss = new PgBoss({ connectionString, supervise: false, schedule: false, max: localConcurrency + 4 });
boss.on("error", console.error);
await boss.start();
await boss.createQueue("nothing");

if (mode === "fill") {
  for (let left = jobs; left > 0; left -= 10_000) {
    const data = Array.from({ length: Math.min(left, 10_000) }, () => ({ data: {} }));
    await boss.insert("nothing", data);
  }
  await pool.query("vacuum analyze");
} else {
  let ran = 0;
  let began;
  let reached;
  const all = new Promise((resolve) => (reached = resolve));
  const polling = { pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
  await boss.work("nothing", { batchSize, localConcurrency, ...polling }, (batch) => {
    began ??= performance.now();
    ran += batch.length;
    if (ran === jobs) reached();
  });
  await all;
  const left = "select 1 from pgboss.job where name = 'nothing' and state < 'completed' limit 1";
  while ((await pool.query(left)).rowCount > 0) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  console.log(JSON.stringify({ jobs, seconds: (performance.now() - began) / 1000 }));
}
process.exit(0);
