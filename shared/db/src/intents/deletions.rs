//! Deletions to be carried out at a provider: intents without a claim, which any worker may take.
//!
//! The row is written in the transaction that drops what may have been the last reference, so a crash loses none. It goes
//! when the provider has confirmed, and stays, to be tried again later and later, as long as it has not.

use rag_domain::{FileId, IndexId, IntentId};
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{COLUMNS, Intent, Operation, exists};
use crate::DbError;
use crate::sql::Text;

/// Whose own deletion waits for a deletion at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    Index(IndexId),
    File(FileId),
}

impl Owner {
    fn ids(self) -> (Option<Text<IndexId>>, Option<Text<FileId>>) {
        match self {
            Self::Nobody => (None, None),
            Self::Index(id) => (Some(Text(id)), None),
            Self::File(id) => (None, Some(Text(id))),
        }
    }

    fn column(self) -> Option<(&'static str, String)> {
        match self {
            Self::Nobody => None,
            Self::Index(id) => Some(("index_id", id.to_string())),
            Self::File(id) => Some(("local_file_id", id.to_string())),
        }
    }
}

/// Whether this store of the provider waits to be deleted.
pub async fn is_store_retired(
    db: &mut MySqlConnection,
    provider: &str,
    store: &str,
) -> Result<bool, DbError> {
    exists(db, provider, Operation::DeleteVectorStore, store).await
}

/// Marks a file of ours at the provider for deletion, unless it is still the copy of a file or attached to a store. Call it in
/// the transaction that drops what may have been the last reference.
pub async fn retire_file(
    db: &mut MySqlConnection,
    provider: &str,
    external_file_id: &str,
) -> Result<bool, DbError> {
    retire_file_for(db, provider, external_file_id, Owner::Nobody).await
}

/// As [`retire_file`]; the owner's own deletion waits for this one, also if it was asked for before.
pub async fn retire_file_for(
    db: &mut MySqlConnection,
    provider: &str,
    external_file_id: &str,
    owner: Owner,
) -> Result<bool, DbError> {
    let (index, file) = owner.ids();
    let result = sqlx::query(
        "INSERT INTO rag_provider_intents \
         (id, provider_id, operation, subject, index_id, local_file_id, created_at, due_at) \
         SELECT ?, ?, 'delete_file', ?, ?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM DUAL \
         WHERE NOT EXISTS (SELECT 1 FROM rag_provider_file_uploads WHERE provider_id = ? AND external_file_id = ? AND status <> 'deleted') \
         AND NOT EXISTS (SELECT 1 FROM rag_provider_file_uploads WHERE provider_id = ? AND files_api_id = ? AND status <> 'deleted') \
         AND NOT EXISTS (SELECT 1 FROM rag_index_attachments WHERE external_file_id = ?) \
         ON DUPLICATE KEY UPDATE index_id = COALESCE(VALUES(index_id), rag_provider_intents.index_id), \
         local_file_id = COALESCE(VALUES(local_file_id), rag_provider_intents.local_file_id), \
         updated_at = rag_provider_intents.updated_at",
    )
    .bind(Text(IntentId::new()))
    .bind(provider)
    .bind(external_file_id)
    .bind(index)
    .bind(file)
    .bind(provider)
    .bind(external_file_id)
    .bind(provider)
    .bind(external_file_id)
    .bind(external_file_id)
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Marks a store of ours for deletion; `index_id`: whose it is, if an index's row speaks of it.
pub async fn retire_store(
    db: &mut MySqlConnection,
    provider: &str,
    index_id: Option<IndexId>,
    external_store_id: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT IGNORE INTO rag_provider_intents \
         (id, provider_id, operation, subject, index_id, created_at, due_at) \
         VALUES (?, ?, 'delete_vector_store', ?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
    )
    .bind(Text(IntentId::new()))
    .bind(provider)
    .bind(external_store_id)
    .bind(index_id.map(Text))
    .execute(db)
    .await?;
    Ok(())
}

/// Deletions at a provider whose time has come, the longest due first.
pub async fn list_deletions(
    db: &mut MySqlConnection,
    provider: &str,
    operation: Operation,
    limit: u32,
) -> Result<Vec<Intent>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_provider_intents WHERE provider_id = ? AND operation = ? \
         AND due_at <= UTC_TIMESTAMP(6) ORDER BY due_at, id LIMIT ?"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(provider)
        .bind(operation.as_str())
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// As [`list_deletions`], those alone that this owner waits for, due or not.
pub async fn list_deletions_of(
    db: &mut MySqlConnection,
    owner: Owner,
    operation: Operation,
    limit: u32,
) -> Result<Vec<Intent>, DbError> {
    let Some((column, id)) = owner.column() else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM rag_provider_intents WHERE {column} = ? AND operation = ? ORDER BY due_at, id LIMIT ?"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(id)
        .bind(operation.as_str())
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// Reserves the next try of the deletion for so long. Answers `false` if another worker has reserved it, or
/// it is over.
pub async fn take_deletion(db: &mut MySqlConnection, intent: &Intent, seconds: u32) -> Result<bool, DbError> {
    let result = sqlx::query(
        "UPDATE rag_provider_intents SET due_at = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, updated_at = updated_at \
         WHERE id = ? AND tries = ? AND due_at <= UTC_TIMESTAMP(6)",
    )
    .bind(seconds)
    .bind(Text(intent.id))
    .bind(intent.tries)
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Nothing is to be deleted any more, or all is. Deleting twice is harmless, so no claim is asked for.
pub async fn resolve_deletion(db: &mut MySqlConnection, id: IntentId) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_provider_intents WHERE id = ?")
        .bind(Text(id))
        .execute(db)
        .await?;
    Ok(())
}

/// Not now: the intent stays, and its next try is due after this time. `error`: the provider failed, which is counted.
pub async fn postpone_deletion(
    db: &mut MySqlConnection,
    id: IntentId,
    seconds: u32,
    error: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_intents SET due_at = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, tries = tries + ?, \
         last_error = COALESCE(?, last_error), updated_at = updated_at WHERE id = ?",
    )
    .bind(seconds)
    .bind(u32::from(error.is_some()))
    .bind(error)
    .bind(Text(id))
    .execute(db)
    .await?;
    Ok(())
}

/// As [`postpone_deletion`], for a deletion that is known by what it deletes.
pub async fn postpone_deletion_of(
    db: &mut MySqlConnection,
    provider: &str,
    operation: Operation,
    external_id: &str,
    seconds: u32,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_provider_intents SET due_at = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, updated_at = updated_at \
         WHERE provider_id = ? AND operation = ? AND subject = ?",
    )
    .bind(seconds)
    .bind(provider)
    .bind(operation.as_str())
    .bind(external_id)
    .execute(db)
    .await?;
    Ok(())
}

/// As [`resolve_deletion`], for a deletion that is known by what it deletes.
pub async fn resolve_deletion_of(
    db: &mut MySqlConnection,
    provider: &str,
    operation: Operation,
    external_id: &str,
) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_provider_intents WHERE provider_id = ? AND operation = ? AND subject = ?")
        .bind(provider)
        .bind(operation.as_str())
        .bind(external_id)
        .execute(db)
        .await?;
    Ok(())
}

/// The owner's own deletion is given up: nothing of an index is looked for or deleted any more, and no copy of a file. An
/// upload of the file that is under way comes to its own end.
pub async fn forget(db: &mut MySqlConnection, owner: Owner) -> Result<(), DbError> {
    let Some((column, id)) = owner.column() else {
        return Ok(());
    };
    let sql = format!("DELETE FROM rag_provider_intents WHERE {column} = ?");
    sqlx::query(AssertSqlSafe(sql)).bind(id).execute(db).await?;
    Ok(())
}
