//! Does a provider answer, with these credentials?

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rag_connections::ConnectError;
use rag_db::connections;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ConnectionState, no_connection, require_known};
use crate::http::extract::Id;
use crate::http::problem::Problem;
use crate::state::App;

/// A health check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a health check found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderHealth)]
pub(super) struct HealthOut {
    #[schema(example = "openai")]
    provider_type: String,
    /// ok | failing | disabled (switched off: nothing was asked)
    #[schema(example = "ok")]
    status: &'static str,
    /// How long the provider took.
    latency_ms: Option<u64>,
    /// What is wrong.
    error: Option<String>,
    /// The account is exhausted, whatever the check found; null: it is not, as far as is known.
    state: Option<ConnectionState>,
    checked_at: DateTime<Utc>,
}

/// Check a provider's health
///
/// Makes one light call with the stored credentials, and records when, and what was wrong. The answer is 200 whatever
/// was found: the check was made.
#[utoipa::path(get, path = "/admin/providers/{provider_type}/health", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai")),
    responses(
        (status = 200, description = "What was found", body = HealthOut),
        (status = 404, description = "No such provider, or it has no connection"),
    ))]
pub(super) async fn check_health(
    State(app): State<App>,
    Id(provider_type): Id<String>,
) -> Result<Json<HealthOut>, Problem> {
    require_known(&app, &provider_type)?;
    let mut connection = app.connection().await?;
    let opened = app.connections.open(&mut connection, &provider_type).await;
    // No database connection is held while the provider is asked.
    drop(connection);
    let found = match opened {
        Ok(provider) => match tokio::time::timeout(PATIENCE, provider.health()).await {
            Ok(Ok(health)) => Ok(health.latency),
            Ok(Err(error)) => {
                tracing::warn!(provider = provider_type, error = %error, "the health check failed");
                Err(error.to_string())
            }
            Err(_) => Err(format!("no answer within {} seconds", PATIENCE.as_secs())),
        },
        Err(ConnectError::Missing(_)) => return Err(no_connection(&provider_type)),
        Err(ConnectError::SwitchedOff(_)) => {
            return Ok(Json(HealthOut::new(provider_type, "disabled", None, None)));
        }
        Err(ConnectError::Unusable { reason, .. }) => Err(reason),
        Err(ConnectError::Database(error)) => return Err(error.into()),
    };
    let error = found.as_ref().err().cloned();
    let mut connection = app.connection().await?;
    connections::record_health(&mut connection, &provider_type, error.as_deref()).await?;
    let row = connections::find(&mut connection, &provider_type).await?;
    let status = if error.is_none() { "ok" } else { "failing" };
    let mut health = HealthOut::new(provider_type, status, found.ok(), error);
    health.state = row.as_ref().and_then(ConnectionState::of);
    Ok(Json(health))
}

impl HealthOut {
    fn new(
        provider_type: String,
        status: &'static str,
        latency: Option<Duration>,
        error: Option<String>,
    ) -> Self {
        let latency_ms = latency.map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
        Self {
            provider_type,
            status,
            latency_ms,
            error,
            state: None,
            checked_at: Utc::now(),
        }
    }
}
