//! `rag_index_files`: which files belong to an index, in which order, with which wish for chunking (R-B2).
//!
//! Callers hold the lock of the index's row while they change its composition; each change is noted in that row.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rag_domain::{ChunkingStrategy, FileId, IndexId};
use sqlx::types::Json;
use sqlx::{FromRow, MySql, MySqlConnection, QueryBuilder};

use crate::DbError;
use crate::error::on_duplicate;
use crate::sql::{Text, pieces, push_list};

/// A row of `rag_index_files`.
#[derive(Debug, Clone, FromRow)]
pub struct Link {
    #[sqlx(try_from = "Text<IndexId>")]
    pub index_id: IndexId,
    #[sqlx(try_from = "Text<FileId>")]
    pub file_id: FileId,
    pub include_order: u32,
    /// Overrides the file's strategy within this index.
    #[sqlx(json(nullable))]
    pub chunking_strategy: Option<ChunkingStrategy>,
    pub created_at: DateTime<Utc>,
}

/// Links a file; without `include_order` it goes to the end. Errors with [`DbError::Duplicate`] if it is linked already.
pub async fn insert(
    db: &mut MySqlConnection,
    index_id: IndexId,
    file_id: FileId,
    include_order: Option<u32>,
    strategy: Option<ChunkingStrategy>,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO rag_index_files (index_id, file_id, include_order, chunking_strategy) \
         SELECT ?, ?, COALESCE(?, (SELECT COALESCE(MAX(include_order) + 1, 0) FROM rag_index_files WHERE index_id = ?)), ?",
    )
    .bind(Text(index_id))
    .bind(Text(file_id))
    .bind(include_order)
    .bind(Text(index_id))
    .bind(strategy.map(Json))
    .execute(&mut *db)
    .await
    .map_err(on_duplicate("link"))?;
    note_change(db, index_id).await
}

/// The composition is another one now. The caller holds the lock of the index's row.
pub(crate) async fn note_change(db: &mut MySqlConnection, index_id: IndexId) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_indexes SET composition_revision = composition_revision + 1, updated_at = updated_at WHERE id = ?",
    )
    .bind(Text(index_id))
    .execute(db)
    .await?;
    Ok(())
}

pub async fn find(
    db: &mut MySqlConnection,
    index_id: IndexId,
    file_id: FileId,
) -> Result<Option<Link>, DbError> {
    let row = sqlx::query_as(
        "SELECT index_id, file_id, include_order, chunking_strategy, created_at FROM rag_index_files \
         WHERE index_id = ? AND file_id = ?",
    )
    .bind(Text(index_id))
    .bind(Text(file_id))
    .fetch_optional(db)
    .await?;
    Ok(row)
}

/// In the order of the composition.
pub async fn list(db: &mut MySqlConnection, index_id: IndexId) -> Result<Vec<Link>, DbError> {
    let rows = sqlx::query_as(
        "SELECT index_id, file_id, include_order, chunking_strategy, created_at FROM rag_index_files \
         WHERE index_id = ? ORDER BY include_order, file_id",
    )
    .bind(Text(index_id))
    .fetch_all(db)
    .await?;
    Ok(rows)
}

/// Sets order and strategy of an existing link; `None` leaves the order, and clears nothing else than what it names.
pub async fn update(
    db: &mut MySqlConnection,
    index_id: IndexId,
    file_id: FileId,
    include_order: Option<u32>,
    strategy: Option<Option<ChunkingStrategy>>,
) -> Result<(), DbError> {
    let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new("UPDATE rag_index_files SET index_id = index_id");
    if let Some(order) = include_order {
        query.push(", include_order = ").push_bind(order);
    }
    if let Some(strategy) = strategy {
        query.push(", chunking_strategy = ").push_bind(strategy.map(Json));
    }
    query
        .push(" WHERE index_id = ")
        .push_bind(Text(index_id))
        .push(" AND file_id = ")
        .push_bind(Text(file_id));
    query.build().execute(&mut *db).await?;
    note_change(db, index_id).await
}

/// Unlinks a file; the answer tells whether it was linked.
pub async fn delete(db: &mut MySqlConnection, index_id: IndexId, file_id: FileId) -> Result<bool, DbError> {
    let result = sqlx::query("DELETE FROM rag_index_files WHERE index_id = ? AND file_id = ?")
        .bind(Text(index_id))
        .bind(Text(file_id))
        .execute(&mut *db)
        .await?;
    note_change(db, index_id).await?;
    Ok(result.rows_affected() > 0)
}

/// Sets the whole composition, in this order; links that stay keep their age. Which files there are is the caller's concern.
pub async fn replace_all(
    db: &mut MySqlConnection,
    index_id: IndexId,
    members: &[(FileId, Option<ChunkingStrategy>)],
) -> Result<(), DbError> {
    let wanted: HashSet<FileId> = members.iter().map(|(id, _)| *id).collect();
    let links = list(db, index_id).await?;
    let gone: Vec<FileId> = links
        .iter()
        .map(|link| link.file_id)
        .filter(|id| !wanted.contains(id))
        .collect();
    for ids in pieces(&gone) {
        let mut query = QueryBuilder::<MySql>::new("DELETE FROM rag_index_files WHERE index_id = ");
        query.push_bind(Text(index_id)).push(" AND file_id IN ");
        push_list(&mut query, ids.iter().copied().map(Text));
        query.build().execute(&mut *db).await?;
    }
    let placed: Vec<_> = (0_u32..).zip(members).collect();
    for members in pieces(&placed) {
        let mut query = QueryBuilder::<MySql>::new(
            "INSERT INTO rag_index_files (index_id, file_id, include_order, chunking_strategy) ",
        );
        query.push_values(members, |mut row, (order, (file_id, strategy))| {
            row.push_bind(Text(index_id))
                .push_bind(Text(*file_id))
                .push_bind(*order)
                .push_bind(strategy.map(Json));
        });
        query.push(
            " ON DUPLICATE KEY UPDATE include_order = VALUES(include_order), chunking_strategy = VALUES(chunking_strategy)",
        );
        query.build().execute(&mut *db).await?;
    }
    note_change(db, index_id).await
}

/// The indexes that hold a file, deleted ones not counted.
pub async fn list_indexes_of(db: &mut MySqlConnection, file_id: FileId) -> Result<Vec<IndexId>, DbError> {
    let rows: Vec<Text<IndexId>> = sqlx::query_scalar(
        "SELECT l.index_id FROM rag_index_files l JOIN rag_indexes i ON i.id = l.index_id AND i.deleted_at IS NULL \
         WHERE l.file_id = ? ORDER BY l.created_at",
    )
    .bind(Text(file_id))
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|id| id.0).collect())
}

/// Unlinks a file everywhere. `indexes` are those that hold it and are not deleted; the caller has their locks, and the file's.
pub async fn delete_of_file(
    db: &mut MySqlConnection,
    file_id: FileId,
    indexes: &[IndexId],
) -> Result<u64, DbError> {
    if !indexes.is_empty() {
        let mut query = QueryBuilder::<MySql>::new(
            "UPDATE rag_indexes SET composition_revision = composition_revision + 1, updated_at = updated_at WHERE id IN ",
        );
        push_list(&mut query, indexes.iter().copied().map(Text));
        query.build().execute(&mut *db).await?;
    }
    let result = sqlx::query("DELETE FROM rag_index_files WHERE file_id = ?")
        .bind(Text(file_id))
        .execute(db)
        .await?;
    Ok(result.rows_affected())
}

/// The files of an index, by id, those behind `after`: for who goes through all of them in portions.
pub async fn list_file_ids(
    db: &mut MySqlConnection,
    index_id: IndexId,
    after: &str,
    limit: u32,
) -> Result<Vec<FileId>, DbError> {
    let rows: Vec<Text<FileId>> = sqlx::query_scalar(
        "SELECT file_id FROM rag_index_files WHERE index_id = ? AND file_id > ? ORDER BY file_id LIMIT ?",
    )
    .bind(Text(index_id))
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|id| id.0).collect())
}
