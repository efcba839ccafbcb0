//! `rag_sync_runs` with its items and findings: the progress of syncs that work through many things.
//!
//! A run belongs to a job, and outlives its workers. Its phase and position say where it continues, its items what is left
//! to do, and its findings what it found. The callers write all of it in transactions that are fenced by the job's claim,
//! together with what they change elsewhere, so that numbers and rows agree after any crash.

pub mod findings;
pub mod items;

use chrono::{DateTime, Utc};
use rag_domain::{SyncPhase, Transition};
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Move, Text, exactly_one, make_move, push_list};

/// A row of `rag_sync_runs`.
#[derive(Debug, Clone, FromRow)]
pub struct Run {
    /// The queue's id of the job.
    pub job_id: String,
    #[sqlx(try_from = "Text<SyncPhase>")]
    pub phase: SyncPhase,
    pub position: Option<String>,
    #[sqlx(json)]
    pub counts: Value,
    pub items_total: u32,
    pub items_done: u32,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str =
    "job_id, phase, position, counts, items_total, items_done, started_at, finished_at, updated_at";

/// Rows per statement when a run is forgotten.
const FORGET_CHUNK: u32 = 5000;

/// Makes the row if this job has none; the answer tells whether it is new.
pub async fn begin(db: &mut MySqlConnection, job_id: &str, first: SyncPhase) -> Result<bool, DbError> {
    let result = sqlx::query(
        "INSERT IGNORE INTO rag_sync_runs (job_id, phase, counts, started_at) VALUES (?, ?, '{}', UTC_TIMESTAMP(6))",
    )
    .bind(job_id)
    .bind(Text(first))
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

pub async fn find(db: &mut MySqlConnection, job_id: &str) -> Result<Option<Run>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM rag_sync_runs WHERE job_id = ?");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(job_id)
        .fetch_optional(db)
        .await?)
}

/// The runs of these jobs, in no order.
pub async fn find_many(db: &mut MySqlConnection, job_ids: &[String]) -> Result<Vec<Run>, DbError> {
    if job_ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT ");
    query.push(COLUMNS).push(" FROM rag_sync_runs WHERE job_id IN ");
    push_list(&mut query, job_ids);
    Ok(query.build_query_as().fetch_all(db).await?)
}

/// Moves the run to where it continues: a phase, and a position in it.
pub async fn go_to(
    db: &mut MySqlConnection,
    job_id: &str,
    to: Transition<SyncPhase>,
    position: Option<&str>,
) -> Result<(), DbError> {
    let Move { set, legal } = make_move("phase", &to);
    let sql = format!(
        "UPDATE rag_sync_runs SET {set}, position = ?, updated_at = UTC_TIMESTAMP(6) \
         WHERE job_id = ? AND {legal} AND finished_at IS NULL"
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(position)
        .bind(job_id)
        .execute(db)
        .await?;
    exactly_one(&result, "sync", job_id)
}

/// Sets the numbers of the report, and how many items are done.
pub async fn set_counts(
    db: &mut MySqlConnection,
    job_id: &str,
    counts: &impl Serialize,
    items_done: u32,
) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_sync_runs SET counts = ?, items_done = ?, updated_at = UTC_TIMESTAMP(6) WHERE job_id = ? AND finished_at IS NULL",
    )
    .bind(Json(counts))
    .bind(items_done)
    .bind(job_id)
    .execute(db)
    .await?;
    exactly_one(&result, "sync", job_id)
}

pub async fn set_total(db: &mut MySqlConnection, job_id: &str, items_total: u32) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_sync_runs SET items_total = ?, updated_at = UTC_TIMESTAMP(6) WHERE job_id = ? AND finished_at IS NULL",
    )
    .bind(items_total)
    .bind(job_id)
    .execute(db)
    .await?;
    exactly_one(&result, "sync", job_id)
}

/// The run has ended.
pub async fn finish(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_sync_runs SET finished_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6) \
         WHERE job_id = ? AND finished_at IS NULL",
    )
    .bind(job_id)
    .execute(db)
    .await?;
    exactly_one(&result, "sync", job_id)
}

/// Runs without a change for so long, oldest first.
pub async fn list_old(
    db: &mut MySqlConnection,
    older_than_seconds: u32,
    limit: u32,
) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT job_id FROM rag_sync_runs WHERE updated_at < UTC_TIMESTAMP(6) - INTERVAL ? SECOND \
         ORDER BY updated_at LIMIT ?",
    )
    .bind(older_than_seconds)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// Removes a run with its items and findings, in pieces. Not to be called in a transaction.
pub async fn forget(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    for table in ["rag_sync_findings", "rag_sync_items"] {
        let sql = format!("DELETE FROM {table} WHERE job_id = ? LIMIT {FORGET_CHUNK}");
        loop {
            let result = sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(job_id)
                .execute(&mut *db)
                .await?;
            if result.rows_affected() < u64::from(FORGET_CHUNK) {
                break;
            }
        }
    }
    sqlx::query("DELETE FROM rag_sync_runs WHERE job_id = ?")
        .bind(job_id)
        .execute(db)
        .await?;
    Ok(())
}
