//! `/admin/providers/connections`.
//!
//! Whatever changes a connection answers once no process sends anything with the one of before (`until_noticed`).

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use rag_db::{DbError, connections};
use serde::Serialize;
use utoipa::ToSchema;

use super::connection_in::{ConnectionIn, ConnectionPatch};
use super::{ConnectionOut, no_connection, require_known};
use crate::http::extract::{Id, JsonBody};
use crate::http::problem::Problem;
use crate::state::App;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connections)]
pub(super) struct ConnectionsOut {
    items: Vec<ConnectionOut>,
}

/// List connections
#[utoipa::path(get, path = "/admin/providers/connections", tag = "admin: providers", responses(
    (status = 200, description = "All connections", body = ConnectionsOut),
))]
pub(super) async fn list_connections(State(app): State<App>) -> Result<Json<ConnectionsOut>, Problem> {
    let rows = connections::list(&mut *app.connection().await?).await?;
    Ok(Json(ConnectionsOut {
        items: rows.into_iter().map(ConnectionOut::from).collect(),
    }))
}

/// Read a connection
#[utoipa::path(get, path = "/admin/providers/connections/{provider_type}", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 200, description = "The connection, without its credentials", body = ConnectionOut),
        (status = 404, description = "No such provider, or it has no connection"),
    ))]
pub(super) async fn get_connection(
    State(app): State<App>,
    Id(provider_type): Id<String>,
) -> Result<Json<ConnectionOut>, Problem> {
    require_known(&app, &provider_type)?;
    let row = connections::find(&mut *app.connection().await?, &provider_type).await?;
    row.map(|row| Json(row.into()))
        .ok_or_else(|| no_connection(&provider_type))
}

/// Create a connection, or make it anew
///
/// Replaces everything of an existing one. Credentials are sealed before they are stored. Clears `last_error`.
#[utoipa::path(post, path = "/admin/providers/connections/{provider_type}", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    request_body = ConnectionIn,
    responses(
        (status = 200, description = "Made anew", body = ConnectionOut),
        (status = 201, description = "Created", body = ConnectionOut),
        (status = 404, description = "No such provider"),
        (status = 409, description = "There is no key to seal credentials with (PROVIDER_SECRETS_KEY)"),
    ))]
pub(super) async fn put_connection(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    JsonBody(body): JsonBody<ConnectionIn>,
) -> Result<(StatusCode, Json<ConnectionOut>), Problem> {
    require_known(&app, &provider_type)?;
    let settings = body.check(&app, &provider_type)?;
    let mut tx = app.begin().await?;
    let status = if connections::lock(&mut tx, &provider_type).await?.is_some() {
        connections::update(&mut tx, &settings).await?;
        StatusCode::OK
    } else {
        connections::insert(&mut tx, &settings).await?;
        StatusCode::CREATED
    };
    let row = connections::find(&mut tx, &provider_type)
        .await?
        .ok_or(DbError::NotFound("connection"))?;
    tx.commit().await?;
    if status == StatusCode::OK {
        rag_connections::until_noticed().await;
    }
    Ok((status, Json(row.into())))
}

/// Change a connection
///
/// Also switches it on or off. Clears `last_error`. Stored credentials are dropped when `auth_type` or the host changes.
#[utoipa::path(patch, path = "/admin/providers/connections/{provider_type}", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    request_body = ConnectionPatch,
    responses(
        (status = 200, description = "The changed connection", body = ConnectionOut),
        (status = 404, description = "No such provider, or it has no connection"),
        (status = 409, description = "There is no key to seal credentials with (PROVIDER_SECRETS_KEY)"),
    ))]
pub(super) async fn update_connection(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    JsonBody(patch): JsonBody<ConnectionPatch>,
) -> Result<Json<ConnectionOut>, Problem> {
    require_known(&app, &provider_type)?;
    let mut tx = app.begin().await?;
    let row = connections::lock(&mut tx, &provider_type)
        .await?
        .ok_or_else(|| no_connection(&provider_type))?;
    let settings = patch.check(&app, row)?;
    connections::update(&mut tx, &settings).await?;
    let row = connections::find(&mut tx, &provider_type)
        .await?
        .ok_or(DbError::NotFound("connection"))?;
    tx.commit().await?;
    rag_connections::until_noticed().await;
    Ok(Json(row.into()))
}

/// Delete a connection
///
/// Indexes of the provider stay; nothing can be asked of it until there is a connection again.
#[utoipa::path(delete, path = "/admin/providers/connections/{provider_type}", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such provider, or it has no connection"),
    ))]
pub(super) async fn delete_connection(
    State(app): State<App>,
    Id(provider_type): Id<String>,
) -> Result<StatusCode, Problem> {
    require_known(&app, &provider_type)?;
    if connections::delete(&mut *app.connection().await?, &provider_type).await? {
        rag_connections::until_noticed().await;
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_connection(&provider_type))
    }
}
