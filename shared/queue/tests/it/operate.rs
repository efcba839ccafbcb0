//! Cancelling, retrying, pausing, draining, listing, statistics, retention.

use std::time::Duration;

use apalis_mariadb::{Cancelled, JobFilter, NewJob, Page, Queue, QueueConfig, QueueError, Retention, State};
use serde_json::json;
use sqlx::MySqlPool;
use tokio::time::Instant;

use crate::support::{Step, TestWorker, enqueue, job, queue, quick_config, task, until, until_state};

#[sqlx::test]
async fn a_job_that_does_not_run_is_cancelled_at_once(pool: MySqlPool) {
    let queue = queue(&pool);
    let ready = enqueue(&queue, task("ready", [])).await.id;
    let scheduled = enqueue(&queue, task("scheduled", []).delay(Duration::from_mins(1)))
        .await
        .id;
    for id in [ready, scheduled] {
        assert_eq!(queue.cancel(id).await.unwrap(), Cancelled::Now);
        assert_eq!(job(&queue, id).await.state, State::Cancelled);
        assert_eq!(
            queue.cancel(id).await.unwrap(),
            Cancelled::Finished(State::Cancelled)
        );
    }
}

#[sqlx::test]
async fn a_running_job_soon_hears_of_its_cancelling(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    let polite = enqueue(&queue, task("polite", [Step::UntilCancelled])).await.id;
    let finishing = enqueue(&queue, task("finishing", [Step::Sleep(3000)])).await.id;
    until_state(&queue, polite, State::Running).await;
    until_state(&queue, finishing, State::Running).await;
    let asked = Instant::now();
    assert_eq!(queue.cancel(polite).await.unwrap(), Cancelled::Requested);
    assert_eq!(queue.cancel(finishing).await.unwrap(), Cancelled::Requested);
    until_state(&queue, polite, State::Cancelled).await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    // What its handler finished is done.
    assert!(until_state(&queue, finishing, State::Done).await.cancel_requested);
    worker.shut_down().await;
}

#[sqlx::test]
async fn a_cancelled_job_is_not_retried_when_it_fails(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    let id = enqueue(&queue, task("one", [Step::Snooze(3000), Step::Err]))
        .await
        .id;
    until_state(&queue, id, State::Scheduled).await;
    sqlx::query("UPDATE queue_jobs SET cancel_requested = 1 WHERE id = ?")
        .bind(id)
        .execute(&pool)
        .await
        .unwrap();
    let cancelled = until_state(&queue, id, State::Cancelled).await;
    assert_eq!(
        (cancelled.attempts, cancelled.last_error.as_deref()),
        (0, Some("told to err"))
    );
    worker.shut_down().await;
}

#[sqlx::test]
async fn retry_runs_what_is_over_again_and_refuses_what_is_not(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    let failed = enqueue(&queue, task("failed", [Step::Fail]).unique_key("u"))
        .await
        .id;
    until_state(&queue, failed, State::Failed).await;
    // Somebody has taken the key.
    let other = enqueue(
        &queue,
        task("other", []).unique_key("u").delay(Duration::from_mins(1)),
    )
    .await
    .id;
    assert!(matches!(queue.retry(failed).await, Err(QueueError::Duplicate(id)) if id == other));
    // A scheduled job is run now.
    queue.retry(other).await.unwrap();
    until_state(&queue, other, State::Done).await;
    assert!(matches!(
        queue.retry(other).await,
        Err(QueueError::IllegalMove {
            state: State::Done,
            ..
        })
    ));
    queue.retry(failed).await.unwrap();
    let done = until_state(&queue, failed, State::Done).await;
    assert_eq!((done.attempts, done.history.len()), (0, 1));
    let running = enqueue(&queue, task("running", [Step::Sleep(400)])).await.id;
    until_state(&queue, running, State::Running).await;
    assert!(matches!(
        queue.retry(running).await,
        Err(QueueError::IllegalMove {
            state: State::Running,
            ..
        })
    ));
    let unknown = "01a1fe1a-c927-719a-b662-ca3abd000000".parse().unwrap();
    assert!(matches!(queue.retry(unknown).await, Err(QueueError::NotFound(_))));
    assert!(matches!(
        queue.cancel(unknown).await,
        Err(QueueError::NotFound(_))
    ));
    worker.shut_down().await;
    crate::keys::assert_no_keys_left(&pool).await;
}

#[sqlx::test]
async fn a_refused_retry_leaves_no_key_behind(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 1);
    let id = enqueue(&queue, task("one", []).unique_key("u").concurrency_key("c"))
        .await
        .id;
    until_state(&queue, id, State::Done).await;
    assert!(queue.retry(id).await.is_err());
    worker.shut_down().await;
    crate::keys::assert_no_keys_left(&pool).await;
}

#[sqlx::test]
async fn a_paused_kind_waits_and_a_resumed_one_goes_on(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    queue.pause("task").await.unwrap();
    assert_eq!(queue.paused_kinds().await.unwrap(), ["task"]);
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let id = enqueue(&queue, task("one", [])).await.id;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(job(&queue, id).await.state, State::Ready);
    queue.resume("task").await.unwrap();
    until_state(&queue, id, State::Done).await;
    assert!(queue.pause("no kind").await.is_err());
    worker.shut_down().await;
}

#[sqlx::test]
async fn a_draining_worker_takes_nothing_and_finishes_what_it_has(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    let long = enqueue(&queue, task("long", [Step::Sleep(2500)])).await.id;
    until_state(&queue, long, State::Running).await;
    // A worker may claim its first job before it has put itself on the list.
    let workers = until(Duration::from_secs(10), async || {
        let workers = queue.list_workers().await.unwrap();
        if workers.len() == 1 {
            Ok(workers)
        } else {
            Err(json!(workers))
        }
    })
    .await;
    assert_eq!(
        (workers[0].pid, &workers[0].kinds),
        (std::process::id(), &json!({ "task": 2 }))
    );
    assert!(queue.drain(workers[0].id, true).await.unwrap());
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let waiting = enqueue(&queue, task("waiting", [])).await.id;
    until_state(&queue, long, State::Done).await;
    assert_eq!(job(&queue, waiting).await.state, State::Ready);
    queue.drain(workers[0].id, false).await.unwrap();
    until_state(&queue, waiting, State::Done).await;
    worker.shut_down().await;
}

#[sqlx::test]
async fn pages_of_a_list_hold_every_job_once(pool: MySqlPool) {
    let queue = queue(&pool);
    let mut tx = queue.begin().await.unwrap();
    let jobs: Vec<NewJob> = (0..25)
        .map(|n| {
            let kind = if n % 2 == 0 { "even" } else { "odd" };
            let tenant = if n < 10 { "a" } else { "b" };
            NewJob::new(kind, &json!(n)).unwrap().tenant(tenant)
        })
        .collect();
    let ids: Vec<_> = queue
        .enqueue_many(&mut tx, jobs)
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.id)
        .collect();
    tx.commit().await.unwrap();

    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (JobFilter::default(), 25),
        (
            JobFilter {
                tenant: text("a"),
                ..JobFilter::default()
            },
            10,
        ),
        (
            JobFilter {
                kind: text("even"),
                ..JobFilter::default()
            },
            13,
        ),
        (
            JobFilter {
                state: Some(State::Ready),
                ..JobFilter::default()
            },
            25,
        ),
        (
            JobFilter {
                state: Some(State::Ready),
                kind: text("odd"),
                ..JobFilter::default()
            },
            12,
        ),
        (
            JobFilter {
                state: Some(State::Ready),
                kind: text("odd"),
                tenant: text("b"),
                ..JobFilter::default()
            },
            7,
        ),
        (
            JobFilter {
                state: Some(State::Failed),
                ..JobFilter::default()
            },
            0,
        ),
    ];
    for (filter, wanted) in cases {
        let mut page = Page {
            limit: 4,
            after: None,
        };
        let mut seen = Vec::new();
        loop {
            let found = queue.list_jobs(&filter, &page).await.unwrap();
            seen.extend(found.items.into_iter().map(|job| job.unwrap().id));
            let Some(next) = found.next else { break };
            page.after = Some(next.to_string().parse().unwrap());
        }
        assert_eq!(seen.len(), wanted, "{filter:?}");
        if filter.state.is_none() {
            assert!(seen.is_sorted_by(|a, b| a > b), "{filter:?}");
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), wanted, "{filter:?}");
        assert!(seen.iter().all(|id| ids.contains(id)));
    }
}

#[sqlx::test]
async fn statistics_are_counted_by_a_worker_and_ages_are_live(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    for n in 0..3 {
        let id = enqueue(&queue, task(&n.to_string(), [])).await.id;
        until_state(&queue, id, State::Done).await;
    }
    enqueue(&queue, NewJob::new("other", &json!(1)).unwrap().priority(100)).await;
    sqlx::query("UPDATE queue_tasks SET due_us = 0")
        .execute(&pool)
        .await
        .unwrap();
    until(Duration::from_secs(5), async || {
        let stats = queue.stats().await.unwrap();
        let done = stats
            .kinds
            .get("task")
            .and_then(|kind| kind.jobs.get(&State::Done))
            .copied();
        let ready = stats
            .kinds
            .get("other")
            .and_then(|kind| kind.jobs.get(&State::Ready))
            .copied();
        if (done, ready) == (Some(3), Some(1)) {
            Ok(())
        } else {
            Err(json!(stats))
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stats = queue.stats().await.unwrap();
    let age = stats.kinds["other"].oldest_ready_seconds;
    assert!((0.2..20.0).contains(&age), "{age}");
    assert_eq!(stats.kinds["task"].done_last_minute, 3);
    worker.shut_down().await;
}

#[sqlx::test]
async fn finished_jobs_are_deleted_by_age_and_others_are_not(pool: MySqlPool) {
    let retention = Retention {
        done: Duration::from_mins(10),
        ..Retention::default()
    };
    let queue = Queue::new(
        pool.clone(),
        QueueConfig {
            retention,
            ..quick_config()
        },
    );
    let worker = TestWorker::start(&queue, 2);
    let done = enqueue(&queue, task("done", [])).await.id;
    let failed = enqueue(&queue, task("failed", [Step::Fail])).await.id;
    let scheduled = enqueue(&queue, task("scheduled", []).delay(Duration::from_mins(1)))
        .await
        .id;
    until_state(&queue, done, State::Done).await;
    until_state(&queue, failed, State::Failed).await;
    for sql in [
        "UPDATE queue_jobs SET order_us = order_us - 11 * 60 * 1000000 WHERE state = 'done'",
        "UPDATE queue_tasks SET due_us = 0",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    until(Duration::from_secs(20), async || {
        match queue.find_job(done).await.unwrap() {
            None => Ok(()),
            Some(job) => Err(json!(job)),
        }
    })
    .await;
    assert_eq!(job(&queue, failed).await.state, State::Failed);
    assert_eq!(job(&queue, scheduled).await.state, State::Scheduled);
    worker.shut_down().await;
}

#[sqlx::test]
async fn waiting_for_a_job_ends_with_it_or_with_the_time(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    let later = task("later", []).delay(Duration::from_mins(5));
    let later = enqueue(&queue, later).await.id;
    let early = queue
        .wait_finished(later, Duration::from_millis(100))
        .await
        .unwrap()
        .unwrap();
    assert!(!early.state.is_finished());
    let id = enqueue(&queue, task("one", [Step::Sleep(300)])).await.id;
    let done = queue
        .wait_finished(id, Duration::from_secs(30))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(done.state, State::Done);
    worker.shut_down().await;
}
