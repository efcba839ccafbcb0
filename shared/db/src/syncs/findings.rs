//! `rag_sync_findings`: what a run found, in lists of any length.

use rag_domain::FindingKind;
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{MOST_ROWS, Text, pieces, push_list};

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
    let end = "ON DUPLICATE KEY UPDATE detail = VALUES(detail)";
    insert(db, job_id, kind, findings, "INSERT", end).await?;
    Ok(())
}

/// As [`put_many`], but what is known of a subject already stays. Answers of how many nothing was.
pub async fn put_missing(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    findings: &[(String, Value)],
) -> Result<u64, DbError> {
    insert(db, job_id, kind, findings, "INSERT IGNORE", "").await
}

async fn insert(
    db: &mut MySqlConnection,
    job_id: &str,
    kind: FindingKind,
    findings: &[(String, Value)],
    verb: &str,
    end: &str,
) -> Result<u64, DbError> {
    let sql = format!(
        "{verb} INTO rag_sync_findings (job_id, kind, subject, detail) \
         SELECT ?, ?, s.subject, s.detail FROM JSON_TABLE(?, '$[*]' COLUMNS (subject VARCHAR({MAX_SUBJECT}) PATH '$.subject', \
         detail LONGTEXT PATH '$.detail')) AS s {end}"
    );
    let mut affected = 0;
    for chunk in findings.chunks(MOST_ROWS) {
        let rows: Vec<Value> = chunk
            .iter()
            .map(|(subject, detail)| json!({"subject": cut(subject), "detail": detail.to_string()}))
            .collect();
        let result = sqlx::query(AssertSqlSafe(sql.as_str()))
            .bind(job_id)
            .bind(kind.as_str())
            .bind(Json(rows))
            .execute(&mut *db)
            .await?;
        affected += result.rows_affected();
    }
    Ok(affected)
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
