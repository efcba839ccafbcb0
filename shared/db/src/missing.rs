//! Stores that a provider was not seen to have: since when. What follows from it is decided in `rag-domain`.

use rag_domain::IndexId;
use sqlx::MySqlConnection;

use crate::DbError;
use crate::sql::Text;

/// The provider did not find this store of the index, or its listing lacked it; the first time counts.
pub async fn mark_store(db: &mut MySqlConnection, index: IndexId, store: &str) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_indexes SET store_missed_at = COALESCE(store_missed_at, UTC_TIMESTAMP(6)), updated_at = updated_at \
         WHERE id = ? AND external_id = ?",
    )
    .bind(Text(index))
    .bind(store)
    .execute(db)
    .await?;
    Ok(())
}

/// The store is there.
pub async fn clear_store(db: &mut MySqlConnection, index: IndexId) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE rag_indexes SET store_missed_at = NULL, updated_at = updated_at \
         WHERE id = ? AND store_missed_at IS NOT NULL",
    )
    .bind(Text(index))
    .execute(db)
    .await?;
    Ok(())
}
