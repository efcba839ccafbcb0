//! From a row to a job. A row that this version cannot read, because another one wrote it or somebody's hand did, is told with
//! everything of it that can be read.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::mysql::MySqlRow;
use sqlx::{Decode, MySql, Row as _, Type};

use crate::id::{JobId, WorkerId};
use crate::job::{EndedClaim, Job, UnreadableJob};
use crate::sql::time_of;
use crate::state::State;

pub(crate) const COLUMNS: &str = "id, kind, CAST(state AS CHAR) AS state, order_us, tenant, payload, priority, unique_key, \
     concurrency_key, trace_context, attempts, max_attempts, snoozes, lease_losses, \
     CAST(cancel_requested AS SIGNED) AS cancel_requested, last_error, snooze_reason, output, worker_id, created_at, \
     started_at, claimed_at, history";

/// The columns of one row, and which of them could not be read.
struct Columns<'r> {
    row: &'r MySqlRow,
    unreadable: Vec<&'static str>,
}

impl<'r> Columns<'r> {
    fn get<T: Decode<'r, MySql> + Type<MySql>>(&mut self, name: &'static str) -> Option<T> {
        let value = self.row.try_get(name).ok();
        if value.is_none() {
            self.unreadable.push(name);
        }
        value
    }

    /// Of a column that may be NULL.
    fn find<T: Decode<'r, MySql> + Type<MySql>>(&mut self, name: &'static str) -> Option<T> {
        self.get::<Option<T>>(name).flatten()
    }

    /// Of a column that has the year 1970 for "not yet".
    fn time(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        let time: Option<DateTime<Utc>> = self.get(name);
        time.filter(|time| time.timestamp() > 0)
    }

    fn json<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let text: String = self.find(name)?;
        let value = serde_json::from_str(&text).ok();
        if value.is_none() {
            self.unreadable.push(name);
        }
        value
    }
}

/// When the id was made, which is when the job was enqueued.
fn id_time(id: JobId) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = id.as_uuid().get_timestamp()?.to_unix();
    DateTime::from_timestamp(seconds.cast_signed(), nanos)
}

/// The outer error is for a row without an id.
pub(crate) fn job_from_row(row: &MySqlRow) -> Result<Result<Job, UnreadableJob>, sqlx::Error> {
    let id: JobId = row.try_get("id")?;
    let mut columns = Columns {
        row,
        unreadable: Vec::new(),
    };
    let state: Option<State> = columns.get::<String>("state").and_then(|text| text.parse().ok());
    if state.is_none() && !columns.unreadable.contains(&"state") {
        columns.unreadable.push("state");
    }
    let order_us: i64 = columns.get("order_us").unwrap_or_default();
    let (kind, tenant) = (columns.get("kind").unwrap_or_default(), columns.find("tenant"));
    let payload = columns.json::<Value>("payload");
    let created_at = columns.get("created_at");
    let (started_at, claimed_at) = (columns.time("started_at"), columns.time("claimed_at"));
    let finished_at = time_of(order_us).filter(|_| state.is_some_and(State::is_finished));
    let (attempts, max_attempts) = (
        columns.get("attempts").unwrap_or_default(),
        columns.get("max_attempts").unwrap_or_default(),
    );
    let last_error = columns.find("last_error");
    let job = Job {
        id,
        kind,
        state: state.unwrap_or(State::Failed),
        tenant,
        payload: payload.unwrap_or_default(),
        priority: columns.get("priority").unwrap_or_default(),
        unique_key: columns.find("unique_key"),
        concurrency_key: columns.find("concurrency_key"),
        trace_context: columns.find("trace_context"),
        attempts,
        max_attempts,
        snoozes: columns.get("snoozes").unwrap_or_default(),
        lease_losses: columns.get("lease_losses").unwrap_or_default(),
        cancel_requested: columns.get::<i64>("cancel_requested").unwrap_or_default() != 0,
        last_error,
        snooze_reason: columns.find("snooze_reason"),
        output: columns.json("output"),
        worker: columns
            .get("worker_id")
            .filter(|worker| !WorkerId::is_none(worker)),
        created_at: created_at.unwrap_or_default(),
        run_at: time_of(order_us).filter(|_| state == Some(State::Scheduled)),
        lease_until: time_of(order_us).filter(|_| state == Some(State::Running)),
        started_at,
        claimed_at,
        finished_at,
        history: columns.json::<Vec<EndedClaim>>("history").unwrap_or_default(),
    };
    if columns.unreadable.is_empty() {
        return Ok(Ok(job));
    }
    Ok(Err(UnreadableJob {
        id,
        columns: columns.unreadable,
        state,
        created_at: created_at.or_else(|| id_time(id)),
        kind: job.kind,
        tenant: job.tenant,
        payload: job.payload,
        attempts: job.attempts,
        max_attempts: job.max_attempts,
        cancel_requested: job.cancel_requested,
        last_error: job.last_error,
        output: job.output,
        started_at: job.started_at,
        finished_at: job.finished_at,
        history: job.history,
    }))
}
