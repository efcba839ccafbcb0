//! What becomes of a job whose claim has ended: a pure decision. No SQL.

use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};

use crate::config::QueueConfig;
use crate::id::MAX_CLAIMS;
use crate::job::Ending;
use crate::outcome::Outcome;
use crate::state::Move;

use super::{End, Held};

/// What becomes of a job whose claim has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) step: Move,
    /// For [`Move::Reschedule`].
    pub(crate) delay: Duration,
    pub(crate) attempts: u32,
    pub(crate) lease_losses: u32,
    pub(crate) snoozes: u32,
    pub(crate) error: Option<String>,
    pub(crate) snooze_reason: Option<String>,
    pub(crate) output: Option<String>,
    /// The line in the history; success and snoozes have none.
    pub(crate) ending: Option<Ending>,
}

/// Decides. Knows nothing of time or rows beyond its arguments; only the backoff is random.
pub(crate) fn decide(held: &Held, end: &End, config: &QueueConfig) -> Decision {
    let mut decision = Decision {
        step: Move::Stop,
        delay: Duration::ZERO,
        attempts: held.attempts,
        lease_losses: held.lease_losses,
        snoozes: held.snoozes,
        error: None,
        snooze_reason: None,
        output: None,
        ending: Some(Ending::Cancelled),
    };
    match end {
        End::Handler(Outcome::Done(output)) => {
            decision.step = Move::Complete;
            decision.output = stored_output(output, config.max_output_bytes);
            decision.ending = None;
            return decision;
        }
        End::Handler(Outcome::Retry { error, .. } | Outcome::Fail { error }) => {
            decision.error = Some(cut(error, config.max_error_bytes));
        }
        _ => {}
    }
    // Whatever else the handler says, somebody wanted the job to end.
    if held.cancel_requested {
        return decision;
    }
    match end {
        End::Handler(Outcome::Done(_) | Outcome::Cancelled) => {}
        End::Handler(Outcome::Retry { after, .. }) => {
            decision.attempts += 1;
            if decision.attempts >= held.max_attempts {
                (decision.step, decision.ending) = (Move::Fail, Some(Ending::Failed));
            } else {
                (decision.step, decision.ending) = (Move::Reschedule, Some(Ending::Retried));
                decision.delay = backoff(decision.attempts, *after, config);
            }
        }
        End::Handler(Outcome::Fail { .. }) => {
            decision.attempts += 1;
            (decision.step, decision.ending) = (Move::Fail, Some(Ending::Failed));
        }
        End::Handler(Outcome::Snooze { after, reason }) => {
            decision.snoozes = decision.snoozes.saturating_add(1);
            decision.snooze_reason = reason.as_ref().map(|reason| cut(reason, config.max_error_bytes));
            (decision.step, decision.ending) = (Move::Reschedule, None);
            decision.delay = *after;
        }
        End::Release => (decision.step, decision.ending) = (Move::Release, Some(Ending::Released)),
        End::LeaseLost => {
            decision.lease_losses += 1;
            (decision.step, decision.ending) = (Move::Release, Some(Ending::LeaseLost));
            if decision.lease_losses >= u32::from(config.max_lease_losses) {
                decision.step = Move::Fail;
                decision.error = Some(format!(
                    "the lease was lost {} times: the worker dies, or stalls",
                    decision.lease_losses
                ));
            }
        }
    }
    if held.claim_no >= MAX_CLAIMS && !decision.step.to().is_finished() {
        decision.step = Move::Fail;
        decision
            .error
            .get_or_insert_with(|| format!("claimed {MAX_CLAIMS} times, and no end"));
    }
    decision
}

/// Exponential with full jitter; a wish of the handler's is the minimum, slightly spread so that many with the same
/// wish do not come back together.
fn backoff(failures: u32, after: Option<Duration>, config: &QueueConfig) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let ceiling = config.backoff_base.saturating_mul(factor).min(config.backoff_cap);
    let jittered = ceiling.mul_f64(rand::rng().random_range(0.0..=1.0));
    match after {
        Some(after) => jittered.max(after.mul_f64(rand::rng().random_range(1.0..=1.1))),
        None => jittered,
    }
}

pub(super) fn stored_output(output: &Value, max_bytes: usize) -> Option<String> {
    if output.is_null() {
        return None;
    }
    let text = output.to_string();
    if text.len() <= max_bytes {
        return Some(text);
    }
    let head = cut_at(&text, max_bytes / 2);
    Some(json!({ "truncated": true, "bytes": text.len(), "head": head }).to_string())
}

fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    format!("{}… ({} bytes)", cut_at(text, max_bytes), text.len())
}

fn cut_at(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::id::JobId;
    use crate::state::State;

    use super::*;

    fn held() -> impl Strategy<Value = Held> {
        (
            0..5_u32,
            1..6_u32,
            0..6_u32,
            0..3_u32,
            any::<bool>(),
            prop_oneof![Just(1), Just(MAX_CLAIMS)],
        )
            .prop_map(
                |(attempts, max_attempts, lease_losses, snoozes, cancel_requested, claim_no)| Held {
                    id: JobId::generate(),
                    kind: "k".to_owned(),
                    state: "running".to_owned(),
                    claim_no,
                    live: true,
                    attempts,
                    max_attempts,
                    lease_losses,
                    snoozes,
                    cancel_requested,
                    unique_key: None,
                    concurrency_key: None,
                },
            )
    }

    fn end() -> impl Strategy<Value = End> {
        let after = prop::option::of((0..10_000_u64).prop_map(Duration::from_millis));
        prop_oneof![
            any::<u32>().prop_map(|n| End::Handler(Outcome::Done(json!(n)))),
            (".*", after).prop_map(|(error, after)| End::Handler(Outcome::Retry { error, after })),
            (0..10_000_u64, prop::option::of(".*")).prop_map(|(ms, reason)| {
                End::Handler(Outcome::Snooze {
                    after: Duration::from_millis(ms),
                    reason,
                })
            }),
            Just(End::Handler(Outcome::Cancelled)),
            ".*".prop_map(|error| End::Handler(Outcome::Fail { error })),
            Just(End::Release),
            Just(End::LeaseLost),
        ]
    }

    proptest! {
        #[test]
        fn a_decision_is_legal_and_counts_what_it_should(held in held(), end in end()) {
            let config = QueueConfig::default();
            let decision = decide(&held, &end, &config);
            prop_assert!(decision.step.is_legal_from(State::Running), "{decision:?}");

            let is_done = matches!(end, End::Handler(Outcome::Done(_)));
            prop_assert_eq!(decision.step == Move::Complete, is_done);
            // A cancelled job ends, whatever its handler says.
            prop_assert!(!held.cancel_requested || decision.step.to().is_finished());

            let failure = matches!(end, End::Handler(Outcome::Retry { .. } | Outcome::Fail { .. }));
            let counted = decision.attempts - held.attempts;
            prop_assert_eq!(counted, u32::from(failure && !held.cancel_requested));
            let lost = u32::from(end == End::LeaseLost && !held.cancel_requested);
            prop_assert_eq!(decision.lease_losses - held.lease_losses, lost);

            if decision.step == Move::Reschedule {
                prop_assert!(decision.attempts < held.max_attempts || !failure);
            }
            if let End::Handler(Outcome::Retry { after: Some(after), .. }) = end
                && decision.step == Move::Reschedule
            {
                prop_assert!(decision.delay >= after);
            }
            if held.claim_no == MAX_CLAIMS {
                prop_assert!(decision.step.to().is_finished());
            }
            // Only success and snoozes leave no line in the history.
            let snoozed = matches!(end, End::Handler(Outcome::Snooze { .. }));
            prop_assert_eq!(decision.ending.is_none(), is_done || (snoozed && !held.cancel_requested
                ));
        }

        #[test]
        fn texts_are_cut_where_a_character_ends(text in ".*", max in 0..64_usize) {
            let short = cut(&text, max);
            prop_assert!(text.len() <= max || short.ends_with("bytes)"));
            prop_assert!(short.len() <= max.max(text.len()) + 32);
        }

        #[test]
        fn a_backoff_stays_within_its_bounds(failures in 1..200_u32, after in 0..100_000_u64) {
            let config = QueueConfig::default();
            let free = backoff(failures, None, &config);
            prop_assert!(free <= config.backoff_cap);
            let after = Duration::from_millis(after);
            let wished = backoff(failures, Some(after), &config);
            prop_assert!(wished >= after && wished <= config.backoff_cap.max(after.mul_f64(1.1)));
        }
    }
}
