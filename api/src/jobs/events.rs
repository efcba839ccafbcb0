//! Changes of jobs, for those who listen. One poller in each process reads all watched jobs at once, so a thousand
//! listeners cost what one costs. There is no log of events: each event is the whole job as its row has it, so a listener
//! that missed some events has still seen the latest state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apalis_mariadb::JobId;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::reader::JobReader;
use super::view::JobOut;
use crate::http::problem::Problem;

const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Jobs per statement.
const MAX_JOBS_PER_POLL: usize = 1000;

/// A job as it was at some moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// A hash of the contents, the same in every process.
    pub(crate) id: String,
    pub(crate) state: &'static str,
    pub(crate) json: String,
    pub(crate) is_over: bool,
}

impl Snapshot {
    pub(crate) fn of(job: &JobOut) -> Result<Self, Problem> {
        let json = serde_json::to_string(job).map_err(Problem::internal)?;
        let digest = Sha256::digest(&json);
        Ok(Self {
            id: hex::encode(&digest[..12]),
            state: job.state(),
            is_over: job.is_over(),
            json,
        })
    }
}

/// The latest snapshot; `None` before the first poll.
pub(crate) type Latest = Option<Arc<Snapshot>>;

/// Who listens to what. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reader: JobReader,
    watched: Mutex<Watched>,
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct Watched {
    jobs: HashMap<JobId, watch::Sender<Latest>>,
    /// A poller runs; it ends with the last listener.
    is_polled: bool,
}

impl Events {
    pub(super) fn new(reader: JobReader) -> Self {
        Self(Arc::new(Inner {
            reader,
            watched: Mutex::default(),
            closing: CancellationToken::new(),
        }))
    }

    /// Listens to a job. The caller has checked that the listener may see it. The channel closes when the job is gone.
    pub(crate) fn listen(&self, job: JobId) -> watch::Receiver<Latest> {
        let mut watched = self.watched();
        let receiver = watched
            .jobs
            .entry(job)
            .or_insert_with(|| watch::channel(None).0)
            .subscribe();
        if !std::mem::replace(&mut watched.is_polled, true) {
            tokio::spawn(self.clone().poll());
        }
        receiver
    }

    /// Returns when the job is over or gone, or when the process ends. Costs no more than listening.
    pub(crate) async fn over(&self, job: JobId) {
        let mut listener = self.listen(job);
        let closing = self.closing();
        tokio::select! {
            _over_or_gone = listener.wait_for(|latest| latest.as_ref().is_some_and(|latest| latest.is_over)) => {}
            () = closing.cancelled() => {}
        }
    }

    /// Fires when the process shuts down, so that open streams end.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }

    pub(crate) fn close(&self) {
        self.0.closing.cancel();
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn poll(self) {
        while let Some(ids) = self.still_wanted() {
            for ids in ids.chunks(MAX_JOBS_PER_POLL) {
                if let Err(problem) = self.refresh(ids).await {
                    let cause = problem.cause_chain();
                    tracing::warn!(cause, "watched jobs could not be read; the next poll tries again");
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// `None`: no listener is left. The poller ends, and the next listener starts another.
    fn still_wanted(&self) -> Option<Vec<JobId>> {
        let mut watched = self.watched();
        watched.jobs.retain(|_, sender| sender.receiver_count() > 0);
        if watched.jobs.is_empty() || self.0.closing.is_cancelled() {
            watched.is_polled = false;
            return None;
        }
        Some(watched.jobs.keys().copied().collect())
    }

    async fn refresh(&self, ids: &[JobId]) -> Result<(), Problem> {
        let mut found = HashMap::with_capacity(ids.len());
        for (id, job) in self.0.reader.find_many(ids).await? {
            found.insert(id, job.and_then(|job| Snapshot::of(&job)).map(Arc::new));
        }
        let mut watched = self.watched();
        for id in ids {
            let snapshot = match found.remove(id) {
                Some(Ok(snapshot)) => snapshot,
                Some(Err(problem)) => {
                    let cause = problem.cause_chain();
                    tracing::warn!(job.id = %id, cause, "a watched job could not be read; the next poll tries again");
                    continue;
                }
                None => {
                    watched.jobs.remove(id);
                    continue;
                }
            };
            if let Some(sender) = watched.jobs.get(id) {
                sender.send_if_modified(|latest| {
                    let is_new = latest.as_ref().is_none_or(|latest| latest.id != snapshot.id);
                    if is_new {
                        *latest = Some(snapshot);
                    }
                    is_new
                });
            }
        }
        Ok(())
    }
}
