//! The states of a job and every legal move between them, declared once. SQL takes its WHERE from here; nothing else
//! in the crate spells a set of states.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a job is in its life. The crate's front page has the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its time: delayed, backing off after a failure, or snoozed.
    Scheduled,
    /// Waits for a worker.
    Ready,
    /// Waits for another job with the same concurrency key to end.
    Blocked,
    /// Claimed by a worker.
    Running,
    /// Over: the handler finished it.
    Done,
    /// Over: out of attempts, or the handler said that no attempt will help.
    Failed,
    /// Over: somebody cancelled it before it was done.
    Cancelled,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Ready,
        Self::Blocked,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Blocked => "blocked",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Over for good, unless an operator retries it. Unique and concurrency keys are free then.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no [`State`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no job state")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// A legal move. Jobs are born [`State::Scheduled`], [`State::Ready`] or [`State::Blocked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// Maintenance: its time has come.
    Promote,
    /// Maintenance: its time has come, but its concurrency key is taken.
    Block,
    /// The end of the key's holder: its turn.
    Unblock,
    /// A worker takes it.
    Claim,
    /// The handler finished it.
    Complete,
    /// The handler failed for good, or for the last time; or too many leases were lost.
    Fail,
    /// The handler failed and has attempts left, or wants to be tried again later.
    Reschedule,
    /// Its worker shuts down, or its lease was lost.
    Release,
    /// Cancelled before it ran.
    Cancel,
    /// Cancelled while it ran, and the handler has ended.
    Stop,
    /// An operator wants it run again, or now.
    Revive,
    /// An operator wants it run again, but its concurrency key is taken.
    ReviveBlocked,
}

impl Move {
    pub const ALL: [Self; 12] = [
        Self::Promote,
        Self::Block,
        Self::Unblock,
        Self::Claim,
        Self::Complete,
        Self::Fail,
        Self::Reschedule,
        Self::Release,
        Self::Cancel,
        Self::Stop,
        Self::Revive,
        Self::ReviveBlocked,
    ];

    /// The states that it may start from.
    pub const fn from(self) -> &'static [State] {
        match self {
            Self::Promote | Self::Block => &[State::Scheduled],
            Self::Unblock => &[State::Blocked],
            Self::Claim => &[State::Ready],
            Self::Complete | Self::Fail | Self::Reschedule | Self::Release | Self::Stop => &[State::Running],
            Self::Cancel => &[State::Scheduled, State::Ready, State::Blocked],
            Self::Revive | Self::ReviveBlocked => &[State::Scheduled, State::Failed, State::Cancelled],
        }
    }

    /// The state that it leads to.
    pub const fn to(self) -> State {
        match self {
            Self::Promote | Self::Unblock | Self::Release | Self::Revive => State::Ready,
            Self::Block | Self::ReviveBlocked => State::Blocked,
            Self::Claim => State::Running,
            Self::Complete => State::Done,
            Self::Fail => State::Failed,
            Self::Reschedule => State::Scheduled,
            Self::Cancel | Self::Stop => State::Cancelled,
        }
    }

    pub fn is_legal_from(self, state: State) -> bool {
        self.from().contains(&state)
    }

    /// `state IN ('…', …)`, for the WHERE of the move's UPDATE.
    pub(crate) fn condition(self) -> String {
        let states: Vec<String> = self.from().iter().map(|state| format!("'{state}'")).collect();
        format!("state IN ({})", states.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_a_done_job() {
        assert!(Move::ALL.iter().all(|wanted| !wanted.is_legal_from(State::Done)));
    }

    #[test]
    fn only_operators_move_finished_jobs() {
        for wanted in Move::ALL {
            let from_finished = wanted.from().iter().any(|state| state.is_finished());
            assert_eq!(
                from_finished,
                matches!(wanted, Move::Revive | Move::ReviveBlocked),
                "{wanted:?}"
            );
        }
    }

    #[test]
    fn only_a_claim_leads_to_running_and_every_state_is_reachable() {
        for state in State::ALL {
            let into: Vec<Move> = Move::ALL
                .into_iter()
                .filter(|wanted| wanted.to() == state)
                .collect();
            assert!(!into.is_empty(), "{state}");
            if state == State::Running {
                assert_eq!(into, [Move::Claim]);
            }
        }
    }

    #[test]
    fn names_survive_text() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>().unwrap(), state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert!("Ready".parse::<State>().is_err());
    }

    #[test]
    fn the_condition_names_exactly_the_legal_states() {
        assert_eq!(
            Move::Cancel.condition(),
            "state IN ('scheduled', 'ready', 'blocked')"
        );
    }
}
