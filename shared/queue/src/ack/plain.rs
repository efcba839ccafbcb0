//! The short way to the end that nearly all claims come to: done, a small output or none, no keys. It needs no decision,
//! so the rows need not be read first: one UPDATE with the fence in its WHERE, that a caller can put in front of other
//! statements. It writes just what `decide` and `write` would.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::config::QueueConfig;
use crate::id::ClaimToken;
use crate::outcome::Outcome;
use crate::sql::{NOTED_NOW, now_us, text_literal};
use crate::state::Move;

use super::decide::stored_output;
use super::{End, id_list};

/// Longer outputs go the long way, which minds the size of its statements.
const MAX_OUTPUT_BYTES: usize = 4096;

/// An id in a list, a case of the outputs, and its share of what is around them.
const PLAIN_STATEMENT_BYTES: usize = 512;

/// The end of a claim on a job without keys, whose handler finished it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlainEnd {
    token: ClaimToken,
    output: Value,
    /// The output as it is stored.
    stored: Option<String>,
    /// Done jobs are kept for a while.
    is_kept: bool,
}

impl PlainEnd {
    /// `None`: that end takes the long way.
    pub(crate) fn of(token: ClaimToken, has_keys: bool, end: &End, config: &QueueConfig) -> Option<Self> {
        let End::Handler(Outcome::Done(output)) = end else {
            return None;
        };
        if has_keys {
            return None;
        }
        let stored = stored_output(output, config.max_output_bytes);
        if stored.as_ref().is_some_and(|text| text.len() > MAX_OUTPUT_BYTES) {
            return None;
        }
        let output = output.clone();
        Some(Self {
            token,
            output,
            stored,
            is_kept: config.retention.keeps_done(),
        })
    }

    /// For the long way.
    pub(crate) fn into_end(self) -> (ClaimToken, End) {
        (self.token, End::Handler(Outcome::Done(self.output)))
    }

    pub(crate) const fn token(&self) -> ClaimToken {
        self.token
    }

    /// How much longer it makes the statement that it is written in; bytes, and rather too many.
    pub(crate) fn statement_bytes(&self) -> usize {
        PLAIN_STATEMENT_BYTES + 2 * self.stored.as_ref().map_or(0, String::len)
    }

    /// As part of the caller's transaction; answers whether the claim's lease had not ended, and so whether it is written.
    pub(crate) async fn write_if_live(&self, conn: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
        let statement = format!(
            "{} AND order_us > {}",
            statement(self.token.claim_no(), &[self], now_us!()),
            now_us!()
        );
        let written = sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await?;
        Ok(written.rows_affected() == 1)
    }
}

/// Statements, each ended by `; `, to be preceded by [`NOTE_NOW`](crate::sql::NOTE_NOW): one for each number of claims that these jobs have seen, hence nearly always one. A
/// claim that is not current any more matches no row.
pub(crate) fn write_plain_ends(ends: &[PlainEnd]) -> String {
    let mut by_claim_no: BTreeMap<u32, Vec<&PlainEnd>> = BTreeMap::new();
    for end in ends {
        by_claim_no.entry(end.token.claim_no()).or_default().push(end);
    }
    let statements = by_claim_no
        .iter()
        .map(|(claim_no, ends)| statement(*claim_no, ends, NOTED_NOW) + "; ");
    statements.collect()
}

fn statement(claim_no: u32, ends: &[&PlainEnd], now: &str) -> String {
    let ids = id_list(ends.iter().map(|end| end.token.job_id()));
    let is_ours = format!(
        "id IN ({ids}) AND claim_no = {claim_no} AND {}",
        Move::Complete.condition()
    );
    // One queue's ends are all of one sort.
    if ends.iter().any(|end| !end.is_kept) {
        return format!("DELETE jobs FROM queue_jobs AS jobs FORCE INDEX (PRIMARY) WHERE {is_ours}");
    }
    format!(
        "UPDATE queue_jobs FORCE INDEX (PRIMARY) SET state = '{done}', order_us = {now}, output = {output} WHERE {is_ours}",
        done = Move::Complete.to(),
        output = output_by_id(ends),
    )
}

fn output_by_id(ends: &[&PlainEnd]) -> String {
    let mut cases = String::new();
    for end in ends {
        if let Some(output) = &end.stored {
            let (id, output) = (end.token.job_id().as_uuid().simple(), text_literal(output));
            let _ = write!(cases, " WHEN x'{id}' THEN {output}");
        }
    }
    if cases.is_empty() {
        "NULL".to_owned()
    } else {
        format!("CASE id{cases} END")
    }
}
