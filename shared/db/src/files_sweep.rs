//! `rag_files_sweep`: by what this database is known in the sweep's marker in FILES_ROOT, and the last sweep's report: one row.
//! Beside it what a sweep asks of `rag_files`: whose contents lie where.

use chrono::{DateTime, Utc};
use rag_domain::FileId;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, exactly_one, pieces, push_list};

/// The row.
#[derive(Debug, Clone, FromRow)]
pub struct SweepRow {
    pub database_id: String,
    /// What the marker says beside the id; `None`: no folder was claimed yet.
    stamp: Option<String>,
    /// What the marker says instead if a process died while it was written.
    next_stamp: Option<String>,
    pub swept_at: Option<DateTime<Utc>>,
    #[sqlx(json(nullable))]
    pub report: Option<Value>,
}

impl SweepRow {
    /// A row as it may be.
    pub fn new(database_id: &str, stamp: Option<&str>, next_stamp: Option<&str>) -> Self {
        Self {
            database_id: database_id.to_owned(),
            stamp: stamp.map(str::to_owned),
            next_stamp: next_stamp.map(str::to_owned),
            swept_at: None,
            report: None,
        }
    }

    /// A folder was claimed before, so it has a marker.
    pub fn is_claimed(&self) -> bool {
        self.stamp.is_some()
    }

    /// No process has begun or finished writing the marker between the two reads.
    pub fn has_same_stamps(&self, other: &Self) -> bool {
        (&self.stamp, &self.next_stamp) == (&other.stamp, &other.next_stamp)
    }

    /// The stamp that a process has begun to write and not finished: it is still writing, or has died. The next process finishes it.
    pub fn unfinished_stamp(&self) -> Option<&str> {
        self.next_stamp.as_deref()
    }

    /// What the marker must say while it is not being written.
    pub fn last_stamp(&self) -> Option<&str> {
        self.next_stamp.as_deref().or(self.stamp.as_deref())
    }

    /// Whether this database has written a marker with this stamp last.
    pub fn has_written(&self, stamp: &str) -> bool {
        [&self.stamp, &self.next_stamp]
            .into_iter()
            .flatten()
            .any(|written| written == stamp)
    }
}

pub async fn get(db: &mut MySqlConnection) -> Result<SweepRow, DbError> {
    let row = sqlx::query_as(
        "SELECT database_id, stamp, next_stamp, swept_at, report FROM rag_files_sweep WHERE only_row = 1",
    )
    .fetch_optional(db)
    .await?;
    row.ok_or(DbError::NotFound("row of rag_files_sweep"))
}

/// The marker, which says `seen` now, is about to be written with `next`. [`DbError::Conflict`] if somebody else has written it
/// since `root` was read.
pub async fn begin_stamp(
    db: &mut MySqlConnection,
    root: &SweepRow,
    seen: Option<&str>,
    next: &str,
) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_files_sweep SET stamp = ?, next_stamp = ? \
         WHERE only_row = 1 AND stamp <=> ? AND next_stamp <=> ?",
    )
    .bind(seen)
    .bind(next)
    .bind(&root.stamp)
    .bind(&root.next_stamp)
    .execute(db)
    .await?;
    exactly_one(&result, "marker of FILES_ROOT", next)
}

/// The marker says `next` now.
pub async fn end_stamp(db: &mut MySqlConnection, next: &str) -> Result<(), DbError> {
    let result = sqlx::query(
        "UPDATE rag_files_sweep SET stamp = next_stamp, next_stamp = NULL WHERE only_row = 1 AND next_stamp = ?",
    )
    .bind(next)
    .execute(db)
    .await?;
    exactly_one(&result, "marker of FILES_ROOT", next)
}

/// What a sweep has found.
pub async fn set_report(db: &mut MySqlConnection, report: &Value) -> Result<(), DbError> {
    sqlx::query("UPDATE rag_files_sweep SET swept_at = UTC_TIMESTAMP(6), report = ? WHERE only_row = 1")
        .bind(Json(report))
        .execute(db)
        .await?;
    Ok(())
}

/// Where the contents of these files are, deleted ones included.
pub async fn list_paths_of(
    db: &mut MySqlConnection,
    ids: &[FileId],
) -> Result<Vec<(FileId, String)>, DbError> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in pieces(ids) {
        let mut query =
            sqlx::QueryBuilder::<sqlx::MySql>::new("SELECT id, local_path FROM rag_files WHERE id IN ");
        push_list(&mut query, ids.iter().copied().map(Text));
        let rows: Vec<(Text<FileId>, String)> = query.build_query_as().fetch_all(&mut *db).await?;
        found.extend(rows.into_iter().map(|(id, path)| (id.0, path)));
    }
    Ok(found)
}

/// Where the contents of the files of all domains are, by the files' ids, those behind `after`. Without those that are being
/// deleted: their contents may be gone.
pub async fn list_paths(
    db: &mut MySqlConnection,
    after: &str,
    limit: u32,
) -> Result<Vec<(FileId, String)>, DbError> {
    let rows: Vec<(Text<FileId>, String)> = sqlx::query_as(
        "SELECT id, local_path FROM rag_files WHERE deleted_at IS NULL AND id > ? ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(id, path)| (id.0, path)).collect())
}
