//! What front ends may know of providers (R-B5): which there are and how they were when last asked. No secrets, no
//! addresses, no error texts.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rag_db::connections::{self, Connection};
use serde::Serialize;
use utoipa::ToSchema;

use super::require_known;
use crate::http::extract::Id;
use crate::http::problem::Problem;
use crate::state::App;

/// A provider that indexes can be built at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
pub(super) struct ProviderOut {
    /// Goes into an index's `provider_type`.
    #[schema(example = "openai")]
    provider_type: String,
    /// There is a connection and it is switched on.
    is_available: bool,
    /// ok | failing | unknown | disabled | not_configured, as of the last time anybody asked it
    #[schema(example = "ok")]
    status: &'static str,
    last_healthcheck_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Providers)]
pub(super) struct ProvidersOut {
    items: Vec<ProviderOut>,
}

/// List providers
#[utoipa::path(get, path = "/providers", tag = "providers", responses(
    (status = 200, description = "All provider types that this service knows", body = ProvidersOut),
))]
pub(super) async fn list_providers(State(app): State<App>) -> Result<Json<ProvidersOut>, Problem> {
    let rows = connections::list(&mut *app.connection().await?).await?;
    let items = app
        .connections
        .registry()
        .provider_types()
        .map(|known| ProviderOut::new(known, rows.iter().find(|row| row.provider_type == known)))
        .collect();
    Ok(Json(ProvidersOut { items }))
}

/// Read how a provider was when last asked
#[utoipa::path(get, path = "/providers/{provider_type}/health", tag = "providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 200, description = "How it was", body = ProviderOut),
        (status = 404, description = "No such provider"),
    ))]
pub(super) async fn get_provider_health(
    State(app): State<App>,
    Id(provider_type): Id<String>,
) -> Result<Json<ProviderOut>, Problem> {
    require_known(&app, &provider_type)?;
    let row = connections::find(&mut *app.connection().await?, &provider_type).await?;
    Ok(Json(ProviderOut::new(&provider_type, row.as_ref())))
}

impl ProviderOut {
    fn new(provider_type: &str, row: Option<&Connection>) -> Self {
        let status = match row {
            None => "not_configured",
            Some(row) if !row.is_enabled => "disabled",
            Some(row) if row.last_error.is_some() || row.blocked_kind.is_some() => "failing",
            Some(row) if row.last_healthcheck_at.is_some() => "ok",
            Some(_) => "unknown",
        };
        Self {
            provider_type: provider_type.to_owned(),
            is_available: row.is_some_and(|row| row.is_enabled),
            status,
            last_healthcheck_at: row.and_then(|row| row.last_healthcheck_at),
        }
    }
}
