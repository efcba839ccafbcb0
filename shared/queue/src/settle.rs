//! The end of a claim: what becomes of the job (a pure decision), and writing it down.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection, Row};

use crate::config::QueueConfig;
use crate::id::{ClaimToken, JobId, MAX_CLAIMS};
use crate::job::Ending;
use crate::keys;
use crate::outcome::Outcome;
use crate::sql::{micros, now_us, text_literal};
use crate::state::{Move, State};

/// How a claim ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Handler(Outcome),
    /// The worker shuts down.
    HandBack,
    /// Nobody extended the lease.
    LeaseLost,
}

/// A job's row, as far as its claim's end depends on it; locked.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) id: JobId,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) claim_no: u32,
    /// The lease has not ended.
    pub(crate) live: bool,
    pub(crate) attempts: u32,
    pub(crate) max_attempts: u32,
    pub(crate) lease_losses: u32,
    pub(crate) snoozes: u32,
    pub(crate) cancel_requested: bool,
    pub(crate) unique_key: Option<String>,
    pub(crate) concurrency_key: Option<String>,
}

pub(crate) const HELD_COLUMNS: &str = concat!(
    "id, kind, CAST(state AS CHAR) AS state, claim_no, CAST(order_us > ",
    now_us!(),
    " AS SIGNED) AS live, attempts, max_attempts, lease_losses, snoozes, \
     CAST(cancel_requested AS SIGNED) AS cancel_requested, unique_key, concurrency_key"
);

impl FromRow<'_, sqlx::mysql::MySqlRow> for Held {
    fn from_row(row: &sqlx::mysql::MySqlRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            state: row.try_get("state")?,
            claim_no: row.try_get("claim_no")?,
            live: row.try_get::<i64, _>("live")? != 0,
            attempts: row.try_get("attempts")?,
            max_attempts: row.try_get("max_attempts")?,
            lease_losses: row.try_get("lease_losses")?,
            snoozes: row.try_get("snoozes")?,
            cancel_requested: row.try_get::<i64, _>("cancel_requested")? != 0,
            unique_key: row.try_get("unique_key")?,
            concurrency_key: row.try_get("concurrency_key")?,
        })
    }
}

impl Held {
    pub(crate) fn token(&self) -> ClaimToken {
        ClaimToken::new(self.id, self.claim_no)
    }

    pub(crate) fn is_running_under(&self, token: ClaimToken) -> bool {
        self.state == Move::Claim.to().as_str() && self.token() == token
    }
}

/// What becomes of a job whose claim has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settlement {
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
pub(crate) fn settle(held: &Held, end: &End, config: &QueueConfig) -> Settlement {
    let mut settled = Settlement {
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
            settled.step = Move::Complete;
            settled.output = stored_output(output, config.max_output_bytes);
            settled.ending = None;
            return settled;
        }
        End::Handler(Outcome::Retry { error, .. } | Outcome::Fail { error }) => {
            settled.error = Some(cut(error, config.max_error_bytes));
        }
        _ => {}
    }
    // Whatever else the handler says, somebody wanted the job to end.
    if held.cancel_requested {
        return settled;
    }
    match end {
        End::Handler(Outcome::Done(_) | Outcome::Cancelled) => {}
        End::Handler(Outcome::Retry { after, .. }) => {
            settled.attempts += 1;
            if settled.attempts >= held.max_attempts {
                (settled.step, settled.ending) = (Move::Fail, Some(Ending::Failed));
            } else {
                (settled.step, settled.ending) = (Move::Reschedule, Some(Ending::Retried));
                settled.delay = backoff(settled.attempts, *after, config);
            }
        }
        End::Handler(Outcome::Fail { .. }) => {
            settled.attempts += 1;
            (settled.step, settled.ending) = (Move::Fail, Some(Ending::Failed));
        }
        End::Handler(Outcome::Snooze { after, reason }) => {
            settled.snoozes = settled.snoozes.saturating_add(1);
            // Only losses in a row tell that a job kills its workers: one that works in pieces may outlive many workers.
            settled.lease_losses = 0;
            settled.snooze_reason = reason.as_ref().map(|reason| cut(reason, config.max_error_bytes));
            (settled.step, settled.ending) = (Move::Reschedule, None);
            settled.delay = *after;
        }
        End::HandBack => (settled.step, settled.ending) = (Move::Release, Some(Ending::HandedBack)),
        End::LeaseLost => {
            settled.lease_losses += 1;
            (settled.step, settled.ending) = (Move::Release, Some(Ending::LeaseLost));
            if settled.lease_losses >= u32::from(config.max_lease_losses) {
                settled.step = Move::Fail;
                settled.error = Some(format!(
                    "the lease was lost {} times: the worker dies, or stalls",
                    settled.lease_losses
                ));
            }
        }
    }
    if held.claim_no >= MAX_CLAIMS && !settled.step.to().is_finished() {
        settled.step = Move::Fail;
        settled
            .error
            .get_or_insert_with(|| format!("claimed {MAX_CLAIMS} times, and no end"));
    }
    settled
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

fn stored_output(output: &Value, max_bytes: usize) -> Option<String> {
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

/// What became of an attempt to end a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Applied,
    /// The claim had ended before: by [`Claim::complete`](crate::Claim::complete), or by an earlier try of this very
    /// write whose answer was lost. Or it is lost. Nothing was written.
    Bounced,
}

/// Whose transaction a settlement is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// The caller's, who began it and ends it.
    Callers,
    /// One of its own, begun and committed on the way, which saves two round trips. After an error the connection must
    /// not be used again.
    Own,
}

/// Ends claims: locks the rows, decides, writes. The transaction must hold no other job's row, and jobs with keys must
/// come one per transaction. Answers in the order of `ends`, and whether a key was passed on.
pub(crate) async fn settle_rows(
    conn: &mut MySqlConnection,
    ends: &[(ClaimToken, End)],
    config: &QueueConfig,
    within: Within,
) -> Result<(Vec<Settled>, bool), sqlx::Error> {
    let begin = if within == Within::Own {
        "START TRANSACTION; "
    } else {
        ""
    };
    let ids = id_list(ends.iter().map(|(token, _)| token.job_id()));
    let select = format!(
        "{begin}SELECT {HELD_COLUMNS} FROM queue_jobs FORCE INDEX (PRIMARY) WHERE id IN ({ids}) \
             ORDER BY id FOR UPDATE"
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(select)).fetch_all(&mut *conn).await?;
    let mut rows_by_id = HashMap::with_capacity(rows.len());
    for row in &rows {
        let held = Held::from_row(row)?;
        rows_by_id.insert(held.id, held);
    }
    let mut settlements = Vec::with_capacity(ends.len());
    let mut answers = Vec::with_capacity(ends.len());
    for (token, end) in ends {
        let held = rows_by_id
            .get(&token.job_id())
            .filter(|held| held.is_running_under(*token));
        answers.push(if held.is_some() {
            Settled::Applied
        } else {
            Settled::Bounced
        });
        settlements.extend(held.map(|held| (held, settle(held, end, config))));
    }
    let passed_on = write(conn, &settlements, config, within).await?;
    Ok((answers, passed_on))
}

/// Writes settlements of locked rows, and gives back or passes on the keys of jobs that are over.
pub(crate) async fn write(
    conn: &mut MySqlConnection,
    settlements: &[(&Held, Settlement)],
    config: &QueueConfig,
    within: Within,
) -> Result<bool, sqlx::Error> {
    let over: Vec<&Held> = settlements
        .iter()
        .filter(|(_, settled)| settled.step.to().is_finished())
        .map(|(held, _)| *held)
        .collect();
    let has_keys = over
        .iter()
        .any(|held| held.unique_key.is_some() || held.concurrency_key.is_some());
    let mut statements = Vec::new();
    if !settlements.is_empty() {
        statements.push(update_statement(settlements, config));
    }
    if within == Within::Own && !has_keys {
        statements.push("COMMIT".to_owned());
    }
    if !statements.is_empty() {
        sqlx::raw_sql(AssertSqlSafe(statements.join("; ")))
            .execute(&mut *conn)
            .await?;
    }
    if !has_keys {
        return Ok(false);
    }
    let mut passed_on = false;
    for held in over {
        if let Some(key) = &held.concurrency_key {
            keys::release_concurrency(conn, key, held.id).await?;
            passed_on = true;
        }
        if let Some(key) = &held.unique_key {
            keys::release_unique(conn, &held.kind, key, held.id).await?;
        }
    }
    if within == Within::Own {
        sqlx::raw_sql("COMMIT").execute(conn).await?;
    }
    Ok(passed_on)
}

/// One row of the table that the UPDATE joins.
#[derive(Serialize)]
struct Change<'a> {
    id: String,
    claim_no: u32,
    state: &'static str,
    /// `finish`: now; `queue`: its rank; `wait`: now and `delay_us`.
    place: &'static str,
    delay_us: i64,
    attempts: u32,
    lease_losses: u32,
    snoozes: u32,
    error: Option<&'a str>,
    snooze_reason: Option<&'a str>,
    output: Option<&'a str>,
    ending: Option<Ending>,
}

/// One UPDATE for any mix of settlements: their values come as a JSON table, so its text is built once for all.
fn update_statement(settlements: &[(&Held, Settlement)], config: &QueueConfig) -> String {
    let changes: Vec<Change<'_>> = settlements
        .iter()
        .map(|(held, settled)| Change {
            id: held.id.as_uuid().simple().to_string(),
            claim_no: held.claim_no,
            state: settled.step.to().as_str(),
            place: match settled.step.to() {
                State::Scheduled => "wait",
                State::Done | State::Failed | State::Cancelled => "finish",
                State::Ready | State::Blocked | State::Running => "queue",
            },
            delay_us: micros(settled.delay),
            attempts: settled.attempts,
            lease_losses: settled.lease_losses,
            snoozes: settled.snoozes,
            error: settled.error.as_deref(),
            snooze_reason: settled.snooze_reason.as_deref(),
            output: settled.output.as_deref(),
            ending: settled.ending,
        })
        .collect();
    let changes = text_literal(&serde_json::to_string(&changes).unwrap_or_default());
    // Every settlement starts from the same states.
    let from = Move::Complete.condition();
    let ids = id_list(settlements.iter().map(|(held, _)| held.id));
    format!(
        "UPDATE JSON_TABLE({changes}, '$[*]' COLUMNS (\
           id CHAR(32) PATH '$.id', claim_no INT UNSIGNED PATH '$.claim_no', state VARCHAR(16) PATH '$.state', \
           place VARCHAR(8) PATH '$.place', delay_us BIGINT PATH '$.delay_us', attempts INT UNSIGNED PATH '$.attempts', \
           lease_losses INT UNSIGNED PATH '$.lease_losses', snoozes INT UNSIGNED PATH '$.snoozes', \
           error MEDIUMTEXT PATH '$.error', snooze_reason TEXT PATH '$.snooze_reason', \
           output LONGTEXT PATH '$.output', ending VARCHAR(16) PATH '$.ending')) AS v \
         STRAIGHT_JOIN queue_jobs AS j FORCE INDEX (PRIMARY) ON j.id = UNHEX(v.id) \
         SET j.state = v.state, \
           j.order_us = CASE v.place WHEN 'finish' THEN {now} WHEN 'queue' THEN j.rank_us ELSE {now} + v.delay_us END, \
           j.attempts = v.attempts, j.lease_losses = v.lease_losses, j.snoozes = v.snoozes, \
           j.last_error = COALESCE(v.error, j.last_error), \
           j.snooze_reason = COALESCE(v.snooze_reason, j.snooze_reason), j.output = v.output, \
           j.finished_at = IF(v.place = 'finish', UTC_TIMESTAMP(6), NULL), \
           j.history = IF(v.ending IS NULL, j.history, JSON_ARRAY_APPEND(\
             CASE WHEN j.history IS NULL THEN '[]' WHEN JSON_LENGTH(j.history) < {max_history} THEN j.history \
               ELSE JSON_REMOVE(j.history, '$[0]') END, '$', \
             JSON_OBJECT('ended', v.ending, 'error', v.error, 'worker', LOWER(HEX(j.worker_id)), \
               'started_at', DATE_FORMAT(j.claimed_at, '%Y-%m-%dT%H:%i:%s.%fZ'), \
               'ended_at', DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')))) \
         WHERE j.id IN ({ids}) AND j.claim_no = v.claim_no AND j.{from}",
        now = now_us!(),
        max_history = config.max_history.max(1),
    )
}

/// `x'…', x'…'`: ids for an IN list of any length, in order.
pub(crate) fn id_list(ids: impl Iterator<Item = JobId>) -> String {
    let mut ids: Vec<JobId> = ids.collect();
    ids.sort_unstable();
    let ids: Vec<String> = ids
        .iter()
        .map(|id| format!("x'{}'", id.as_uuid().simple()))
        .collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            Just(End::HandBack),
            Just(End::LeaseLost),
        ]
    }

    proptest! {
        #[test]
        fn a_settlement_is_legal_and_counts_what_it_should(held in held(), end in end()) {
            let config = QueueConfig::default();
            let settled = settle(&held, &end, &config);
            prop_assert!(settled.step.is_legal_from(State::Running), "{settled:?}");

            let is_done = matches!(end, End::Handler(Outcome::Done(_)));
            prop_assert_eq!(settled.step == Move::Complete, is_done);
            // A cancelled job ends, whatever its handler says.
            prop_assert!(!held.cancel_requested || settled.step.to().is_finished());

            let failure = matches!(end, End::Handler(Outcome::Retry { .. } | Outcome::Fail { .. }));
            let counted = settled.attempts - held.attempts;
            prop_assert_eq!(counted, u32::from(failure && !held.cancel_requested));
            let lost = u32::from(end == End::LeaseLost && !held.cancel_requested);
            let snoozed = matches!(end, End::Handler(Outcome::Snooze { .. })) && !held.cancel_requested;
            let before = if snoozed { 0 } else { held.lease_losses };
            prop_assert_eq!(settled.lease_losses, before + lost);

            if settled.step == Move::Reschedule {
                prop_assert!(settled.attempts < held.max_attempts || !failure);
            }
            if let End::Handler(Outcome::Retry { after: Some(after), .. }) = end
                && settled.step == Move::Reschedule
            {
                prop_assert!(settled.delay >= after);
            }
            if held.claim_no == MAX_CLAIMS {
                prop_assert!(settled.step.to().is_finished());
            }
            // Only success and snoozes leave no line in the history.
            let snoozed = matches!(end, End::Handler(Outcome::Snooze { .. }));
            prop_assert_eq!(settled.ending.is_none(), is_done || (snoozed && !held.cancel_requested
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
