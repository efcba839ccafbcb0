//! Writes what was decided, in one UPDATE for any mix of decisions, and gives back or passes on the keys of jobs that
//! are over.

use serde::Serialize;
use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::config::QueueConfig;
use crate::job::Ending;
use crate::keys;
use crate::sql::{micros, now_us, text_literal};
use crate::state::{Move, State};

use super::decide::Settlement;
use super::{Held, Within, id_list};

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
