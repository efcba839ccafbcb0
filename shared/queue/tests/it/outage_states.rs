//! The server is there and serves nobody, or not us: read-only, our account locked or over its limit. Real worker processes
//! on a server of the test's own. Whatever was under way, no job fails for it, and none spends an attempt.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use apalis_mariadb::{NewJob, Queue};
use rag_test_mariadb::Server;
use serde_json::json;
use sqlx::MySqlPool;

use crate::processes::{Process, count, enqueue_notes, prepare, until_all_noted_once};
use crate::support::until;

const TROUBLE: Duration = Duration::from_secs(10);
/// Each of a worker's tasks says once that it waits, perhaps once more with another cause, and once that it is over.
const LINES_PER_WORKER: usize = 20;

/// A server with one account, and workers that use it.
struct Site {
    server: Server,
    pool: MySqlPool,
    queue: Queue,
    url: String,
    workers: Vec<Process>,
    logs: Vec<PathBuf>,
}

impl Site {
    async fn start(workers: usize, concurrency: &str) -> Option<Self> {
        let server = Server::builder().option("--max-connections=500").start().await?;
        let root = server.create_database("outage").await;
        server
            .execute("CREATE USER app@localhost; GRANT ALL ON outage.* TO app@localhost")
            .await;
        let pool = MySqlPool::connect(&root).await.unwrap();
        sqlx::migrate!().run(&pool).await.unwrap();
        let queue = prepare(&pool).await;
        let mut site = Self {
            url: root.replace("root@", "app@"),
            server,
            pool,
            queue,
            workers: Vec::new(),
            logs: Vec::new(),
        };
        for n in 0..workers {
            let log = site.server.folder().join(format!("worker-{n}.log"));
            let settings = [
                ("CONCURRENCY", concurrency),
                ("RUST_LOG", "info"),
                ("NO_COLOR", "1"),
            ];
            let output = Stdio::from(File::create(&log).unwrap());
            site.workers
                .push(Process::start_logging_to(&site.url, &settings, output));
            site.logs.push(log);
        }
        Some(site)
    }

    async fn enqueue_nothings(&self, jobs: usize) {
        let jobs = (0..jobs)
            .map(|n| NewJob::new("nothing", &json!({ "n": n })).unwrap())
            .collect();
        let mut tx = self.queue.begin().await.unwrap();
        self.queue.enqueue_many(&mut tx, jobs).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn until_running(&self, jobs: i64) {
        until(Duration::from_secs(30), async || {
            let running = "SELECT COUNT(*) FROM queue_jobs WHERE state = 'running'";
            match count(&self.pool, running).await {
                running if running >= jobs => Ok(()),
                running => Err(json!({ "running": running })),
            }
        })
        .await;
    }

    /// The account's connections are cut off: those that are there are none of the limits' business, so an administrator does
    /// this, too.
    async fn cut_off(&self) {
        let connections: Vec<u64> = sqlx::query_scalar(
            "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = 'app'",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        for connection in connections {
            // It may be gone by now.
            let kill = sqlx::AssertSqlSafe(format!("KILL CONNECTION {connection}"));
            let _ = sqlx::raw_sql(kill).execute(&self.pool).await;
        }
    }

    /// All jobs are done, and none has failed on the way.
    async fn assert_time_was_all_it_cost(&mut self, notes: i64) {
        until(Duration::from_mins(3), async || {
            let open = "SELECT COUNT(*) FROM queue_jobs WHERE state NOT IN ('done', 'failed')";
            match count(&self.pool, open).await {
                0 => Ok(()),
                open => Err(json!({ "open": open })),
            }
        })
        .await;
        let failed = "SELECT COUNT(*) FROM queue_jobs WHERE state = 'failed'";
        let attempts = "SELECT CAST(COALESCE(SUM(attempts), 0) AS SIGNED) FROM queue_jobs";
        assert_eq!(
            (count(&self.pool, failed).await, count(&self.pool, attempts).await),
            (0, 0)
        );
        until_all_noted_once(&self.pool, notes).await;
        assert!(self.workers.iter_mut().all(Process::is_running));
    }

    /// Each worker has said why it waits, with the server's number, without flooding its log; and that it works again.
    async fn assert_logs_are_readable(&self, number: &str) {
        for log in &self.logs {
            let text = until(Duration::from_secs(20), async || {
                let text = std::fs::read_to_string(log).unwrap();
                if text.contains("the database works again") {
                    Ok(text)
                } else {
                    Err(json!(text))
                }
            })
            .await;
            assert!(text.contains(number), "no {number} in:\n{text}");
            let lines = text.lines().filter(|line| line.contains("the database")).count();
            assert!(lines <= LINES_PER_WORKER, "{lines} lines:\n{text}");
        }
    }
}

#[tokio::test]
async fn a_read_only_server_costs_time_and_no_job() {
    let Some(mut site) = Site::start(2, "8").await else {
        return;
    };
    enqueue_notes(&site.queue, 1000, 20, 10).await;
    site.enqueue_nothings(6_000).await;
    site.until_running(4).await;
    site.server.execute("SET GLOBAL read_only = 1").await;
    tokio::time::sleep(TROUBLE).await;
    site.server.execute("SET GLOBAL read_only = 0").await;
    site.assert_time_was_all_it_cost(1000).await;
    site.assert_logs_are_readable("read-only").await;
}

#[tokio::test]
async fn a_locked_account_costs_time_and_no_job() {
    let Some(mut site) = Site::start(2, "8").await else {
        return;
    };
    enqueue_notes(&site.queue, 1000, 20, 10).await;
    site.enqueue_nothings(6_000).await;
    site.until_running(4).await;
    site.server.execute("ALTER USER app@localhost ACCOUNT LOCK").await;
    site.cut_off().await;
    tokio::time::sleep(TROUBLE).await;
    site.server
        .execute("ALTER USER app@localhost ACCOUNT UNLOCK")
        .await;
    site.assert_time_was_all_it_cost(1000).await;
    site.assert_logs_are_readable("4151").await;
}

#[tokio::test]
async fn too_few_connections_cost_time_and_no_job() {
    const JOBS: usize = 200;
    let Some(mut site) = Site::start(2, "100").await else {
        return;
    };
    enqueue_notes(&site.queue, JOBS, 2000, JOBS).await;
    site.until_running(190).await;
    site.server
        .execute("ALTER USER app@localhost WITH MAX_USER_CONNECTIONS 2")
        .await;
    site.cut_off().await;
    tokio::time::sleep(TROUBLE).await;
    site.server
        .execute("ALTER USER app@localhost WITH MAX_USER_CONNECTIONS 0")
        .await;
    site.assert_time_was_all_it_cost(i64::try_from(JOBS).unwrap())
        .await;
    site.assert_logs_are_readable("1226").await;
}
