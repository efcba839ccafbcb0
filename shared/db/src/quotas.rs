//! `rag_quota_locks`, and how much of `rag_files` a domain has.
//!
//! Nothing is counted ahead: a quota is checked against the rows themselves, under a lock that makes the checks of a domain
//! one after the other. Installations without quotas pay nothing.

use rag_domain::DomainId;
use sqlx::{FromRow, MySqlConnection};

use crate::DbError;

/// What a domain has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Usage {
    pub files: u64,
    pub bytes: u64,
}

/// Until the transaction ends no other transaction checks the quotas of this domain, so what [`usage`] says stays true.
///
/// In the lock order it comes after a file's row: a replacement of contents locks the file first.
pub async fn lock(tx: &mut MySqlConnection, domain: &DomainId) -> Result<(), DbError> {
    sqlx::query("SELECT slot FROM rag_quota_locks WHERE slot = CRC32(?) % 256 FOR UPDATE")
        .bind(domain.as_str())
        .fetch_one(tx)
        .await?;
    Ok(())
}

pub async fn usage(db: &mut MySqlConnection, domain: &DomainId) -> Result<Usage, DbError> {
    let sql = "SELECT CAST(COUNT(*) AS UNSIGNED) AS files, CAST(COALESCE(SUM(size_bytes), 0) AS UNSIGNED) AS bytes \
               FROM rag_files WHERE domain_id = ?";
    Ok(sqlx::query_as(sql).bind(domain.as_str()).fetch_one(db).await?)
}
