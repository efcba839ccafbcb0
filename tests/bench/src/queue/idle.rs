//! What one idle worker process costs.

use std::time::Duration;

use anyhow::Result;

use crate::cost::{Reading, resident_kib};
use crate::database::Database;
use crate::report::Report;
use crate::worker::Worker;

const IDLE: Duration = Duration::from_mins(1);
/// Connected, registered, nothing to do.
const SETTLED: Duration = Duration::from_secs(3);

pub(crate) async fn measure(database: &Database, quick: bool, report: &mut Report) -> Result<()> {
    database.clear().await?;
    let worker = Worker::start(database, &[("CONCURRENCY", 4)])?;
    let pids = [worker.pid()];
    tokio::time::sleep(SETTLED).await;
    let before = Reading::take(database, &pids).await?;
    let time = if quick { IDLE / 3 } else { IDLE };
    tokio::time::sleep(time).await;
    let cost = Reading::take(database, &pids).await?.since(before);
    let seconds = time.as_secs_f64();
    // Our own look at the counters is one of them.
    let statements = (cost.statements - 1.0) / seconds;
    let share = |us: f64| us / seconds / 1e4;
    let (own, server) = (share(cost.client_us), cost.server_us.map(share));
    report.table(
        "One idle worker process, of four kinds",
        &["statements/s", "its CPU", "the server's CPU", "its memory"],
    );
    report.row(&[
        format!("{statements:.2}"),
        format!("{own:.2} % of a core"),
        server.map_or_else(|| "?".to_owned(), |server| format!("{server:.2} % of a core")),
        format!("{} MiB", resident_kib(worker.pid())? / 1024),
    ]);
    report.bar(
        statements <= 2.0 && own + server.unwrap_or(0.0) <= 2.0,
        "idle: at most 2 statements a second and 2 % of a core, its own and the server's",
        &format!("{statements:.2} and {:.2} %", own + server.unwrap_or(0.0)),
    );
    Ok(())
}
