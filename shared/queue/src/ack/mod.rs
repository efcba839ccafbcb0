//! The end of a claim: locking the rows and seeing it through. What becomes of a job is decided in `decide`, written in
//! `write`; `plain` is the short way for the ends that need no decision.

mod decide;
mod plain;
mod write;

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, FromRow, MySqlConnection, Row};

use crate::config::QueueConfig;
use crate::id::{ClaimToken, JobId};
use crate::outcome::Outcome;
use crate::sql::now_us;
use crate::state::Move;

pub(crate) use decide::decide;
pub(crate) use plain::{PlainEnd, write_plain_ends};
pub(crate) use write::write;

/// How a claim ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Handler(Outcome),
    /// The worker shuts down.
    Release,
    /// Nobody extended the lease.
    LeaseLost,
}

/// What stores an end, without its texts: fewer bytes than this.
const STATEMENT_BYTES: usize = 1536;

impl End {
    /// About how long the statement is that stores it; bytes, and rather too many. Texts are written in hexadecimal, and an
    /// error twice: as the job's last error, and in its history.
    pub(crate) fn statement_bytes(&self, config: &QueueConfig) -> usize {
        let texts = match self {
            Self::Handler(Outcome::Done(output)) if output.is_null() => 0,
            Self::Handler(Outcome::Done(output)) => 2 * output.to_string().len().min(config.max_output_bytes),
            Self::Handler(Outcome::Retry { error, .. } | Outcome::Fail { error }) => {
                4 * error.len().min(config.max_error_bytes)
            }
            Self::Handler(Outcome::Snooze { reason, .. }) => {
                2 * reason.as_ref().map_or(0, String::len).min(config.max_error_bytes)
            }
            Self::Handler(Outcome::Cancelled) | Self::Release | Self::LeaseLost => 0,
        };
        STATEMENT_BYTES + texts
    }

    /// The longest output and the longest error, in bytes, that fit into a statement of so many.
    pub(crate) const fn longest_texts(statement_bytes: usize) -> (usize, usize) {
        let texts = statement_bytes.saturating_sub(STATEMENT_BYTES);
        (texts / 2, texts / 4)
    }
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
/// What became of an attempt to end a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acked {
    Applied,
    /// The claim had ended before: by [`Claim::complete`](crate::Claim::complete), or by an earlier try of this very
    /// write whose answer was lost. Or it is lost. Nothing was written.
    Bounced,
}

/// Whose transaction a decision is part of.
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
pub(crate) async fn ack_rows(
    conn: &mut MySqlConnection,
    ends: &[(ClaimToken, End)],
    config: &QueueConfig,
    within: Within,
) -> Result<(Vec<Acked>, bool), sqlx::Error> {
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
    let mut decisions = Vec::with_capacity(ends.len());
    let mut answers = Vec::with_capacity(ends.len());
    for (token, end) in ends {
        let held = rows_by_id
            .get(&token.job_id())
            .filter(|held| held.is_running_under(*token));
        answers.push(if held.is_some() {
            Acked::Applied
        } else {
            Acked::Bounced
        });
        decisions.extend(held.map(|held| (held, decide(held, end, config))));
    }
    let passed_on = write(conn, &decisions, config, within).await?;
    Ok((answers, passed_on))
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
