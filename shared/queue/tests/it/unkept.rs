//! Where done jobs are not kept ([`Retention::done`] of zero), what ends a job deletes it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apalis_core::task::data::Data;
use apalis_mariadb::{
    CancelReason, Claim, JobId, JobKind, NewJob, Outcome, Queue, QueueConfig, QueueError, Retention, State,
    StorageConfig, WorkerSet,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::MySqlPool;
use tokio_util::sync::CancellationToken;

use crate::support::{Step, TestWorker, enqueue, quick_config, task, until, until_state};

/// Long enough for a machine that is busy with other things.
const LEASE: Duration = Duration::from_secs(8);

fn queue(pool: &MySqlPool) -> Queue {
    let config = QueueConfig {
        lease: LEASE,
        retention: Retention {
            done: Duration::ZERO,
            ..Retention::default()
        },
        ..quick_config()
    };
    Queue::new(pool.clone(), config)
}

async fn until_gone(queue: &Queue, id: JobId) {
    until(Duration::from_secs(20), async || {
        match queue.find_job(id).await.unwrap() {
            None => Ok(()),
            Some(job) => Err(json!({ "found": job })),
        }
    })
    .await;
}

#[sqlx::test]
async fn what_is_done_is_gone_and_what_has_failed_is_not(pool: MySqlPool) {
    let queue = queue(&pool);
    let mut ids = Vec::new();
    for at in 0..3 {
        let keyed = task(&format!("keyed {at}"), []).concurrency_key("key");
        ids.push(enqueue(&queue, keyed).await.id);
    }
    ids.push(enqueue(&queue, task("unique", []).unique_key("unique")).await.id);
    ids.push(enqueue(&queue, task("plain", [Step::Done(json!(1))])).await.id);
    ids.push(enqueue(&queue, task("long", [Step::DoneLong(10_000)])).await.id);
    ids.push(enqueue(&queue, task("second try", [Step::Err])).await.id);
    let failed = enqueue(&queue, task("failed", [Step::Fail])).await.id;

    let worker = TestWorker::start(&queue, 4);
    for id in ids {
        until_gone(&queue, id).await;
    }
    until_state(&queue, failed, State::Failed).await;
    let keys: i64 = sqlx::query_scalar(
        "SELECT (SELECT COUNT(*) FROM queue_unique_keys) + (SELECT COUNT(*) FROM queue_concurrency_keys) \
           + (SELECT COUNT(*) FROM queue_blocked)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(keys, 0);
    let mut names = worker.shut_down().await.names();
    names.sort();
    let all = [
        "failed",
        "keyed 0",
        "keyed 1",
        "keyed 2",
        "long",
        "plain",
        "second try",
        "second try",
        "unique",
    ];
    assert_eq!(names, all);
}

#[derive(Serialize, Deserialize)]
struct Early {}

impl JobKind for Early {
    const KIND: &'static str = "early";
}

type Seen = Arc<Mutex<Vec<Option<CancelReason>>>>;

/// Completes its job in a transaction of its own, and goes on for longer than a lease.
async fn complete_early(_: Early, claim: Claim, context: Data<(Queue, Seen)>) -> Result<Outcome, QueueError> {
    let (queue, seen) = &*context;
    let mut tx = queue.begin().await?;
    claim.complete(&mut tx, &Value::Null).await?;
    tx.commit().await?;
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    seen.lock().unwrap().push(claim.reason());
    Ok(Outcome::done())
}

#[sqlx::test]
async fn a_claim_whose_job_its_own_handler_has_ended_is_not_lost(pool: MySqlPool) {
    let (queue, seen) = (queue(&pool), Seen::default());
    let id = enqueue(&queue, NewJob::of(&Early {}).unwrap()).await.id;
    let shutdown = CancellationToken::new();
    let set = WorkerSet::new(queue.clone())
        .register(
            StorageConfig::default(),
            (queue.clone(), Arc::clone(&seen)),
            complete_early,
        )
        .unwrap();
    let run = tokio::spawn(set.run(shutdown.clone().cancelled_owned(), Duration::from_secs(5)));
    until_gone(&queue, id).await;
    until(Duration::from_mins(1), async || {
        if seen.lock().unwrap().is_empty() {
            Err(json!("the handler still runs"))
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(*seen.lock().unwrap(), [None]);
    shutdown.cancel();
    run.await.unwrap().unwrap();
}
