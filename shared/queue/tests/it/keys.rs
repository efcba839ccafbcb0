//! Concurrency keys: one at a time, the others wait without a slot, nobody is forgotten.

use std::time::Duration;

use apalis_mariadb::{Cancelled, State};
use serde_json::json;
use sqlx::MySqlPool;

use crate::support::{Step, TestWorker, enqueue, job, patient_queue, queue, task, until, until_state};

/// What the tables say when all is over: nobody has a key, nobody waits for one.
pub(crate) async fn assert_no_keys_left(pool: &MySqlPool) {
    for table in ["queue_unique_keys", "queue_concurrency_keys", "queue_blocked"] {
        let count = format!("SELECT COUNT(*) FROM {table}");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[sqlx::test]
async fn jobs_with_one_key_run_one_at_a_time_in_order_and_hold_no_slot(pool: MySqlPool) {
    let queue = patient_queue(&pool);
    let mut ids = Vec::new();
    for n in 0..4 {
        let step = if n == 0 { Step::AtGate } else { Step::Sleep(100) };
        let new = task(&format!("keyed {n}"), [step]).concurrency_key("index-1");
        ids.push(enqueue(&queue, new).await.id);
    }
    assert_eq!(job(&queue, ids[0]).await.state, State::Ready);
    for id in &ids[1..] {
        assert_eq!(job(&queue, *id).await.state, State::Blocked);
    }
    // Two slots: one runs the key's job, the other is free for jobs without a key.
    let free = enqueue(&queue, task("free", [])).await.id;
    let worker = TestWorker::start(&queue, 2);
    until_state(&queue, free, State::Done).await;
    until_state(&queue, ids[0], State::Running).await;
    for id in &ids[1..] {
        assert_eq!(job(&queue, *id).await.state, State::Blocked);
    }
    worker.log.open_gate();
    let mut jobs = Vec::new();
    for id in ids {
        jobs.push(until_state(&queue, id, State::Done).await);
    }
    let mut handovers = Vec::new();
    for pair in jobs.windows(2) {
        assert!(
            pair[0].finished_at <= pair[1].started_at,
            "two ran at the same time"
        );
        handovers.push(pair[1].started_at.unwrap() - pair[0].finished_at.unwrap());
    }
    // A busy machine may delay any of them, but hardly all.
    let quickest = handovers.iter().min().unwrap();
    assert!(quickest.num_milliseconds() < 500, "{handovers:?}");
    worker.shut_down().await;
    assert_no_keys_left(&pool).await;
}

#[sqlx::test]
async fn a_holder_keeps_its_key_through_snoozes_and_backoffs(pool: MySqlPool) {
    let queue = queue(&pool);
    let script = [Step::Snooze(150), Step::Retry { after_ms: Some(150) }];
    let holder = enqueue(&queue, task("holder", script).concurrency_key("k"))
        .await
        .id;
    let next = enqueue(&queue, task("next", []).concurrency_key("k")).await.id;
    let worker = TestWorker::start(&queue, 4);
    let next = until_state(&queue, next, State::Done).await;
    let holder = job(&queue, holder).await;
    assert_eq!(
        (holder.state, holder.attempts, holder.snoozes),
        (State::Done, 1, 1)
    );
    assert!(holder.finished_at <= next.started_at);
    assert_eq!(
        worker.shut_down().await.names(),
        ["holder", "holder", "holder", "next"]
    );
    assert_no_keys_left(&pool).await;
}

#[sqlx::test]
async fn a_delayed_job_takes_its_key_only_when_due(pool: MySqlPool) {
    let queue = queue(&pool);
    let delayed = task("delayed", [])
        .concurrency_key("k")
        .delay(Duration::from_secs(1));
    let delayed = enqueue(&queue, delayed).await.id;
    let first = enqueue(&queue, task("first", [Step::AtGate]).concurrency_key("k"))
        .await
        .id;
    assert_eq!(job(&queue, first).await.state, State::Ready);
    let worker = TestWorker::start(&queue, 4);
    until_state(&queue, delayed, State::Blocked).await;
    worker.log.open_gate();
    until_state(&queue, delayed, State::Done).await;
    assert_eq!(worker.shut_down().await.names(), ["first", "delayed"]);
    assert_no_keys_left(&pool).await;
}

#[sqlx::test]
async fn cancelling_passes_the_key_on_and_leaves_the_line(pool: MySqlPool) {
    let queue = queue(&pool);
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(
            enqueue(
                &queue,
                task(&n.to_string(), [])
                    .concurrency_key("k")
                    .unique_key(n.to_string()),
            )
            .await
            .id,
        );
    }
    assert_eq!(queue.cancel(ids[1]).await.unwrap(), Cancelled::Now);
    assert_eq!(queue.cancel(ids[0]).await.unwrap(), Cancelled::Now);
    assert_eq!(job(&queue, ids[2]).await.state, State::Ready);
    // Back in line, behind the one that has the key now.
    queue.retry(ids[0]).await.unwrap();
    assert_eq!(job(&queue, ids[0]).await.state, State::Blocked);
    assert_eq!(queue.cancel(ids[2]).await.unwrap(), Cancelled::Now);
    assert_eq!(job(&queue, ids[0]).await.state, State::Ready);
    assert_eq!(queue.cancel(ids[0]).await.unwrap(), Cancelled::Now);
    assert_no_keys_left(&pool).await;
}

/// Enqueues, ends, cancels and retries race over a few keys, and in the end everything has run and nothing is stuck.
#[sqlx::test]
async fn a_storm_over_few_keys_loses_nobody(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 8);
    let tasks: Vec<_> = (0..8)
        .map(|enqueuer| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for n in 0..40 {
                    let script = match n % 5 {
                        0 => vec![Step::Err],
                        1 => vec![Step::Snooze(1)],
                        _ => vec![],
                    };
                    let mut new =
                        task(&format!("{enqueuer}-{n}"), script).concurrency_key(format!("key {}", n % 3));
                    if n % 4 == 0 {
                        new = new.unique_key(format!("unique {}", n % 8));
                    }
                    if n % 7 == 0 {
                        new = new.delay(Duration::from_millis(5));
                    }
                    let id = enqueue(&queue, new).await.id;
                    if n % 6 == 0 {
                        queue.cancel(id).await.unwrap();
                    }
                    ids.push(id);
                }
                ids
            })
        })
        .collect();
    for task in tasks {
        for id in task.await.unwrap() {
            if job(&queue, id).await.state == State::Cancelled {
                // Refused if it was enqueued again meanwhile.
                let _ = queue.retry(id).await;
            }
        }
    }
    until(Duration::from_mins(1), async || {
        let active: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM queue_jobs WHERE state NOT IN ('done', 'cancelled')")
                .fetch_one(&pool)
                .await
                .unwrap();
        if active == 0 {
            Ok(())
        } else {
            Err(json!({ "active": active }))
        }
    })
    .await;
    assert_no_keys_left(&pool).await;
    let overlaps: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM queue_jobs AS a JOIN queue_jobs AS b ON a.concurrency_key = b.concurrency_key \
           AND a.id < b.id AND a.attempts = 0 AND b.attempts = 0 AND a.snoozes = 0 AND b.snoozes = 0 \
         WHERE a.state = 'done' AND b.state = 'done' \
           AND a.claimed_at < '1970-01-01' + INTERVAL b.order_us MICROSECOND \
           AND b.claimed_at < '1970-01-01' + INTERVAL a.order_us MICROSECOND",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(overlaps, 0);
    worker.shut_down().await;
}

#[sqlx::test]
async fn a_unique_key_is_free_again_after_every_sort_of_end(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 4);
    for (script, end) in [
        (Step::Done(json!(1)), State::Done),
        (Step::Fail, State::Failed),
        (Step::Panic, State::Failed),
    ] {
        let first = enqueue(
            &queue,
            task(&format!("{script:?}"), [script])
                .unique_key("k")
                .max_attempts(1),
        )
        .await;
        assert!(!first.existing, "{end}");
        until_state(&queue, first.id, end).await;
    }

    worker.shut_down().await;
    assert_no_keys_left(&pool).await;
}
