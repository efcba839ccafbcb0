//! `rag_sync_findings`: what a run found, in lists of any length.

use rag_domain::FindingKind;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Text, pieces, push_list};

const MAX_SUBJECT: usize = 600;

/// A row of `rag_sync_findings`.
#[derive(Debug, Clone, FromRow)]
pub struct Finding {
    pub subject: String,
    #[sqlx(json)]
    pub detail: Value,
}

/// Writes a finding down; a later one about the same replaces it, so that a step may be repeated.
pub async fn put(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    subject: &str,
    detail: &Value,
) -> Result<(), DbError> {
    put_many(db, job_id, kind, &[(subject.to_owned(), detail.clone())]).await
}

/// As [`put`], for many.
pub async fn put_many(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    findings: &[(String, Value)],
) -> Result<(), DbError> {
    for chunk in pieces(findings) {
        let mut query = insert("INSERT", job_id, kind, chunk);
        query.push(" ON DUPLICATE KEY UPDATE detail = VALUES(detail)");
        query.build().execute(&mut *db).await?;
    }
    Ok(())
}

/// As [`put_many`], but what is known of a subject already stays. Answers of how many nothing was.
pub async fn put_missing(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    findings: &[(String, Value)],
) -> Result<u64, DbError> {
    let mut added = 0;
    for chunk in pieces(findings) {
        let mut query = insert("INSERT IGNORE", job_id, kind, chunk);
        added += query.build().execute(&mut *db).await?.rows_affected();
    }
    Ok(added)
}

fn insert<'a>(
    verb: &str,
    job_id: &'a str,
    kind: FindingKind,
    findings: &'a [(String, Value)],
) -> sqlx::QueryBuilder<sqlx::MySql> {
    let mut query = sqlx::QueryBuilder::new(format!(
        "{verb} INTO rag_sync_findings (job_id, kind, subject, detail) "
    ));
    query.push_values(findings, |mut row, (subject, detail)| {
        row.push_bind(job_id)
            .push_bind(kind.as_str())
            .push_bind(cut(subject))
            .push_bind(Json(detail));
    });
    query
}

/// Those of these subjects that there are, in no order.
pub async fn find_many(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    subjects: &[String],
) -> Result<Vec<Finding>, DbError> {
    let mut found = Vec::new();
    for chunk in pieces(subjects) {
        let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(
            "SELECT subject, detail FROM rag_sync_findings WHERE job_id = ",
        );
        query
            .push_bind(job_id)
            .push(" AND kind = ")
            .push_bind(kind.as_str())
            .push(" AND subject IN ");
        push_list(&mut query, chunk.iter().map(|subject| cut(subject)));
        found.extend(query.build_query_as().fetch_all(&mut *db).await?);
    }
    Ok(found)
}

/// By subject, those behind `after`.
pub async fn list(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Finding>, DbError> {
    Ok(sqlx::query_as(
        "SELECT subject, detail FROM rag_sync_findings WHERE job_id = ? AND kind = ? AND subject > ? ORDER BY subject LIMIT ?",
    )
    .bind(job_id)
    .bind(Text(kind))
    .bind(after.unwrap_or_default())
    .bind(limit)
    .fetch_all(db)
    .await?)
}

pub async fn count(db: &mut MySqlConnection, job_id: &str, kind: FindingKind) -> Result<u64, DbError> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM rag_sync_findings WHERE job_id = ? AND kind = ?")
            .bind(job_id)
            .bind(Text(kind))
            .fetch_one(db)
            .await?;
    Ok(count.unsigned_abs())
}

/// It turned out otherwise.
pub async fn remove(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    subject: &str,
) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_sync_findings WHERE job_id = ? AND kind = ? AND subject = ?")
        .bind(job_id)
        .bind(Text(kind))
        .bind(cut(subject))
        .execute(db)
        .await?;
    Ok(())
}

/// Longer than any id of ours or of a provider with a domain behind it.
fn cut(subject: &str) -> &str {
    let end = subject.char_indices().nth(MAX_SUBJECT).map(|(at, _)| at);
    &subject[..end.unwrap_or(subject.len())]
}
