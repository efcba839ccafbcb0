//! The database server itself is killed while workers work. A server of the test's own: nobody else may notice.

use std::time::Duration;

use apalis_mariadb::{NewJob, State};
use rag_test_mariadb::Server;
use serde_json::json;
use sqlx::MySqlPool;
use sqlx::mysql::MySqlPoolOptions;
use tokio::time::Instant;

use crate::processes::{Process, count, enqueue_notes, prepare, until_all_noted_once};

use crate::support::{enqueue, until, until_state};

const JOBS: i64 = 3000;
/// The worker program's own settings: handlers get the first, the last writes ten seconds more, and twice.
const GRACE: Duration = Duration::from_millis(500);
const ENDS_WITHIN: Duration = Duration::from_secs(25);

async fn connect(url: &str) -> MySqlPool {
    MySqlPoolOptions::new()
        .acquire_timeout(Duration::from_mins(1))
        .connect(url)
        .await
        .unwrap()
}

/// Until more notes are there than now.
async fn until_more(pool: &MySqlPool, more: i64) {
    let before = count(pool, "SELECT COUNT(*) FROM test_notes").await;
    until(Duration::from_mins(1), async || {
        let now = count(pool, "SELECT COUNT(*) FROM test_notes").await;
        if now >= before + more {
            Ok(())
        } else {
            Err(json!(now))
        }
    })
    .await;
}

#[tokio::test]
async fn workers_outlive_their_server_and_lose_no_job() {
    let Some(mut server) = Server::builder().start().await else {
        return;
    };
    let url = server.create_database("outage").await;
    let pool = connect(&url).await;
    sqlx::migrate!().run(&pool).await.unwrap();
    let queue = prepare(&pool).await;
    enqueue_notes(&queue, usize::try_from(JOBS).unwrap(), 2, 10).await;
    let grace = GRACE.as_millis().to_string();
    let settings = [("GRACE_MS", grace.as_str()), ("PREFETCH", "12")];
    let mut workers = [
        Process::start_on(&url, &settings),
        Process::start_on(&url, &settings),
    ];
    for away in [Duration::from_millis(200), Duration::from_secs(4)] {
        until_more(&pool, JOBS / 5).await;
        server.kill();
        tokio::time::sleep(away).await;
        server.start_again();
    }
    // A note and its job's end are one transaction: whatever was in flight, every job has one note.
    until_all_noted_once(&pool, JOBS).await;
    assert!(workers.iter_mut().all(Process::is_running));

    // A worker must be able to end without its database, even if a job runs.
    let held = enqueue(&queue, NewJob::new("hold", &json!({})).unwrap()).await.id;
    until_state(&queue, held, State::Running).await;
    server.kill();
    let terminated = Instant::now();
    for worker in &workers {
        worker.signal("-TERM");
    }
    while workers.iter_mut().any(Process::is_running) {
        assert!(terminated.elapsed() < ENDS_WITHIN, "a worker does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
