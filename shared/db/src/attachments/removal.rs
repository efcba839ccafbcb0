//! Rows that go: of files that are out of their store, and of stores that are given up.

use rag_domain::{AttachmentId, AttachmentState, FileId, IndexId};
use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, exactly_one, one_of};

/// The provider confirmed that the file is out (or was never in).
pub async fn delete_detached(db: &mut MySqlConnection, id: AttachmentId) -> Result<(), DbError> {
    let sql = format!(
        "DELETE FROM rag_index_attachments WHERE id = ? AND {}",
        one_of("state", AttachmentState::REMOVABLE)
    );
    let result = sqlx::query(AssertSqlSafe(sql)).bind(Text(id)).execute(db).await?;
    exactly_one(&result, "attachment", id)
}

/// The store itself is given up, with everything attached to it. Answers the provider's ids of those files.
pub async fn forget_store(db: &mut MySqlConnection, external_store_id: &str) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar(
        "DELETE FROM rag_index_attachments WHERE external_store_id = ? RETURNING external_file_id",
    )
    .bind(external_store_id)
    .fetch_all(db)
    .await?)
}

/// The stores of an index are gone: removes some of the rows of files that were attached to them, and answers each local
/// file with its id at the provider.
pub async fn forget_some(
    db: &mut MySqlConnection,
    index: IndexId,
    limit: u32,
) -> Result<Vec<(FileId, String)>, DbError> {
    let rows: Vec<(Text<FileId>, String)> = sqlx::query_as(
        "DELETE FROM rag_index_attachments WHERE index_id = ? ORDER BY local_file_id LIMIT ? \
         RETURNING local_file_id, external_file_id",
    )
    .bind(Text(index))
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(id, external)| (id.0, external)).collect())
}

/// The index's deletion is given up: what is attached to its stores stays there without a row.
pub async fn forget_index(db: &mut MySqlConnection, index: IndexId) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_index_attachments WHERE index_id = ?")
        .bind(Text(index))
        .execute(db)
        .await?;
    Ok(())
}
