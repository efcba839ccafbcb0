//! The model: what should become of jobs, in memory and without a database.

use std::collections::BTreeMap;

use crate::ack::End;
use crate::id::{ClaimToken, JobId};
use crate::outcome::Outcome;
use crate::state::State;

use super::{MAX_ATTEMPTS, MAX_LOSSES};

/// A job as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) claim_no: u32,
    pub(super) attempts: u32,
    pub(super) losses: u32,
    pub(super) snoozes: u32,
    pub(super) cancel_requested: bool,
}

#[derive(Clone, Debug)]
pub(super) struct ModelJob {
    pub(super) id: JobId,
    pub(super) unique: Option<u8>,
    pub(super) key: Option<u8>,
    /// Delayed ones come after all others: they are due an hour later, by their rank.
    pub(super) delayed: bool,
    pub(super) seen: Seen,
}

#[derive(Default)]
pub(super) struct Model {
    /// In the order of their enqueueing.
    pub(super) jobs: Vec<ModelJob>,
    pub(super) holders: BTreeMap<u8, JobId>,
    pub(super) uniques: BTreeMap<u8, JobId>,
    pub(super) tokens: Vec<ClaimToken>,
}

impl Model {
    pub(super) fn rank(&self, at: usize) -> (bool, usize) {
        (self.jobs[at].delayed, at)
    }

    pub(super) fn in_order(&self, wanted: impl Fn(&ModelJob) -> bool) -> Vec<usize> {
        let mut found: Vec<usize> = (0..self.jobs.len())
            .filter(|&at| wanted(&self.jobs[at]))
            .collect();
        found.sort_by_key(|&at| self.rank(at));
        found
    }

    /// Ready if the key is to be had, else blocked.
    pub(super) fn queue_up(&mut self, at: usize) {
        let job = &mut self.jobs[at];
        let has_key = job
            .key
            .is_none_or(|key| *self.holders.entry(key).or_insert(job.id) == job.id);
        job.seen.state = if has_key { State::Ready } else { State::Blocked };
    }

    pub(super) fn is_over(&mut self, at: usize, state: State) {
        self.jobs[at].seen.state = state;
        let (id, unique, key) = (self.jobs[at].id, self.jobs[at].unique, self.jobs[at].key);
        if let Some(unique) = unique {
            self.uniques.remove(&unique);
        }
        if let Some(key) = key.filter(|key| self.holders.get(key) == Some(&id)) {
            self.holders.remove(&key);
            let line = self.in_order(|job| job.key == Some(key) && job.seen.state == State::Blocked);
            if let Some(&next) = line.first() {
                self.queue_up(next);
            }
        }
    }

    pub(super) fn end(&mut self, at: usize, end: &End) {
        let seen = &mut self.jobs[at].seen;
        let cancelled = seen.cancel_requested;
        match end {
            End::Handler(Outcome::Done(_)) => self.is_over(at, State::Done),
            _ if cancelled => self.is_over(at, State::Cancelled),
            End::Handler(Outcome::Cancelled) => self.is_over(at, State::Cancelled),
            End::Handler(Outcome::Fail { .. }) => {
                seen.attempts += 1;
                self.is_over(at, State::Failed);
            }
            End::Handler(Outcome::Retry { .. }) => {
                seen.attempts += 1;
                seen.state = State::Scheduled;
                if seen.attempts >= MAX_ATTEMPTS {
                    self.is_over(at, State::Failed);
                }
            }
            End::Handler(Outcome::Snooze { .. }) => {
                seen.snoozes += 1;
                seen.state = State::Scheduled;
            }
            End::Release => seen.state = State::Ready,
            End::LeaseLost => {
                seen.losses += 1;
                seen.state = State::Ready;
                if seen.losses >= u32::from(MAX_LOSSES) {
                    self.is_over(at, State::Failed);
                }
            }
        }
    }
}

impl Model {
    pub(super) fn job_of(&self, token: ClaimToken) -> &ModelJob {
        self.jobs.iter().find(|job| job.id == token.job_id()).unwrap()
    }

    /// Answers whether the claim was current.
    pub(super) fn end_if_current(&mut self, token: ClaimToken, end: &End) -> bool {
        let at = self.jobs.iter().position(|job| job.id == token.job_id()).unwrap();
        let seen = &self.jobs[at].seen;
        let current = seen.state == State::Running && seen.claim_no == token.claim_no();
        if current {
            self.end(at, end);
        }
        current
    }
}
