//! `rag_sync_items`: the items that a run works through one by one, in the order in which they were listed.

use rag_domain::{DomainId, IndexId, ItemState};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection};

use crate::DbError;
use crate::sql::{Move, Text, exactly_one, make_move, one_of, pieces};

/// A row of `rag_sync_items`.
#[derive(Debug, Clone, FromRow)]
pub struct Item {
    /// A store's id at the provider, or an index's id.
    pub item: String,
    #[sqlx(try_from = "Text<ItemState>")]
    pub state: ItemState,
    pub position: u32,
    #[sqlx(json(nullable))]
    pub detail: Option<Value>,
}

/// Adds what was listed, unless it is there already. Answers how many were not.
pub async fn add(
    db: &mut MySqlConnection,
    job_id: &str,
    first_position: u32,
    items: &[(&str, &Value)],
) -> Result<u64, DbError> {
    let mut added = 0;
    let mut position = first_position;
    for chunk in pieces(items) {
        let mut query = sqlx::QueryBuilder::<sqlx::MySql>::new(
            "INSERT IGNORE INTO rag_sync_items (job_id, item, state, position, detail) ",
        );
        query.push_values(chunk, |mut row, (item, detail)| {
            row.push_bind(job_id)
                .push_bind(*item)
                .push_bind(ItemState::Waiting.as_str())
                .push_bind(position)
                .push_bind(Json(*detail));
            position += 1;
        });
        added += query.build().execute(&mut *db).await?.rows_affected();
    }
    Ok(added)
}

/// Adds the indexes of a domain that have a store, at this provider or at any.
pub async fn add_indexes(
    db: &mut MySqlConnection,
    job_id: &str,
    domain: &DomainId,
    provider: Option<&str>,
) -> Result<u64, DbError> {
    let result = sqlx::query(
        "INSERT IGNORE INTO rag_sync_items (job_id, item, state, position) \
         SELECT ?, id, 'waiting', 0 FROM rag_indexes \
         WHERE domain_id = ? AND external_id IS NOT NULL AND deleted_at IS NULL AND provider_type = COALESCE(?, provider_type)",
    )
    .bind(job_id)
    .bind(domain.as_str())
    .bind(provider)
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// The next ones in this state.
pub async fn list(
    db: &mut MySqlConnection,
    job_id: &str,
    state: ItemState,
    limit: u32,
) -> Result<Vec<Item>, DbError> {
    list_behind(db, job_id, state, None, limit).await
}

/// As [`list`], those behind this position and item.
pub async fn list_behind(
    db: &mut MySqlConnection,
    job_id: &str,
    state: ItemState,
    behind: Option<(u32, &str)>,
    limit: u32,
) -> Result<Vec<Item>, DbError> {
    // No item has an empty name.
    let (position, item) = behind.unwrap_or((0, ""));
    Ok(sqlx::query_as(
        "SELECT item, state, position, detail FROM rag_sync_items WHERE job_id = ? AND state = ? \
         AND position >= ? AND (position > ? OR item > ?) ORDER BY position, item LIMIT ?",
    )
    .bind(job_id)
    .bind(Text(state))
    .bind(position)
    .bind(position)
    .bind(item)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

pub async fn count(db: &mut MySqlConnection, job_id: &str, state: ItemState) -> Result<u32, DbError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_sync_items WHERE job_id = ? AND state = ?")
        .bind(job_id)
        .bind(Text(state))
        .fetch_one(db)
        .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Moves an item from one of these states, as far as the move is legal from them.
pub async fn move_on(
    db: &mut MySqlConnection,
    job_id: &str,
    item: &str,
    from: &[ItemState],
    to: ItemState,
) -> Result<(), DbError> {
    write_move(db, job_id, item, from, to, None).await
}

/// A job of its own works on this item now.
pub async fn mark_asked(
    db: &mut MySqlConnection,
    job_id: &str,
    item: &str,
    from: ItemState,
    child: &Value,
) -> Result<(), DbError> {
    write_move(db, job_id, item, &[from], ItemState::Asked, Some(child)).await
}

async fn write_move(
    db: &mut MySqlConnection,
    job_id: &str,
    item: &str,
    from: &[ItemState],
    to: ItemState,
    detail: Option<&Value>,
) -> Result<(), DbError> {
    let conflict = || DbError::Conflict {
        what: "item of a sync",
        id: item.to_owned(),
    };
    let transition = ItemState::TRANSITIONS.iter().find(|known| known.to == to);
    let Move { set, legal } = make_move("state", transition.ok_or_else(conflict)?);
    let sql = format!(
        "UPDATE rag_sync_items SET {set}, detail = COALESCE(?, detail) \
         WHERE job_id = ? AND item = ? AND {legal} AND {}",
        one_of("state", from)
    );
    let result = sqlx::query(AssertSqlSafe(sql))
        .bind(detail.map(Json))
        .bind(job_id)
        .bind(item)
        .execute(db)
        .await?;
    exactly_one(&result, "item of a sync", item)
}

/// Removes all items, because the listing starts again.
pub async fn clear(db: &mut MySqlConnection, job_id: &str) -> Result<(), DbError> {
    sqlx::query("DELETE FROM rag_sync_items WHERE job_id = ?")
        .bind(job_id)
        .execute(db)
        .await?;
    Ok(())
}

/// An index whose store is not among a run's items.
#[derive(Debug, Clone, FromRow)]
pub struct Missing {
    #[sqlx(try_from = "Text<IndexId>")]
    pub id: IndexId,
    #[sqlx(try_from = "Text<DomainId>")]
    pub domain_id: DomainId,
    pub name: String,
    pub external_id: String,
}

/// Indexes of the provider whose stores were not listed, those behind `after`.
pub async fn list_missing(
    db: &mut MySqlConnection,
    job_id: &str,
    provider: &str,
    after: Option<IndexId>,
    limit: u32,
) -> Result<Vec<Missing>, DbError> {
    Ok(sqlx::query_as(
        "SELECT i.id, i.domain_id, i.name, i.external_id FROM rag_indexes i \
         LEFT JOIN rag_sync_items s ON s.job_id = ? AND s.item = i.external_id COLLATE utf8mb4_nopad_bin \
         WHERE i.provider_type = ? AND i.external_id IS NOT NULL AND i.deleted_at IS NULL AND s.item IS NULL AND i.id > ? \
         ORDER BY i.id LIMIT ?",
    )
    .bind(job_id)
    .bind(provider)
    .bind(after.map(|id| id.to_string()).unwrap_or_default())
    .bind(limit)
    .fetch_all(db)
    .await?)
}
