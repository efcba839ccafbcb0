//! The reference: as little as a server can do that answers with a row.

use anyhow::Result;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{FromRow, MySqlPool};
use tokio::net::TcpListener;

#[derive(FromRow)]
struct Index {
    id: String,
    name: String,
    indexing_status: String,
    external_id: Option<String>,
}

pub(crate) async fn serve(address: &str, uri: &str) -> Result<()> {
    let pool = MySqlPoolOptions::new().max_connections(16).connect(uri).await?;
    let router = Router::new().route("/{id}", get(index)).with_state(pool);
    axum::serve(TcpListener::bind(address).await?, router).await?;
    Ok(())
}

async fn index(State(pool): State<MySqlPool>, Path(id): Path<String>) -> Result<Json<Value>, StatusCode> {
    let index: Index =
        sqlx::query_as("SELECT id, name, indexing_status, external_id FROM rag_indexes WHERE id = ?")
            .bind(id)
            .fetch_one(&pool)
            .await
            .map_err(|_| StatusCode::NOT_FOUND)?;
    let Index {
        id,
        name,
        indexing_status,
        external_id,
    } = index;
    Ok(Json(json!({
        "id": id,
        "name": name,
        "indexing_status": indexing_status,
        "external_id": external_id,
    })))
}
