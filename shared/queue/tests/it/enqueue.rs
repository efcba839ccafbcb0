//! Enqueueing: in the caller's transaction, unique, many at once, in order.

use std::time::Duration;

use apalis_mariadb::{NewJob, QueueError, State};
use serde_json::json;
use sqlx::MySqlPool;

use crate::support::{enqueue, job, queue, task};

#[sqlx::test]
async fn a_job_exists_if_and_only_if_the_transaction_commits(pool: MySqlPool) {
    let queue = queue(&pool);
    let mut tx = queue.begin().await.unwrap();
    let gone = queue
        .enqueue(&mut tx, task("gone", []).unique_key("k"))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(queue.find_job(gone.id).await.unwrap(), None);

    let kept = enqueue(&queue, task("kept", []).unique_key("k")).await;
    assert!(!kept.existing);
    assert_eq!(job(&queue, kept.id).await.state, State::Ready);
}

#[sqlx::test]
async fn a_job_is_read_back_as_it_was_enqueued(pool: MySqlPool) {
    let queue = queue(&pool);
    let new = NewJob::new("index_build", &json!({ "index": 7, "name": "Ünï\u{1F600}" }))
        .unwrap()
        .tenant("acme")
        .unique_key("index:7")
        .concurrency_key("index-7")
        .priority(-3)
        .delay(Duration::from_hours(1))
        .max_attempts(4)
        .trace_context("00-abc-def-01");
    let id = enqueue(&queue, new).await.id;
    let job = job(&queue, id).await;
    assert_eq!(job.kind, "index_build");
    assert_eq!(job.state, State::Scheduled);
    assert_eq!(job.payload, json!({ "index": 7, "name": "Ünï\u{1F600}" }));
    assert_eq!(job.tenant.as_deref(), Some("acme"));
    assert_eq!(job.unique_key.as_deref(), Some("index:7"));
    assert_eq!(job.concurrency_key.as_deref(), Some("index-7"));
    assert_eq!((job.priority, job.attempts, job.max_attempts), (-3, 0, 4));
    assert_eq!(job.trace_context.as_deref(), Some("00-abc-def-01"));
    let delay = job.run_at.unwrap() - job.created_at;
    assert!((delay.num_milliseconds() - 3_600_000).abs() < 1000, "{delay}");
    assert_eq!(
        (job.started_at, job.finished_at, job.output, job.last_error),
        (None, None, None, None)
    );
    assert!(job.history.is_empty());
}

#[sqlx::test]
async fn a_unique_job_is_enqueued_once_while_active_whatever_the_race(pool: MySqlPool) {
    let queue = queue(&pool);
    for round in 0..5 {
        let key = format!("round-{round}");
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let (queue, key) = (queue.clone(), key.clone());
                tokio::spawn(async move {
                    let mut tx = queue.begin().await.unwrap();
                    let enqueued = queue
                        .enqueue(&mut tx, task("one", []).unique_key(key))
                        .await
                        .unwrap();
                    // Some give up: whoever comes next must get the key, and nobody may see a deadlock.
                    if n % 3 == 0 && !enqueued.existing {
                        tx.rollback().await.unwrap();
                        return None;
                    }
                    tx.commit().await.unwrap();
                    Some(enqueued)
                })
            })
            .collect();
        let mut enqueued = Vec::new();
        for task in tasks {
            enqueued.extend(task.await.unwrap());
        }
        let first = enqueued.iter().filter(|one| !one.existing).count();
        assert_eq!(first, 1, "{enqueued:?}");
        assert!(
            enqueued.iter().all(|one| one.id == enqueued[0].id),
            "{enqueued:?}"
        );
    }
    let jobs: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM queue_jobs")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(jobs, 5);
}

#[sqlx::test]
async fn a_unique_key_is_of_its_kind_and_exact(pool: MySqlPool) {
    let queue = queue(&pool);
    let keys = [
        ("a", "key"),
        ("b", "key"),
        ("a", "KEY"),
        ("a", "key "),
        ("a", "kéy"),
        ("a", "ke\u{301}y"),
    ];
    for (kind, key) in keys {
        let new = NewJob::new(kind, &json!(null)).unwrap().unique_key(key);
        assert!(!enqueue(&queue, new).await.existing, "{kind} {key:?}");
    }
}

#[sqlx::test]
async fn many_jobs_go_in_at_once_and_answers_keep_their_order(pool: MySqlPool) {
    let queue = queue(&pool);
    let first = enqueue(&queue, task("first", []).unique_key("b")).await;
    let mut jobs: Vec<NewJob> = (0..2500).map(|n| task(&n.to_string(), [])).collect();
    jobs.insert(1, task("unique", []).unique_key("b"));
    jobs.insert(2, task("unique", []).unique_key("a"));
    jobs.insert(3, task("keyed", []).concurrency_key("c"));
    jobs.insert(4, task("keyed", []).concurrency_key("c"));
    let mut tx = queue.begin().await.unwrap();
    let enqueued = queue.enqueue_many(&mut tx, jobs).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(enqueued.len(), 2504);
    assert_eq!(
        enqueued[1],
        apalis_mariadb::Enqueued {
            id: first.id,
            existing: true
        }
    );
    assert!(!enqueued[2].existing);
    assert_eq!(job(&queue, enqueued[3].id).await.state, State::Ready);
    assert_eq!(job(&queue, enqueued[4].id).await.state, State::Blocked);
    assert_eq!(job(&queue, enqueued[2503].id).await.payload["name"], "2499");
}

#[sqlx::test]
async fn what_cannot_be_stored_is_refused_before_it_is_tried(pool: MySqlPool) {
    let queue = queue(&pool);
    assert!(matches!(
        NewJob::new("no kind", &json!(1)),
        Err(QueueError::InvalidKind(_))
    ));
    assert!(matches!(
        NewJob::new("", &json!(1)),
        Err(QueueError::InvalidKind(_))
    ));
    assert!(matches!(
        NewJob::new("x'; DROP TABLE", &json!(1)),
        Err(QueueError::InvalidKind(_))
    ));
    let mut tx = queue.begin().await.unwrap();
    let long = task("x", []).unique_key("k".repeat(256));
    assert!(matches!(
        queue.enqueue(&mut tx, long).await,
        Err(QueueError::TooLong { limit: 255, .. })
    ));
    // 255 characters of four bytes are not too long.
    let wide = task("x", [])
        .unique_key("\u{1F600}".repeat(255))
        .concurrency_key("\u{1F600}".repeat(255));
    queue
        .enqueue(&mut tx, wide.tenant("\u{1F600}".repeat(128)))
        .await
        .unwrap();
}
