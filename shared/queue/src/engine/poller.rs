//! Polls for work: one statement for all kinds, which on an idle queue waits on the server's side. Also starts maintenance
//! tasks that are due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rag_mariadb::OutageLog;
use sqlx::{AssertSqlSafe, MySqlConnection, Row};
use tokio::time::Instant;

use crate::config::Wait;
use crate::error::QueueError;
use crate::maintenance::{self, COUNT_REST, Task};
use crate::sql::{micros, now_us};

use super::Engine;

/// Much longer than a statement waits by itself.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How long one statement may wait: a kind that frees a slot meanwhile is not waited for until the next.
const IDLE_WAIT: Duration = Duration::from_secs(1);
const BUSY_WAIT: Duration = Duration::from_millis(150);
/// Jobs come in bursts: for so long after one, ready jobs are looked for so many times as often.
const BURST: Duration = Duration::from_secs(2);
const BURST_FACTOR: u32 = 6;
/// Jobs that come due are looked for less often than ready ones: that costs more, and they have waited anyway.
const LOOK_FOR_DUE: Duration = Duration::from_millis(50);
/// Between two promotions, whoever does them.
const PROMOTE_REST: Duration = Duration::from_millis(20);
const RESCUE_REST: Duration = Duration::from_millis(200);
const PRUNE_REST: Duration = Duration::from_mins(1);
/// Counting may take one part in so many of a worker's time.
const COUNT_SHARE: u32 = 50;

/// What a poll found.
#[derive(Default)]
struct Findings {
    ready: Vec<String>,
    paused: Vec<String>,
    draining: bool,
    tasks: Vec<Task>,
}

/// What a poll leads to has logs of its own: polls may succeed while that fails, again and again.
#[derive(Clone)]
struct SharedLog(Arc<Mutex<OutageLog>>);

struct Logs {
    promotion: SharedLog,
    maintenance: SharedLog,
}

impl Default for Logs {
    fn default() -> Self {
        let log = |task| SharedLog(Arc::new(Mutex::new(OutageLog::new(task))));
        Self {
            promotion: log("promote due jobs"),
            maintenance: log("maintain the queue"),
        }
    }
}

impl SharedLog {
    fn note<T>(&self, result: Result<T, QueueError>) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => log.succeeded(),
            Err(QueueError::Database(error)) => log.failed(&error),
            Err(error) => tracing::warn!(task = log.task(), %error, "failed; it is tried again"),
        }
    }
}

pub(super) async fn run(engine: Arc<Engine>) {
    tokio::select! {
        () = serve(&engine) => {}
        () = engine.closing.cancelled() => {}
    }
}

async fn serve(engine: &Arc<Engine>) {
    let mut link = engine.link("poll for work", ANSWERS_WITHIN);
    let logs = Logs::default();
    let maintenance_runs = Arc::new(AtomicBool::new(false));
    let mut pause = Duration::ZERO;
    loop {
        let statement = poll_statement(engine);
        let rest = match link.run(async |conn| poll(conn, statement).await).await {
            Ok(findings) => {
                link.succeeded();
                let found = act(engine, &findings, &maintenance_runs, &logs).await;
                pause = rest_after(engine, found, pause);
                pause
            }
            Err(error) => link.failed(&error),
        };
        tokio::time::sleep(rest).await;
    }
}

/// How long to wait on this side before the next poll.
fn rest_after(engine: &Engine, found: bool, last: Duration) -> Duration {
    match engine.config.wait {
        // The statement waits itself, unless there was nothing to wait for; and what was found must be dealt with.
        Wait::Server { step } if found => step,
        Wait::Server { .. } if engine.slots().idle_kinds().is_empty() || !engine.takes_jobs() => BUSY_WAIT,
        Wait::Server { .. } => Duration::ZERO,
        Wait::Client { min, .. } if found => min,
        Wait::Client { min, max } => last.mul_f32(1.5).clamp(min, max),
    }
}

/// Acts on what a poll found; answers whether it held anything for this process.
async fn act(
    engine: &Arc<Engine>,
    findings: &Findings,
    maintenance_runs: &Arc<AtomicBool>,
    logs: &Logs,
) -> bool {
    engine.draining.store(findings.draining, Ordering::Relaxed);
    let idle_kinds = {
        let mut slots = engine.slots();
        slots.set_paused(&findings.paused);
        slots.idle_kinds()
    };
    for kind in &findings.ready {
        engine.announce(kind);
    }
    // A pause or a draining may be over.
    engine.work.notify_one();
    let due = findings.tasks.contains(&Task::Promote);
    if due && engine.takes_jobs() {
        let promoted = promote(engine).await;
        if matches!(promoted, Ok(1..)) {
            engine.announce_all();
        }
        logs.promotion.note(promoted);
    }
    let due_tasks: Vec<Task> = findings
        .tasks
        .iter()
        .copied()
        .filter(|task| *task != Task::Promote)
        .collect();
    if !due_tasks.is_empty() && !maintenance_runs.swap(true, Ordering::AcqRel) {
        let (engine, maintenance_runs) = (Arc::clone(engine), Arc::clone(maintenance_runs));
        let log = logs.maintenance.clone();
        tokio::spawn(async move {
            tokio::select! {
                done = run_tasks(&engine, &due_tasks) => log.note(done),
                () = engine.closing.cancelled() => {}
            }
            maintenance_runs.store(false, Ordering::Release);
        });
    }
    due || findings
        .ready
        .iter()
        .any(|kind| idle_kinds.contains(&kind.as_str()))
}

async fn promote(engine: &Engine) -> Result<usize, QueueError> {
    if !Task::Promote.win(&engine.pool, PROMOTE_REST).await? {
        return Ok(0);
    }
    let kinds = engine.slots().kinds();
    maintenance::promote(&engine.pool, &kinds).await
}

async fn run_tasks(engine: &Engine, tasks: &[Task]) -> Result<(), QueueError> {
    let pool = &engine.pool;
    if tasks.contains(&Task::Rescue)
        && Task::Rescue.win(pool, RESCUE_REST).await?
        && maintenance::rescue(pool, &engine.config).await? > 0
    {
        engine.announce_all();
    }
    if tasks.contains(&Task::Prune) && Task::Prune.win(pool, PRUNE_REST).await? {
        let pruned = maintenance::prune(pool, &engine.config).await?;
        if pruned > 0 {
            tracing::debug!(pruned, "old jobs deleted");
        }
    }
    if tasks.contains(&Task::Count) && Task::Count.win(pool, COUNT_REST).await? {
        if maintenance::rescue(pool, &engine.config).await? > 0 {
            engine.announce_all();
        }
        let started_at = Instant::now();
        maintenance::count(pool).await?;
        let rest = started_at.elapsed() * COUNT_SHARE;
        if rest > COUNT_REST {
            let postpone = concat!(
                "UPDATE queue_tasks SET due_us = ",
                now_us!(),
                " + ? WHERE task = 'count'"
            );
            sqlx::query(postpone).bind(micros(rest)).execute(pool).await?;
        }
    }
    Ok(())
}

/// One compound statement: waits until there is something for one of the idle_kinds kinds, or the time is over, and then
/// tells all there is to know. Kinds are safe in SQL text, see `is_kind`.
///
/// Behind every job lie the index entries of the states that it has been in, until the server has cleared them away.
/// Reading them costs more than reading live ones, and a range goes on over them past its own end. So nothing is asked
/// that is known, and every question begins where there are none of them. Lost leases of kinds that this process does not
/// serve are searched for when jobs are counted.
///
/// The parts of the UNION are columns and literals, and no CAST: a literal takes a column's collation, whatever the
/// connection's is, while MariaDB 11 refuses to mix the collation of a CAST with a column's (1271).
fn poll_statement(engine: &Engine) -> String {
    let now = now_us!();
    let slots = engine.slots();
    let (kinds, exhausted, idle_kinds) = (slots.kinds(), slots.exhausted(), slots.idle_kinds());
    let (idle, in_burst) = (slots.is_idle(), slots.had_job_within(BURST));
    drop(slots);

    let mut waiting = String::new();
    if let Wait::Server { step } = engine.config.wait
        && engine.takes_jobs()
        && !idle_kinds.is_empty()
    {
        let wait = if idle { IDLE_WAIT } else { BUSY_WAIT };
        let step = if in_burst { step / BURST_FACTOR } else { step };
        let step = step.max(Duration::from_millis(1));
        let polls = wait.as_micros().div_ceil(step.as_micros());
        let each_due = LOOK_FOR_DUE.as_micros().div_ceil(step.as_micros());
        let due: Vec<String> = kinds.iter().map(|kind| has_due(kind)).collect();
        waiting = format!(
            "DECLARE polls INT DEFAULT {polls}; \
             WHILE polls > 0 DO \
               IF {ready} OR polls % {each_due} = 0 AND ({due}) THEN SET polls = 0; \
               ELSE SET polls = polls - 1; DO SLEEP({step}); END IF; \
             END WHILE; ",
            ready = has_ready(&idle_kinds),
            due = due.join(" OR "),
            step = step.as_secs_f64(),
        );
    }
    let mut facts: Vec<String> = Vec::new();
    for kind in &exhausted {
        facts.push(format!(
            " UNION ALL SELECT 'ready', '{kind}' FROM DUAL WHERE {}",
            has_ready(&[kind])
        ));
    }
    for kind in &kinds {
        for (task, has_any) in [(Task::Promote, has_due(kind)), (Task::Rescue, has_lost(kind))] {
            let task = task.as_str();
            facts.push(format!(
                " UNION ALL SELECT 'task', '{task}' FROM DUAL WHERE {has_any}"
            ));
        }
    }
    let worker = engine.worker.as_uuid().simple();
    format!(
        "BEGIN NOT ATOMIC {waiting}\
           SELECT 'paused' AS fact, kind AS name FROM queue_paused_kinds \
           UNION ALL SELECT 'draining', '' FROM queue_workers WHERE id = x'{worker}' AND draining \
           UNION ALL SELECT 'task', task FROM queue_tasks WHERE due_us <= {now} AND task IN ('{prune}', '{count}'){}; \
         END",
        facts.concat(),
        prune = Task::Prune.as_str(),
        count = Task::Count.as_str(),
    )
}

/// Of any of these kinds: one key is read for each.
fn has_ready(kinds: &[&str]) -> String {
    format!(
        "EXISTS (SELECT 1 FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) WHERE state = 'ready' AND kind IN ('{}'))",
        kinds.join("', '")
    )
}

/// Reads the first entry, whatever its time: a range up to now would end in entries of another state.
fn has_due(kind: &str) -> String {
    format!(
        "COALESCE((SELECT order_us FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
           WHERE state = 'scheduled' AND kind = '{kind}' ORDER BY order_us LIMIT 1) <= {}, FALSE)",
        now_us!()
    )
}

/// Reads backwards from now: what claims that have ended leave behind lies ahead, where their leases would have ended.
fn has_lost(kind: &str) -> String {
    format!(
        "(SELECT 1 FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
           WHERE state = 'running' AND kind = '{kind}' AND order_us <= {} ORDER BY order_us DESC LIMIT 1) IS NOT NULL",
        now_us!()
    )
}

async fn poll(conn: &mut MySqlConnection, statement: String) -> Result<Findings, sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(conn).await?;
    let mut findings = Findings::default();
    for row in rows {
        let name: String = row.try_get(1)?;
        match row.try_get::<String, _>(0)?.as_str() {
            "ready" => findings.ready.push(name),
            "paused" => findings.paused.push(name),
            "draining" => findings.draining = true,
            "task" => findings.tasks.extend(Task::named(&name)),
            _ => {}
        }
    }
    Ok(findings)
}
