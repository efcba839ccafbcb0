//! `/admin/providers/{provider_type}/vector-stores` and `/files`: what is at the provider, ours or not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rag_connections::ConnectError;
use rag_db::connections;
use rag_providers::{Cursor, Disposition, Order, PageRequest, Provider, ProviderError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{no_connection, require_known};
use crate::http::extract::{Id, Params};
use crate::http::paging::Page;
use crate::http::problem::{Kind, Problem};
use crate::state::App;

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;
const MAX_CURSOR_BYTES: usize = 512;

/// Which part of a provider's list to answer.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListingParams {
    /// How many items at most; a provider may answer fewer.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub(crate) limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(max_length = 512)]
    pub(crate) cursor: Option<String>,
}

impl ListingParams {
    pub(crate) fn check(self) -> Result<PageRequest, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::malformed(format!("limit must be 1 to {MAX_LIMIT}")));
        }
        let is_cursor = |text: &String| (1..=MAX_CURSOR_BYTES).contains(&text.len());
        if !self.cursor.as_ref().is_none_or(is_cursor) {
            return Err(Problem::malformed(
                "cursor is not a next_cursor that this API gave",
            ));
        }
        Ok(PageRequest {
            limit: Some(limit),
            after: self.cursor.map(Cursor),
            order: Some(Order::Descending),
        })
    }
}

/// A vector store at a provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderVectorStore)]
pub(super) struct StoreOut {
    id: String,
    name: String,
    #[schema(example = "completed")]
    status: String,
    created_at: Option<DateTime<Utc>>,
    /// As the provider describes it.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    raw: Value,
}

/// A file at a provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderStoredFile)]
pub(super) struct StoredFileOut {
    id: String,
    file_name: String,
    size_bytes: u64,
    created_at: Option<DateTime<Utc>>,
    /// As the provider describes it.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    raw: Value,
}

/// List a provider's vector stores
///
/// Newest first, ours or not. What was made a moment ago may be missing.
#[utoipa::path(get, path = "/admin/providers/{provider_type}/vector-stores", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"), ListingParams),
    responses(
        (status = 200, description = "One page", body = Page<StoreOut>),
        (status = 400, description = "limit or cursor cannot be read"),
        (status = 404, description = "No such provider, or it has no connection"),
        (status = 409, description = "The connection is switched off, or can't be used"),
        (status = 502, description = "The provider failed"),
    ))]
pub(super) async fn list_vector_stores(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    Params(params): Params<ListingParams>,
) -> Result<Json<Page<StoreOut>>, Problem> {
    let page = params.check()?;
    let provider = open(&app, &provider_type).await?;
    let found = match provider.list_vector_stores(page).await {
        Ok(found) => found,
        Err(error) => return Err(failed(&app, &provider_type, error).await),
    };
    let items = found.items.into_iter().map(|store| StoreOut {
        id: store.id,
        name: store.name,
        status: store.status.to_string(),
        created_at: store.created_at,
        raw: store.raw,
    });
    Ok(Json(Page {
        items: items.collect(),
        next_cursor: found.next.map(|cursor| cursor.0),
    }))
}

/// List a provider's files
///
/// Newest first, ours or not. What was uploaded a moment ago may be missing.
#[utoipa::path(get, path = "/admin/providers/{provider_type}/files", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"), ListingParams),
    responses(
        (status = 200, description = "One page", body = Page<StoredFileOut>),
        (status = 400, description = "limit or cursor cannot be read"),
        (status = 404, description = "No such provider, or it has no connection"),
        (status = 409, description = "The connection is switched off, or can't be used"),
        (status = 502, description = "The provider failed"),
    ))]
pub(super) async fn list_provider_stored_files(
    State(app): State<App>,
    Id(provider_type): Id<String>,
    Params(params): Params<ListingParams>,
) -> Result<Json<Page<StoredFileOut>>, Problem> {
    let page = params.check()?;
    let provider = open(&app, &provider_type).await?;
    let found = match provider.list_files(page).await {
        Ok(found) => found,
        Err(error) => return Err(failed(&app, &provider_type, error).await),
    };
    let items = found.items.into_iter().map(|file| StoredFileOut {
        id: file.id,
        file_name: file.file_name,
        size_bytes: file.size_bytes,
        created_at: file.created_at,
        raw: file.raw,
    });
    Ok(Json(Page {
        items: items.collect(),
        next_cursor: found.next.map(|cursor| cursor.0),
    }))
}

/// No database connection is held after this, while the provider is asked.
async fn open(app: &App, provider_type: &str) -> Result<Arc<dyn Provider>, Problem> {
    require_known(app, provider_type)?;
    let mut connection = app.connection().await?;
    match app.connections.open(&mut connection, provider_type).await {
        Ok(provider) => Ok(provider),
        Err(ConnectError::Missing(_)) => Err(no_connection(provider_type)),
        Err(ConnectError::Database(error)) => Err(error.into()),
        Err(error) => Err(Problem::conflict(error.to_string())),
    }
}

/// An error that is not the request's fault is also recorded in the connection's row, until a call succeeds.
async fn failed(app: &App, provider_type: &str, error: ProviderError) -> Problem {
    let problem = Problem::new(Kind::ProviderFailed, format!("provider {provider_type}: {error}"));
    if error.disposition() != Disposition::Fail {
        let recorded = async {
            let mut connection = app.connection().await?;
            connections::record_error(&mut connection, provider_type, &error.to_string()).await?;
            Ok::<_, Problem>(())
        };
        if let Err(problem) = recorded.await {
            return problem;
        }
    }
    problem.because(error)
}
