//! Writes what was decided, and gives back or passes on the keys of jobs that are over.

use std::fmt::Write;

use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::config::QueueConfig;
use crate::keys;
use crate::sql::{micros, now_us, text_literal};
use crate::state::{Move, State};

use super::decide::Decision;
use super::{Held, Within};

/// Writes decisions of locked rows, and gives back or passes on the keys of jobs that are over.
pub(crate) async fn write(
    conn: &mut MySqlConnection,
    decisions: &[(&Held, Decision)],
    config: &QueueConfig,
    within: Within,
) -> Result<bool, sqlx::Error> {
    let over: Vec<&Held> = decisions
        .iter()
        .filter(|(_, decision)| decision.step.to().is_finished())
        .map(|(held, _)| *held)
        .collect();
    let has_keys = over
        .iter()
        .any(|held| held.unique_key.is_some() || held.concurrency_key.is_some());
    let mut statements: Vec<String> = decisions
        .iter()
        .map(|(held, decision)| update_statement(held, decision, config))
        .collect();
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

/// By the primary key, values as literals: one statement a job, all sent at once. One UPDATE that joins a table of values
/// would be a single statement, but the server puts what it is to write into a temporary table on disk first.
fn update_statement(held: &Held, decision: &Decision, config: &QueueConfig) -> String {
    let is_ours = format!(
        "id = x'{id}' AND claim_no = {claim_no} AND {from}",
        id = held.id.as_uuid().simple(),
        claim_no = held.claim_no,
        from = decision.step.condition(),
    );
    if decision.step == Move::Complete && !config.retention.keeps_done() {
        return format!("DELETE FROM queue_jobs WHERE {is_ours}");
    }
    let now = now_us!();
    let order_us = match decision.step.to() {
        State::Scheduled => format!("{now} + {}", micros(decision.delay)),
        State::Done | State::Failed | State::Cancelled => now.to_owned(),
        State::Ready | State::Blocked | State::Running => "rank_us".to_owned(),
    };
    let mut statement = format!(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = '{state}', order_us = {order_us}, \
           attempts = {attempts}, lease_losses = {lease_losses}, snoozes = {snoozes}, output = {output}",
        state = decision.step.to(),
        attempts = decision.attempts,
        lease_losses = decision.lease_losses,
        snoozes = decision.snoozes,
        output = optional_literal(decision.output.as_deref()),
    );
    if let Some(error) = &decision.error {
        let _ = write!(statement, ", last_error = {}", text_literal(error));
    }
    if let Some(reason) = &decision.snooze_reason {
        let _ = write!(statement, ", snooze_reason = {}", text_literal(reason));
    }
    if let Some(ending) = decision.ending {
        let _ = write!(
            statement,
            ", history = JSON_ARRAY_APPEND(CASE WHEN history IS NULL THEN '[]' \
               WHEN JSON_LENGTH(history) < {max_history} THEN history ELSE JSON_REMOVE(history, '$[0]') END, '$', \
               JSON_OBJECT('ended', '{ending}', 'error', {error}, 'worker', LOWER(HEX(worker_id)), \
                 'started_at', DATE_FORMAT(claimed_at, '%Y-%m-%dT%H:%i:%s.%fZ'), \
                 'ended_at', DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')))",
            max_history = config.max_history.max(1),
            ending = ending.as_str(),
            error = optional_literal(decision.error.as_deref()),
        );
    }
    let _ = write!(statement, " WHERE {is_ours}");
    statement
}

fn optional_literal(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_owned(), text_literal)
}
