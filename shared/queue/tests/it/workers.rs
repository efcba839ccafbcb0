//! Whole jobs, through apalis workers in this process.

use std::time::Duration;

use apalis_mariadb::{Ending, Job, Queue, QueueConfig, State, StorageConfig, Wait};
use serde_json::json;
use sqlx::MySqlPool;

use crate::support::{
    Step, TestWorker, enqueue, job, patient_queue, queue, quick_config, task, until, until_state,
};

#[sqlx::test]
async fn a_job_runs_and_its_output_is_kept(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 4);
    let id = enqueue(&queue, task("one", [Step::Done(json!({ "files": 3 }))]))
        .await
        .id;
    let job = until_state(&queue, id, State::Done).await;
    assert_eq!(job.output, Some(json!({ "files": 3 })));
    assert_eq!((job.attempts, job.snoozes, job.lease_losses), (0, 0, 0));
    assert!(job.created_at <= job.started_at.unwrap() && job.started_at <= job.finished_at);
    assert!(job.history.is_empty());
    assert_eq!(worker.shut_down().await.runs(), [("one".to_owned(), 1)]);
}

#[sqlx::test]
async fn failures_of_every_sort_are_retried_and_remembered(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 4);
    let script = [
        Step::Err,
        Step::Panic,
        Step::Retry { after_ms: Some(300) },
        Step::Snooze(10),
        Step::Done(json!(1)),
    ];
    let id = enqueue(&queue, task("one", script)).await.id;
    let job = until_state(&queue, id, State::Done).await;
    let errors: Vec<_> = job
        .history
        .iter()
        .map(|ended| (ended.ended, ended.error.as_deref().unwrap()))
        .collect();
    assert_eq!(
        errors,
        [
            (Ending::Retried, "told to err"),
            (Ending::Retried, "panicked: told to panic"),
            (Ending::Retried, "told to fail")
        ]
    );
    assert!(
        job.history
            .iter()
            .all(|ended| ended.worker == job.worker && ended.started_at < Some(ended.ended_at))
    );
    assert_eq!((job.attempts, job.snoozes), (3, 1));
    assert_eq!(job.last_error.as_deref(), Some("told to fail"));
    let waited = job.claimed_at.unwrap() - job.history[2].ended_at;
    assert!(waited.num_milliseconds() >= 300, "{waited}");
    let attempts: Vec<u32> = worker
        .shut_down()
        .await
        .runs()
        .into_iter()
        .map(|(_, attempt)| attempt)
        .collect();
    assert_eq!(attempts, [1, 2, 3, 4, 4]);
}

#[sqlx::test]
async fn the_last_failure_ends_the_job(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 4);
    let twice = enqueue(
        &queue,
        task("twice", [Step::Err, Step::Err, Step::Err]).max_attempts(2),
    )
    .await
    .id;
    let at_once = enqueue(&queue, task("at once", [Step::Fail])).await.id;
    let twice = until_state(&queue, twice, State::Failed).await;
    assert_eq!(twice.attempts, 2);
    assert_eq!(twice.history.last().unwrap().ended, Ending::Failed);
    let at_once = until_state(&queue, at_once, State::Failed).await;
    assert_eq!(at_once.last_error.as_deref(), Some("told to give up"));
    worker.shut_down().await;
}

#[sqlx::test]
async fn a_handler_that_takes_too_long_is_dropped_and_retried(pool: MySqlPool) {
    let queue = queue(&pool);
    let config = StorageConfig {
        timeout: Some(Duration::from_millis(100)),
        ..StorageConfig::default()
    };
    let worker = TestWorker::start_with(&queue, config, Duration::from_millis(100));
    let id = enqueue(&queue, task("slow", [Step::Stubborn])).await.id;
    let job = until_state(&queue, id, State::Done).await;
    assert_eq!(job.last_error.as_deref(), Some("timed out after 100ms"));
    assert_eq!(job.attempts, 1);
    worker.shut_down().await;
}

#[sqlx::test]
async fn a_shutdown_hands_interrupted_jobs_back_and_spends_no_attempt(pool: MySqlPool) {
    const GRACE: Duration = Duration::from_secs(4);
    let queue = patient_queue(&pool);
    let config = StorageConfig {
        concurrency: 4,
        ..StorageConfig::default()
    };
    let worker = TestWorker::start_with(&queue, config, GRACE);
    let polite = enqueue(&queue, task("polite", [Step::UntilCancelled])).await.id;
    let stubborn = enqueue(&queue, task("stubborn", [Step::Stubborn])).await.id;
    let quick = enqueue(&queue, task("quick", [Step::AtGate])).await.id;
    for id in [polite, stubborn, quick] {
        until_state(&queue, id, State::Running).await;
    }
    let log = worker.log.clone();
    let down = worker.shut_down();
    until_state(&queue, polite, State::Ready).await;
    log.open_gate();
    down.await;
    // One at once, the other after the grace.
    let released = |job: Job| job.history.last().unwrap().ended_at;
    let (first, last) = (
        released(job(&queue, polite).await),
        released(job(&queue, stubborn).await),
    );
    assert!(first < last, "{first} {last}");
    for id in [polite, stubborn] {
        let job = job(&queue, id).await;
        assert_eq!((job.state, job.attempts, job.lease_losses), (State::Ready, 0, 0));
        assert_eq!(job.history.last().unwrap().ended, Ending::Released);
    }
    assert_eq!(job(&queue, quick).await.state, State::Done);
    assert!(queue.list_workers().await.unwrap().is_empty());
}

#[sqlx::test]
async fn a_payload_that_does_not_decode_fails_its_job_only(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 1);
    let bad = apalis_mariadb::NewJob::new("task", &json!({ "nothing": "like it" })).unwrap();
    let bad = enqueue(&queue, bad).await.id;
    let good = enqueue(&queue, task("good", [])).await.id;
    let bad = until_state(&queue, bad, State::Failed).await;
    assert!(
        bad.last_error
            .unwrap()
            .starts_with("the payload does not decode: missing field")
    );
    until_state(&queue, good, State::Done).await;
    worker.shut_down().await;
}

#[sqlx::test]
async fn huge_outputs_and_errors_are_cut_with_a_mark(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 1);
    let id = enqueue(&queue, task("big", [Step::Done(json!("é".repeat(1_000_000)))]))
        .await
        .id;
    let job = until_state(&queue, id, State::Done).await;
    let output = job.output.unwrap();
    assert_eq!(output["truncated"], true);
    assert_eq!(output["bytes"], 2_000_002);
    worker.shut_down().await;
}

#[sqlx::test]
async fn a_worker_that_polls_from_its_own_side_finds_jobs_of_others(pool: MySqlPool) {
    let wait = Wait::Client {
        min: Duration::from_millis(20),
        max: Duration::from_millis(300),
    };
    let worker_queue = Queue::new(
        pool.clone(),
        QueueConfig {
            wait,
            ..quick_config()
        },
    );
    let worker = TestWorker::start(&worker_queue, 2);
    // Another handle has another engine, so nothing tells the worker.
    let callers = queue(&pool);
    for n in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let script = [Step::Snooze(50), Step::Done(json!(n))];
        let id = enqueue(&callers, task(&n.to_string(), script)).await.id;
        let done = until_state(&callers, id, State::Done).await;
        let waited = done.started_at.unwrap() - done.created_at;
        // Many times the longest pause: the machine may be busy with other tests.
        assert!(waited.num_milliseconds() < 4000, "{waited}");
    }
    worker.shut_down().await;
}

/// A busy worker goes on from where it was, but not for long.
#[sqlx::test]
async fn an_urgent_job_soon_overtakes_a_backlog(pool: MySqlPool) {
    const BACKLOG: usize = 4000;
    let queue = queue(&pool);
    let mut tx = queue.begin().await.unwrap();
    let backlog = (0..BACKLOG).map(|_| task("backlog", [Step::Sleep(2)])).collect();
    queue.enqueue_many(&mut tx, backlog).await.unwrap();
    tx.commit().await.unwrap();
    let worker = TestWorker::start(&queue, 4);
    until(Duration::from_secs(20), async || {
        let ran = worker.log.names().len();
        if ran > 4 {
            Ok(())
        } else {
            Err(json!({ "ran": ran }))
        }
    })
    .await;
    let id = enqueue(&queue, task("urgent", []).priority(1000)).await.id;
    let done = until_state(&queue, id, State::Done).await;
    let waited = done.started_at.unwrap() - done.created_at;
    let names = worker.shut_down().await.names();
    let before = names.iter().position(|name| name == "urgent").unwrap();
    assert!(
        before > 4 && before < BACKLOG / 2,
        "{before} of {BACKLOG} ran before it, and it waited for {waited}"
    );
}
