//! Writes the ends of claims that need a decision, in batches, until they are written: an end is never dropped while the
//! process lives.
//!
//! Nor is it replaced by a failure because of the state that the server is in: read-only, full, our account locked, gone.
//! Such an end waits here, its lease extended for as long as that is possible. What is too large for the server's packets is
//! split, and in the last resort cut. Only an end whose own content the server provably refuses becomes a failure that says
//! so. What is refused for any other reason is tried again beside the others, ever more seldom.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rag_mariadb::{Cause, OutageLog, cause};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ack::{self, Acked, End, Within};
use crate::config::QueueConfig;
use crate::id::ClaimToken;
use crate::outcome::Outcome;

use super::link::Link;
use super::{EndedHold, Engine};

/// What one batch's statements may hold, whatever the server takes.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// A smaller end is not cut any further to make it fit.
const LEAST_ROOM: usize = 4 * 1024;
/// Longer than the server lets a statement wait for a lock by itself.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);
const FIRST_RETRY_OF_REFUSED: Duration = Duration::from_secs(1);
const LAST_RETRY_OF_REFUSED: Duration = Duration::from_mins(1);

/// Ends that are written in one transaction.
struct Batch {
    ends: Vec<(ClaimToken, End)>,
    /// It turned out that statements must not be longer than this; bytes.
    room: usize,
}

impl Batch {
    const fn new(ends: Vec<(ClaimToken, End)>) -> Self {
        Self {
            ends,
            room: MAX_BATCH_BYTES,
        }
    }

    fn statement_bytes(&self, config: &QueueConfig) -> usize {
        self.ends.iter().map(|(_, end)| end.statement_bytes(config)).sum()
    }

    fn halves(mut self) -> [Self; 2] {
        let ends = self.ends.split_off(self.ends.len() / 2);
        let room = self.room;
        [Self { ends, room }, self]
    }
}

/// An end that the server refuses for no reason that is known here.
struct Refused {
    end: (ClaimToken, End),
    retry_at: Instant,
    pause: Duration,
}

struct Acker<'a> {
    engine: &'a Engine,
    link: Link,
    refused: VecDeque<Refused>,
    refusals: OutageLog,
}

pub(super) async fn run(engine: Arc<Engine>, ends: mpsc::UnboundedReceiver<EndedHold>) {
    tokio::select! {
        () = Acker::new(&engine).serve(ends) => {}
        () = engine.closing.cancelled() => {}
    }
}

impl<'a> Acker<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            link: engine.link("acknowledge", ANSWERS_WITHIN),
            refused: VecDeque::new(),
            refusals: OutageLog::new("acknowledge a job that the database refuses"),
        }
    }

    async fn serve(mut self, mut ends: mpsc::UnboundedReceiver<EndedHold>) {
        let mut received = Vec::new();
        loop {
            let retry_at = self.refused.iter().map(|refused| refused.retry_at).min();
            tokio::select! {
                count = ends.recv_many(&mut received, self.engine.batch()) => {
                    if count == 0 {
                        return;
                    }
                }
                () = sleep_until(retry_at) => {}
            }
            for ends in batches(received.drain(..)) {
                self.ack_all(Batch::new(ends), FIRST_RETRY_OF_REFUSED).await;
            }
            self.retry_refused().await;
        }
    }

    async fn retry_refused(&mut self) {
        let now = Instant::now();
        for _ in 0..self.refused.len() {
            let Some(refused) = self.refused.pop_front() else {
                return;
            };
            if refused.retry_at > now {
                self.refused.push_back(refused);
                continue;
            }
            let pause = (refused.pause * 2).min(LAST_RETRY_OF_REFUSED);
            self.ack_all(Batch::new(vec![refused.end]), pause).await;
        }
        if self.refused.is_empty() {
            self.refusals.succeeded();
        }
    }

    /// Acks a batch, or parts of it. What is refused for its own content is acked alone; it is set aside for `pause`, if the
    /// reason is unknown.
    async fn ack_all(&mut self, batch: Batch, pause: Duration) {
        let mut batches = vec![batch];
        while let Some(batch) = batches.pop() {
            let room = match self.link.packet_room().await {
                Ok(room) => room.min(batch.room),
                Err(error) => {
                    tokio::time::sleep(self.link.failed(&error)).await;
                    batches.push(batch);
                    continue;
                }
            };
            let config = fitting(&self.engine.config, room);
            if batch.ends.len() > 1 && batch.statement_bytes(&config) > room {
                batches.extend(batch.halves());
                continue;
            }
            let ends = &batch.ends;
            let acked = self
                .link
                .run(async |conn| ack::ack_rows(conn, ends, &config, Within::Own).await)
                .await;
            match acked {
                Ok((acked, passed_on)) => {
                    self.link.succeeded();
                    say_what_was_cut(ends, &self.engine.config, &config);
                    report(self.engine, ends, &acked);
                    if passed_on {
                        self.engine.announce_all();
                    }
                }
                Err(error) => batches.extend(self.after_failure(batch, room, &error, pause).await),
            }
        }
    }

    /// What is to be tried next.
    async fn after_failure(
        &mut self,
        batch: Batch,
        room: usize,
        error: &sqlx::Error,
        pause: Duration,
    ) -> Vec<Batch> {
        let cause = cause(error);
        let alone = batch.ends.len() == 1;
        match cause {
            // A packet that is too large may also end in a lost connection, of the server's or of a proxy's making.
            Cause::Outage if !alone && rag_mariadb::number(error).is_none() => {
                tokio::time::sleep(self.link.failed(error)).await;
                batch.halves().into()
            }
            Cause::Conflict | Cause::Outage | Cause::ReadOnly | Cause::Account | Cause::Full => {
                tokio::time::sleep(self.link.failed(error)).await;
                vec![batch]
            }
            Cause::TooLarge | Cause::Content | Cause::Statement if !alone => batch.halves().into(),
            Cause::TooLarge if room / 2 >= LEAST_ROOM => vec![Batch {
                room: room / 2,
                ..batch
            }],
            Cause::Content if !batch.ends.iter().all(is_refused_failure) => {
                refused_for_its_content(batch, error)
            }
            Cause::TooLarge | Cause::Content | Cause::Statement => {
                self.set_aside(batch, error, pause);
                Vec::new()
            }
        }
    }

    fn set_aside(&mut self, batch: Batch, error: &sqlx::Error, pause: Duration) {
        self.refusals.failed(error);
        self.engine.health.count(self.refusals.task(), error);
        let retry_at = Instant::now() + pause;
        self.refused
            .extend(batch.ends.into_iter().map(|end| Refused { end, retry_at, pause }));
    }
}

const REFUSED: &str = "its outcome could not be stored: ";

fn is_refused_failure((_, end): &(ClaimToken, End)) -> bool {
    matches!(end, End::Handler(Outcome::Fail { error }) if error.starts_with(REFUSED))
}

/// The same job, failed: what it would say of itself is not storable.
fn refused_for_its_content(batch: Batch, error: &sqlx::Error) -> Vec<Batch> {
    let failed = batch.ends.into_iter().map(|(token, _)| {
        tracing::error!(
            job.id = %token.job_id(),
            %error,
            "the database refuses the content of a job's outcome; failing the job"
        );
        let error = format!("{REFUSED}{error}");
        (token, End::Handler(Outcome::Fail { error }))
    });
    vec![Batch::new(failed.collect())]
}

/// The same settings, with outputs and errors no longer than fits into statements of so many bytes.
fn fitting(config: &QueueConfig, room: usize) -> QueueConfig {
    let (output, error) = End::longest_texts(room);
    QueueConfig {
        max_output_bytes: config.max_output_bytes.min(output),
        max_error_bytes: config.max_error_bytes.min(error),
        ..config.clone()
    }
}

fn say_what_was_cut(ends: &[(ClaimToken, End)], usual: &QueueConfig, used: &QueueConfig) {
    for (token, end) in ends {
        if end.statement_bytes(usual) > end.statement_bytes(used) {
            tracing::warn!(
                job.id = %token.job_id(),
                max_output_bytes = used.max_output_bytes,
                max_error_bytes = used.max_error_bytes,
                "a job's output or error text was cut: the server's max_allowed_packet has no room for more"
            );
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A job with keys goes alone: it may have to pass a key on, and a key is a lock.
fn batches(ends: impl Iterator<Item = EndedHold>) -> Vec<Vec<(ClaimToken, End)>> {
    let (mut batches, mut batch) = (Vec::new(), Vec::new());
    for EndedHold { token, has_keys, end } in ends {
        if has_keys {
            batches.push(vec![(token, end)]);
        } else {
            batch.push((token, end));
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

fn report(engine: &Engine, batch: &[(ClaimToken, End)], acked: &[Acked]) {
    let mut held = engine.held();
    for ((token, _), acked) in batch.iter().zip(acked) {
        let lost = held.remove(token).is_some_and(|held| held.lost);
        if *acked == Acked::Bounced && lost {
            tracing::warn!(job.id = %token.job_id(), claim = token.claim_no(), "the end of a lost claim was dropped");
        }
    }
    drop(held);
    engine.acked.notify_waiters();
    // The claimer stops when too many ends are unwritten.
    engine.work.notify_one();
}
