//! Fences, leases and rescue, with claims made by hand through a worker that stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apalis_core::task::data::Data;
use apalis_mariadb::{
    CancelReason, Claim, Ending, Outcome, Queue, QueueError, State, StorageConfig, WorkerSet,
};
use serde_json::{Value, json};
use sqlx::MySqlPool;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::support::{Step, Task, TestWorker, enqueue, job, queue, task, until, until_state};

type Answer = oneshot::Sender<Outcome>;

/// A worker whose handlers do nothing but hand their claim out and wait for what to answer.
struct Puppet {
    claims: AsyncMutex<mpsc::UnboundedReceiver<(Claim, Answer)>>,
    _stop: oneshot::Sender<()>,
    aborted: Arc<AtomicU32>,
}

/// Counts handlers that were dropped half-way.
struct Dropped(Arc<AtomicU32>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(u32::from(self.1), Ordering::Relaxed);
    }
}

impl Puppet {
    fn start(queue: &Queue) -> Self {
        let (give, claims) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let aborted = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&aborted);
        let handler = move |_: Task, claim: Claim, give: Data<mpsc::UnboundedSender<(Claim, Answer)>>| {
            let count = Arc::clone(&count);
            async move {
                let (answer, answered) = oneshot::channel();
                let mut dropped = Dropped(count, true);
                let _ = give.send((claim, answer));
                let outcome = answered.await.unwrap_or(Outcome::Cancelled);
                dropped.1 = false;
                outcome
            }
        };
        let config = StorageConfig {
            concurrency: 8,
            ..StorageConfig::default()
        };
        let set = WorkerSet::new(queue.clone())
            .register(config, give, handler)
            .unwrap();
        let stopped = async {
            let _ = stopped.await;
        };
        tokio::spawn(set.run(stopped, Duration::from_millis(100)));
        Self {
            claims: AsyncMutex::new(claims),
            _stop: stop,
            aborted,
        }
    }

    async fn claim(&self) -> (Claim, Answer) {
        let mut claims = self.claims.lock().await;
        tokio::time::timeout(Duration::from_secs(20), claims.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

/// As if the claim's process had stood still until after the lease, and another had taken the job back.
async fn lose(pool: &MySqlPool, claim: &Claim) {
    // Its heartbeat may hold the row just then, and a deadlock is decided against either.
    until(Duration::from_secs(20), async || {
        let lost = sqlx::query("UPDATE queue_jobs SET order_us = 1 WHERE id = ? AND state = 'running'")
            .bind(claim.job_id())
            .execute(pool)
            .await;
        lost.map_err(|error| json!(error.to_string()))
    })
    .await;
}

#[sqlx::test]
async fn a_live_claim_fences_and_completes_with_the_callers_rows(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("one", []).unique_key("u").concurrency_key("c"))
        .await
        .id;
    let next = enqueue(&queue, task("next", []).concurrency_key("c")).await.id;
    let (claim, answer) = puppet.claim().await;
    let mut tx = queue.begin().await.unwrap();
    claim.fence(&mut tx).await.unwrap();
    assert!(queue.is_live(&mut tx, claim.token()).await.unwrap());
    claim.complete(&mut tx, &json!({ "rows": 1 })).await.unwrap();
    // Not before the commit.
    assert_eq!(job(&queue, id).await.state, State::Running);
    assert_eq!(job(&queue, next).await.state, State::Blocked);
    tx.commit().await.unwrap();
    assert_eq!(job(&queue, id).await.state, State::Done);
    assert_ne!(job(&queue, next).await.state, State::Blocked);
    assert!(!enqueue(&queue, task("again", []).unique_key("u")).await.existing);
    // Whatever the handler says now, the job is done.
    answer
        .send(Outcome::Fail {
            error: "too late".to_owned(),
        })
        .unwrap();
    let (claim, answer) = puppet.claim().await;
    assert_eq!(claim.job_id(), next);
    answer.send(Outcome::done()).unwrap();
    until_state(&queue, next, State::Done).await;
    let done = job(&queue, id).await;
    assert_eq!(
        (done.state, done.output, done.last_error),
        (State::Done, Some(json!({ "rows": 1 })), None)
    );
}

#[sqlx::test]
async fn a_completion_that_is_rolled_back_counts_for_nothing(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("one", []).unique_key("u")).await.id;
    let (claim, answer) = puppet.claim().await;
    let mut tx = queue.begin().await.unwrap();
    claim.complete(&mut tx, &Value::Null).await.unwrap();
    tx.rollback().await.unwrap();
    answer
        .send(Outcome::Retry {
            error: "the commit failed".to_owned(),
            after: None,
        })
        .unwrap();
    let (_, answer) = puppet.claim().await;
    assert_eq!(job(&queue, id).await.attempts, 1);
    answer.send(Outcome::done()).unwrap();
    until_state(&queue, id, State::Done).await;
}

#[sqlx::test]
async fn every_late_write_of_a_lost_claim_bounces(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("one", [])).await.id;
    let (old, old_answer) = puppet.claim().await;
    lose(&pool, &old).await;
    let (new, new_answer) = puppet.claim().await;
    assert_eq!((new.job_id(), new.attempt()), (id, 1));
    assert!(new.token() > old.token());

    let mut tx = queue.begin().await.unwrap();
    assert!(matches!(old.fence(&mut tx).await, Err(QueueError::ClaimLost(lost)) if lost == old.token()));
    assert!(
        old.complete(&mut tx, &json!("late"))
            .await
            .unwrap_err()
            .is_claim_lost()
    );
    assert!(!queue.is_live(&mut tx, old.token()).await.unwrap());
    assert!(queue.is_live(&mut tx, new.token()).await.unwrap());
    new.fence(&mut tx).await.unwrap();
    tx.commit().await.unwrap();

    // Its handler has been told, and its answer changes nothing.
    tokio::time::timeout(Duration::from_secs(5), old.cancellation().cancelled())
        .await
        .unwrap();
    assert_eq!(old.reason(), Some(CancelReason::LeaseLost));
    old_answer.send(Outcome::Done(json!("late"))).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(job(&queue, id).await.state, State::Running);
    new_answer.send(Outcome::Done(json!("right"))).unwrap();
    let done = until_state(&queue, id, State::Done).await;
    assert_eq!(done.output, Some(json!("right")));
    assert_eq!((done.attempts, done.lease_losses), (0, 1));
    assert_eq!(done.history[0].ended, Ending::LeaseLost);
}

#[sqlx::test]
async fn an_expired_claim_is_dead_before_anybody_takes_the_job(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    enqueue(&queue, task("one", [])).await;
    let (claim, _answer) = puppet.claim().await;
    // Keep the rescue from happening, to see that it is not what kills the claim.
    let mut holder = queue.begin().await.unwrap();
    sqlx::query("SELECT * FROM queue_tasks FOR UPDATE")
        .fetch_all(&mut *holder)
        .await
        .unwrap();
    lose(&pool, &claim).await;
    let mut tx = queue.begin().await.unwrap();
    assert!(!queue.is_live(&mut tx, claim.token()).await.unwrap());
    assert!(claim.fence(&mut tx).await.unwrap_err().is_claim_lost());
    drop(tx);
    // No heartbeat brings it back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut tx = queue.begin().await.unwrap();
    assert!(!queue.is_live(&mut tx, claim.token()).await.unwrap());
}

#[sqlx::test]
async fn a_fenced_transaction_keeps_the_job_longer_than_the_lease(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("one", [])).await.id;
    let other = enqueue(&queue, task("other", [])).await.id;
    let (first, _first) = puppet.claim().await;
    let (second, _second) = puppet.claim().await;
    let claim = if first.job_id() == id { &first } else { &second };
    let mut tx = queue.begin().await.unwrap();
    claim.fence(&mut tx).await.unwrap();
    // Longer than the lease of 3 s. The heartbeat cannot extend this one, but must extend the other.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    claim.complete(&mut tx, &Value::Null).await.unwrap_err();
    tx.rollback().await.unwrap();
    assert_eq!(job(&queue, other).await.lease_losses, 0);
    assert_eq!(job(&queue, other).await.state, State::Running);
}

#[sqlx::test]
async fn heartbeats_keep_a_long_job(pool: MySqlPool) {
    let queue = queue(&pool);
    let worker = TestWorker::start(&queue, 2);
    let id = enqueue(&queue, task("long", [Step::Sleep(7000)])).await.id;
    let done = until_state(&queue, id, State::Done).await;
    assert_eq!((done.lease_losses, done.attempts), (0, 0));
    assert_eq!(worker.shut_down().await.names(), ["long"]);
}

#[sqlx::test]
async fn a_job_that_gets_on_outlives_any_number_of_workers(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("long", [])).await.id;
    let mut answers = Vec::new();
    for round in 0..8 {
        let (claim, answer) = puppet.claim().await;
        answers.push(answer);
        let expected = match round {
            0 => 0,
            // The round before brought nothing on.
            3 => 2,
            _ => 1,
        };
        assert_eq!(job(&queue, id).await.lease_losses, expected, "round {round}");
        let mut tx = queue.begin().await.unwrap();
        claim.progress(&mut tx).await.unwrap();
        // Progress that is rolled back is none.
        if round == 2 {
            tx.rollback().await.unwrap();
        } else {
            tx.commit().await.unwrap();
        }
        lose(&pool, &claim).await;
        let mut tx = queue.begin().await.unwrap();
        assert!(
            claim.progress(&mut tx).await.is_err(),
            "a lost claim gets nothing on"
        );
    }
}

#[sqlx::test]
async fn attempts_come_back_with_progress(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("long", []).max_attempts(2)).await.id;
    let failure = || Outcome::Retry {
        error: "no".to_owned(),
        after: None,
    };
    // More failures than attempts, but progress between them.
    for round in 0..4 {
        let (claim, answer) = puppet.claim().await;
        assert_eq!(claim.is_last_attempt(), round > 0, "round {round}");
        let mut tx = queue.begin().await.unwrap();
        claim.progress(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        assert!(!claim.is_last_attempt(), "round {round}");
        assert_eq!(job(&queue, id).await.attempts, 0, "round {round}");
        answer.send(failure()).unwrap();
    }
    // One without progress is given up.
    let (claim, answer) = puppet.claim().await;
    assert!(claim.is_last_attempt());
    answer.send(failure()).unwrap();
    assert_eq!(until_state(&queue, id, State::Failed).await.attempts, 2);
}

#[sqlx::test]
async fn too_many_lost_leases_end_a_job_and_free_its_keys(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("killer", []).concurrency_key("c").unique_key("u"))
        .await
        .id;
    let next = enqueue(&queue, task("next", []).concurrency_key("c")).await.id;
    let mut answers = Vec::new();
    for _ in 0..5 {
        let (claim, answer) = puppet.claim().await;
        assert_eq!(claim.job_id(), id);
        lose(&pool, &claim).await;
        answers.push(answer);
    }
    let failed = until_state(&queue, id, State::Failed).await;
    assert_eq!((failed.lease_losses, failed.attempts), (5, 0));
    assert!(failed.last_error.unwrap().contains("lease was lost 5 times"));
    assert_eq!(puppet.claim().await.0.job_id(), next);
    // Handlers that do not notice are dropped after a while.
    until(Duration::from_secs(40), async || {
        match puppet.aborted.load(Ordering::Relaxed) {
            5 => Ok(()),
            aborted => Err(json!(aborted)),
        }
    })
    .await;
    drop(answers);
}

/// Tasks of one handler that write side by side: none of them may take another's renewal for a lost claim.
#[sqlx::test]
async fn fences_of_one_claim_do_not_disturb_each_other(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    enqueue(&queue, task("one", [])).await;
    let (claim, _answer) = puppet.claim().await;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let (queue, claim) = (queue.clone(), claim.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    let mut tx = queue.begin().await.unwrap();
                    claim.fence(&mut tx).await.unwrap();
                    tx.commit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[sqlx::test]
async fn a_handler_that_stops_for_a_lost_claim_does_not_cancel_its_job(pool: MySqlPool) {
    let queue = queue(&pool);
    let puppet = Puppet::start(&queue);
    let id = enqueue(&queue, task("one", [])).await.id;
    let (claim, answer) = puppet.claim().await;
    lose(&pool, &claim).await;
    let mut tx = queue.begin().await.unwrap();
    assert!(claim.fence(&mut tx).await.unwrap_err().is_claim_lost());
    drop(tx);
    let _ = answer.send(Outcome::Cancelled);
    let (again, _answer) = puppet.claim().await;
    assert_eq!(again.job_id(), id);
    assert_eq!(job(&queue, id).await.state, State::Running);
}

/// Its workers are all gone; whoever comes hands the job on, to be seen and to be run when they are back.
#[sqlx::test]
async fn a_lost_lease_of_a_kind_that_nobody_serves_is_rescued(pool: MySqlPool) {
    let queue = queue(&pool);
    let orphan = apalis_mariadb::NewJob::new("unserved", &json!({})).unwrap();
    let id = enqueue(&queue, orphan).await.id;
    sqlx::query("UPDATE queue_jobs SET state = 'running', claim_no = 1, order_us = 1 WHERE id = ?")
        .bind(id)
        .execute(&pool)
        .await
        .unwrap();
    let worker = TestWorker::start(&queue, 1);
    let ready = until_state(&queue, id, State::Ready).await;
    assert_eq!(ready.lease_losses, 1);
    worker.shut_down().await;
}
