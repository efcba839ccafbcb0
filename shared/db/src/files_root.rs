//! `rag_files_root`: by what the folder of file contents is recognised, and evidence for a folder that has no marker yet.

use sqlx::MySqlConnection;

use crate::DbError;

/// The marker that the folder must have, a UUID; `None`: no folder was taken into use yet.
pub async fn find(db: &mut MySqlConnection) -> Result<Option<String>, DbError> {
    Ok(
        sqlx::query_scalar("SELECT marker FROM rag_files_root WHERE slot = 1")
            .fetch_optional(db)
            .await?,
    )
}

/// Takes a folder into use; answers the marker that counts, which is the first one's.
pub async fn insert(db: &mut MySqlConnection, marker: &str) -> Result<String, DbError> {
    sqlx::query("INSERT IGNORE INTO rag_files_root (slot, marker) VALUES (1, ?)")
        .bind(marker)
        .execute(&mut *db)
        .await?;
    find(db).await?.ok_or(DbError::NotFound("marker of FILES_ROOT"))
}

/// Where the contents of the newest files lie, relative to the root.
pub async fn list_newest_paths(db: &mut MySqlConnection, limit: u32) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT local_path FROM rag_files WHERE deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT ?",
    )
    .bind(limit)
    .fetch_all(db)
    .await?)
}
