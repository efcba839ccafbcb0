//! The uploads of a build, as many at once as the provider takes (`rag_connections::Throttle`).
//!
//! One transaction at a time writes what has arrived and declares what goes up next, so a file costs a part of a statement.
//! It is due when the files that are declared run short, or when what has arrived is [`WRITE_AGE`] old.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use rag_connections::{Entry, Throttle};
use rag_db::composition::Member;
use rag_db::intents::Intent;
use tokio::time::Instant;

use super::attach_files;
use super::signals::Signals;
use super::snapshot::{BuildSnapshot, Pages};
use super::state::Build;
use super::upload_writes::{Declared, Group, write};
use crate::step_error::StepError;
use crate::upload::{Declaration, Ended, Sent, Uploaded, send, send_inherited};

/// What has arrived is written down at this age at the latest: a worker that is killed uploads it again.
const WRITE_AGE: Duration = Duration::from_millis(250);
/// Where fewer arrive in that time, waiting for more saves little: it is written down at once.
const WORTH_WAITING: usize = 4;
/// … or when there is so much of it.
const WRITE_FILES: usize = 64;
/// So much is declared ahead of what is on the wire: what goes up in this time. A worker that is killed has to be thought to
/// have sent it.
const DECLARED_AHEAD: Duration = Duration::from_millis(500);
/// The next page is read when fewer files wait to be declared.
const QUEUE_LOW: usize = 128;
/// Requests wait so long for the end of a pause themselves; only a longer one ends the round of uploads.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// What is on the wire when the worker is told to stop gets this long to come to its end; an upload that is cut off has
/// to be searched for by the next claim.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// What came of all uploads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Summary {
    /// Another job is at some of the files.
    pub(super) busy: bool,
    /// Another job has brought some of the files: they are still to be attached.
    pub(super) come_again: bool,
    /// Some attachments do not belong in the store, or are on their way out.
    pub(super) leaving: bool,
}

/// What came of one declared file.
enum Attempt {
    Sent(Box<Sent>),
    Written(Uploaded),
    NotSent(Box<Intent>),
    Failed(StepError),
}

/// How many files go up in a second, of late.
#[derive(Debug, Default)]
struct Pace {
    begun: Option<Instant>,
    files: u32,
    per_second: f64,
}

impl Pace {
    const WINDOW: Duration = Duration::from_millis(500);

    fn add(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
        self.files += 1;
    }

    /// How many files go up in such a time.
    fn files_in(&mut self, time: Duration, now: Instant) -> usize {
        if let Some(begun) = self.begun {
            let took = now.saturating_duration_since(begun);
            if took >= Self::WINDOW {
                self.per_second = f64::from(self.files) / took.as_secs_f64();
                self.begun = Some(now);
                self.files = 0;
            }
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small number"
        )]
        let files = (self.per_second * time.as_secs_f64()).ceil() as usize;
        files
    }
}

struct Page {
    pages: Pages,
    ended: bool,
    upload: Vec<Member>,
    leaving: bool,
}

struct Stage<'b> {
    build: &'b Build<'b>,
    signals: &'b Signals,
    throttle: Arc<Throttle>,
    pages: Option<Pages>,
    page: Option<BoxFuture<'b, Result<Page, StepError>>>,
    /// Waits to be declared.
    queue: VecDeque<Member>,
    /// Declared.
    sending: FuturesUnordered<BoxFuture<'b, Attempt>>,
    sent: Vec<Sent>,
    /// The oldest of `sent`.
    sent_at: Option<Instant>,
    not_sent: Vec<Intent>,
    pace: Pace,
    writing: Option<BoxFuture<'b, Result<Vec<Declared>, StepError>>>,
    first_error: Option<StepError>,
    summary: Summary,
}

/// Drives the uploads to their end. After the first reason to stop nothing new begins, but what has begun is waited for; a
/// short pause of the provider's is no such reason.
pub(super) async fn run<'b>(build: &'b Build<'b>, signals: &'b Signals) -> Result<Summary, StepError> {
    let ceiling = build.context.settings.build_upload_concurrency;
    let mut stage = Stage {
        build,
        signals,
        throttle: build
            .context
            .connections
            .throttle(&build.index.provider_type, ceiling),
        pages: Some(Pages::new(&build.job.domain_id, build.index.id)),
        page: None,
        queue: VecDeque::new(),
        sending: FuturesUnordered::new(),
        sent: Vec::new(),
        sent_at: None,
        not_sent: Vec::new(),
        pace: Pace::default(),
        writing: None,
        first_error: None,
        summary: Summary::default(),
    };
    stage.drive().await;
    match stage.first_error {
        Some(error) => Err(error),
        None => Ok(stage.summary),
    }
}

impl<'b> Stage<'b> {
    async fn drive(&mut self) {
        let cancellation = self.build.claim.cancellation();
        let mut cut_off_at = None;
        loop {
            self.begin_page();
            self.begin_write(Instant::now());
            if self.is_over() {
                return;
            }
            let write_due_at = self
                .sent_at
                .filter(|_| self.writing.is_none())
                .map(|at| at + WRITE_AGE);
            tokio::select! {
                biased;
                () = cancellation.cancelled(), if cut_off_at.is_none() => {
                    self.stop(StepError::Stopped);
                    cut_off_at = Some(Instant::now() + STOP_GRACE);
                }
                () = until(cut_off_at), if !self.sending.is_empty() => self.sending.clear(),
                Some(attempt) = self.sending.next(), if !self.sending.is_empty() => self.attempted(attempt),
                page = ready(&mut self.page) => {
                    self.page = None;
                    match page {
                        Ok(page) => self.add(page),
                        Err(error) => self.stop(error),
                    }
                }
                declared = ready(&mut self.writing) => {
                    self.writing = None;
                    match declared {
                        Ok(declared) => self.declared(declared),
                        Err(error) => self.stop(error),
                    }
                }
                () = until(write_due_at) => {}
                () = self.signals.stop_uploads.cancelled(), if !self.is_stopping() => {}
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.signals.stop_uploads.is_cancelled()
    }

    /// Nothing new begins.
    fn stop(&mut self, error: StepError) {
        self.signals.stop_uploads.cancel();
        self.note(error);
    }

    fn note(&mut self, error: StepError) {
        if self.first_error.as_ref().is_none_or(is_wait) {
            self.first_error = Some(error);
        }
    }

    fn is_over(&self) -> bool {
        let nothing_left = self.is_stopping() || (self.queue.is_empty() && self.pages.is_none());
        nothing_left
            && self.page.is_none()
            && self.writing.is_none()
            && self.sending.is_empty()
            && self.sent.is_empty()
            && self.not_sent.is_empty()
    }

    fn begin_page(&mut self) {
        if self.is_stopping() || self.page.is_some() || self.queue.len() >= QUEUE_LOW {
            return;
        }
        if let Some(pages) = self.pages.take() {
            self.page = Some(next_page(self.build, self.signals, pages).boxed());
        }
    }

    fn add(&mut self, page: Page) {
        self.pages = (!page.ended).then_some(page.pages);
        self.summary.leaving |= page.leaving;
        self.queue.extend(page.upload);
    }

    /// Begins the transaction that is due, if one is.
    fn begin_write(&mut self, now: Instant) {
        if self.writing.is_some() {
            return;
        }
        let (limit, ahead) = (self.throttle.limit(), self.pace.files_in(DECLARED_AHEAD, now));
        let wanted = limit + ahead;
        let room = if self.is_stopping() {
            0
        } else {
            wanted.saturating_sub(self.sending.len()).min(self.queue.len())
        };
        let declares = room > 0 && self.sending.len() <= limit + ahead / 2;
        let age = if self.pace.files_in(WRITE_AGE, now) < WORTH_WAITING {
            Duration::ZERO
        } else {
            WRITE_AGE
        };
        let is_old = self.sent_at.is_some_and(|at| now >= at + age);
        let is_last = self.sending.is_empty() && !(self.sent.is_empty() && self.not_sent.is_empty());
        if !declares && !is_old && !is_last && self.sent.len() < WRITE_FILES {
            return;
        }
        let group = Group {
            sent: std::mem::take(&mut self.sent),
            next: self.queue.drain(..room).collect(),
            not_sent: std::mem::take(&mut self.not_sent),
        };
        self.sent_at = None;
        self.writing = Some(write(self.build, self.signals, group).boxed());
    }

    fn declared(&mut self, declared: Vec<Declared>) {
        for (member, declaration) in declared {
            match declaration {
                Declaration::There => self.summary.come_again = true,
                Declaration::Busy => self.summary.busy = true,
                Declaration::Gone => {}
                Declaration::Fresh(intent) => self.sending.push(self.attempt(member, intent, false)),
                Declaration::Inherited(intent) => self.sending.push(self.attempt(member, intent, true)),
            }
        }
    }

    /// Waits for its turn, and sends the file.
    fn attempt(&self, member: Member, intent: Intent, is_inherited: bool) -> BoxFuture<'b, Attempt> {
        let (build, signals) = (self.build, self.signals);
        let throttle = Arc::clone(&self.throttle);
        async move {
            let entry = tokio::select! {
                biased;
                () = signals.stop_uploads.cancelled() => return Attempt::NotSent(Box::new(intent)),
                entry = throttle.enter() => entry,
            };
            let began = Instant::now();
            let ended = if is_inherited {
                send_inherited(build, member, intent).await
            } else {
                send(build, member, intent).await
            };
            leave(entry, &ended, began.elapsed());
            match ended {
                Ok(Ended::Sent(sent)) => Attempt::Sent(sent),
                Ok(Ended::Written(uploaded)) => Attempt::Written(uploaded),
                Err(error) => Attempt::Failed(error),
            }
        }
        .boxed()
    }

    fn attempted(&mut self, attempt: Attempt) {
        match attempt {
            Attempt::Sent(sent) => {
                let now = Instant::now();
                self.pace.add(now);
                self.sent_at = self.sent_at.or(Some(now));
                self.sent.push(*sent);
            }
            Attempt::Written(Uploaded::Busy) => self.summary.busy = true,
            Attempt::Written(Uploaded::Yes) => self.summary.come_again = true,
            Attempt::Written(Uploaded::Failed | Uploaded::Skipped) => {}
            Attempt::NotSent(intent) => self.not_sent.push(*intent),
            Attempt::Failed(error) => {
                // A short pause is waited for by whoever sends next; this one file comes round again with the next claim.
                // And what can't be read here is this one file.
                let others_go_on = match &error {
                    StepError::RateLimited { after, .. } => *after <= SHORT_PAUSE,
                    StepError::Storage { all_files, .. } => !all_files,
                    _ => false,
                };
                if others_go_on {
                    self.note(error);
                } else {
                    self.stop(error);
                }
            }
        }
    }
}

fn is_wait(error: &StepError) -> bool {
    matches!(error, StepError::RateLimited { .. } | StepError::Storage { .. })
}

/// Tells the throttle what became of a call.
fn leave(entry: Entry, ended: &Result<Ended, StepError>, took: Duration) {
    match ended {
        Ok(Ended::Sent(_)) => entry.answered(took),
        Err(StepError::RateLimited { .. } | StepError::ProviderWait { .. } | StepError::Retry { .. }) => {
            entry.refused();
        }
        Ok(Ended::Written(_)) | Err(_) => drop(entry),
    }
}

/// Reads the next page: what is only to be attached is written down, what is to be uploaded is answered.
async fn next_page(build: &Build<'_>, signals: &Signals, mut pages: Pages) -> Result<Page, StepError> {
    let mut db = build.context.pool.acquire().await?;
    let snapshot = pages.next(&mut db).await?;
    drop(db);
    let Some(snapshot) = snapshot else {
        return Ok(Page {
            pages,
            ended: true,
            upload: Vec::new(),
            leaving: false,
        });
    };
    signals.add_pending(attach_files::want(build, &snapshot).await?);
    let leaving = !snapshot.leaving().is_empty();
    Ok(Page {
        pages,
        ended: false,
        upload: to_upload(snapshot),
        leaving,
    })
}

fn to_upload(snapshot: BuildSnapshot) -> Vec<Member> {
    let BuildSnapshot {
        members, to_upload, ..
    } = snapshot;
    members
        .into_iter()
        .filter(|member| to_upload.contains(&member.desired.file_id))
        .collect()
}

/// Ends at this time; never, if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The work's result; never, if there is none.
async fn ready<T>(work: &mut Option<BoxFuture<'_, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
