//! What the tests share: a job whose handler does as the payload says, and a worker set to run it.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apalis_core::task::data::Data;
use apalis_mariadb::{
    Claim, Enqueued, Job, JobId, JobKind, NewJob, Outcome, Queue, QueueConfig, State, StorageConfig,
    WorkerSet, WorkerSetError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::MySqlPool;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) fn quick_config() -> QueueConfig {
    QueueConfig {
        lease: Duration::from_secs(3),
        backoff_base: Duration::from_millis(10),
        backoff_cap: Duration::from_millis(50),
        ..QueueConfig::default()
    }
}

/// Leases that a machine which is busy with other things does not let run out.
pub(crate) fn patient_queue(pool: &MySqlPool) -> Queue {
    let config = QueueConfig {
        lease: Duration::from_mins(1),
        ..quick_config()
    };
    Queue::new(pool.clone(), config)
}

pub(crate) fn queue(pool: &MySqlPool) -> Queue {
    // RUST_LOG=apalis_mariadb=debug shows what a worker did.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    Queue::new(pool.clone(), quick_config())
}

/// A job that does what it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) script: Vec<Step>,
}

impl JobKind for Task {
    const KIND: &'static str = "task";
}

/// One step per claim; after the last one the job is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    Done(Value),
    /// Done, with an output of so many bytes.
    DoneLong(usize),
    Sleep(u64),
    /// Waits for [`Log::open_gate`]: for what a test must find running, however slow the machine is.
    AtGate,
    /// Sleeps until cancelled, then says so.
    UntilCancelled,
    /// Sleeps, whatever anybody says.
    Stubborn,
    Retry {
        after_ms: Option<u64>,
    },
    Err,
    Panic,
    Snooze(u64),
    /// Snoozes with a reason of so many bytes.
    SnoozeLong(usize),
    Fail,
}

/// What handlers did, in order: the job's name, and the attempt.
#[derive(Clone)]
pub(crate) struct Log {
    runs: Arc<Mutex<Vec<(String, u32)>>>,
    /// What [`Step::AtGate`] waits for.
    gate: Arc<Semaphore>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            runs: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Log {
    pub(crate) fn runs(&self) -> Vec<(String, u32)> {
        self.runs.lock().unwrap().clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.runs().into_iter().map(|(name, _)| name).collect()
    }

    /// Lets one job pass that waits at [`Step::AtGate`].
    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    fn note(&self, name: &str, attempt: u32) -> usize {
        let mut log = self.runs.lock().unwrap();
        let before = log.iter().filter(|(other, _)| other == name).count();
        log.push((name.to_owned(), attempt));
        before
    }
}

pub(crate) async fn play(task: Task, claim: Claim, log: Data<Log>) -> Result<Outcome, std::io::Error> {
    let at = log.note(&task.name, claim.attempt());
    let step = task.script.get(at).cloned().unwrap_or(Step::Done(Value::Null));
    Ok(match step {
        Step::Done(output) => Outcome::Done(output),
        Step::AtGate => {
            log.gate.acquire().await.unwrap().forget();
            Outcome::done()
        }
        Step::DoneLong(bytes) => Outcome::Done(Value::String("x".repeat(bytes))),
        Step::Sleep(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Outcome::done()
        }
        Step::UntilCancelled => {
            claim.cancellation().cancelled().await;
            Outcome::Cancelled
        }
        Step::Stubborn => {
            tokio::time::sleep(Duration::from_mins(10)).await;
            Outcome::done()
        }
        Step::Retry { after_ms } => Outcome::Retry {
            error: "told to fail".to_owned(),
            after: after_ms.map(Duration::from_millis),
        },
        Step::Err => return Err(std::io::Error::other("told to err")),
        Step::Panic => panic!("told to panic"),
        Step::Snooze(ms) => Outcome::Snooze {
            after: Duration::from_millis(ms),
            reason: Some("told to snooze".to_owned()),
        },
        Step::SnoozeLong(bytes) => Outcome::Snooze {
            after: Duration::from_millis(1),
            reason: Some("x".repeat(bytes)),
        },
        Step::Fail => Outcome::Fail {
            error: "told to give up".to_owned(),
        },
    })
}

pub(crate) fn task(name: &str, script: impl IntoIterator<Item = Step>) -> NewJob {
    NewJob::of(&Task {
        name: name.to_owned(),
        script: script.into_iter().collect(),
    })
    .unwrap()
}

pub(crate) async fn enqueue(queue: &Queue, job: NewJob) -> Enqueued {
    let mut tx = queue.begin().await.unwrap();
    let kind = job.kind().to_owned();
    let enqueued = queue.enqueue(&mut tx, job).await.unwrap();
    tx.commit().await.unwrap();
    queue.notify(&kind);
    enqueued
}

pub(crate) async fn job(queue: &Queue, id: JobId) -> Job {
    queue.find_job(id).await.unwrap().unwrap()
}

pub(crate) async fn until_state(queue: &Queue, id: JobId, state: State) -> Job {
    until(Duration::from_secs(20), async || {
        let job = job(queue, id).await;
        if job.state == state {
            Ok(job)
        } else {
            Err(json!({ "wanted": state, "found": job }))
        }
    })
    .await
}

/// Asks again and again until the answer is `Ok`.
pub(crate) async fn until<T>(patience: Duration, ask: impl AsyncFn() -> Result<T, Value>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        let asked_at = Instant::now();
        match ask().await {
            Ok(answer) => return answer,
            Err(found) => assert!(asked_at < deadline, "waited in vain: {found:#}"),
        }
        // What takes long to answer is not asked so often: others want the server too.
        let pause = (asked_at.elapsed() * 20).clamp(Duration::from_millis(10), Duration::from_millis(200));
        tokio::time::sleep(pause).await;
    }
}

/// A worker for [`Task`] in this process.
pub(crate) struct TestWorker {
    shutdown: CancellationToken,
    run: JoinHandle<Result<(), WorkerSetError>>,
    pub(crate) log: Log,
}

impl TestWorker {
    pub(crate) fn start(queue: &Queue, concurrency: usize) -> Self {
        Self::start_with(
            queue,
            StorageConfig {
                concurrency,
                ..StorageConfig::default()
            },
            Duration::from_millis(500),
        )
    }

    pub(crate) fn start_with(queue: &Queue, config: StorageConfig, grace: Duration) -> Self {
        let (log, shutdown) = (Log::default(), CancellationToken::new());
        let set = WorkerSet::new(queue.clone())
            .register(config, log.clone(), play)
            .unwrap();
        let run = tokio::spawn(set.run(shutdown.clone().cancelled_owned(), grace));
        Self { shutdown, run, log }
    }

    pub(crate) fn shut_down(self) -> impl Future<Output = Log> {
        self.shutdown.cancel();
        async {
            tokio::time::timeout(Duration::from_secs(20), self.run)
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            self.log
        }
    }
}
