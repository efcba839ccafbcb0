//! `/providers` for front ends, and `/admin/providers` for admins (R-4.6, R-B5). One row per provider type, for the whole
//! installation. Credentials go in and never come out.

mod connection_in;
mod connections;
mod deletions;
mod file_upload_edit;
mod file_uploads;
mod health;
mod listings;
mod orphans;
mod overview;
mod probe;
mod provider_jobs;
mod sync;
mod sync_findings;

use chrono::{DateTime, Utc};
use rag_db::connections::Connection;
use rag_providers::LearnedCapabilities;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use file_uploads::FileUploadOut;
pub(crate) use listings::ListingParams;

use crate::http::problem::Problem;
use crate::state::App;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(overview::list_providers))
        .routes(routes!(overview::get_provider_health))
}

pub(crate) fn admin_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(connections::list_connections))
        .routes(routes!(
            connections::get_connection,
            connections::put_connection,
            connections::update_connection,
            connections::delete_connection
        ))
        .routes(routes!(health::check_health))
        .routes(routes!(listings::list_vector_stores))
        .routes(routes!(listings::list_provider_stored_files))
        .routes(routes!(sync::sync_provider))
        .routes(routes!(sync::get_provider_sync))
        .routes(routes!(sync::cancel_provider_sync))
        .routes(routes!(sync_findings::list_sync_findings))
        .routes(routes!(orphans::list_orphan_searches, orphans::search_orphans))
        .routes(routes!(orphans::get_orphan_search))
        .routes(routes!(probe::list_provider_probes, probe::probe_provider))
        .routes(routes!(probe::get_provider_probe))
        .routes(routes!(deletions::list_deletions))
        .routes(routes!(deletions::give_up_deletion))
        .routes(routes!(
            file_uploads::list_file_uploads,
            file_uploads::create_file_upload
        ))
        .routes(routes!(
            file_uploads::get_file_upload,
            file_upload_edit::update_file_upload,
            file_uploads::delete_file_upload
        ))
}

/// The connection to a provider. Its credentials are write-only.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a connection, not a state machine"
)]
struct ConnectionOut {
    #[schema(example = "openai")]
    provider_type: String,
    /// null: the provider's own.
    #[schema(example = "https://api.openai.com/v1")]
    base_url: Option<String>,
    #[schema(example = "api_key")]
    auth_type: String,
    has_credentials: bool,
    /// A short-lived access token is stored.
    has_token: bool,
    token_expires_at: Option<DateTime<Utc>>,
    /// Requests a second that all processes together send at most; null: as many as the provider takes.
    max_requests_per_second: Option<u32>,
    /// Requests that all processes together have open at the same time at most; null: any number.
    max_concurrent_requests: Option<u32>,
    /// While false nothing is asked of the provider.
    is_enabled: bool,
    /// Nothing but this installation works on the account.
    exclusive: bool,
    last_healthcheck_at: Option<DateTime<Utc>>,
    /// Why the last health check or call failed, until one succeeds; else why the last sync failed, until one comes to its end.
    last_error: Option<String>,
    /// The account is exhausted: what would bring something there waits, and one request tries now and then whether it is
    /// over. null: it is not.
    state: Option<ConnectionState>,
    /// What this connection was seen to do or not to do, by name, each with when and how; builds take the ways that it is not
    /// known to lack. Forgotten when base_url or credentials change.
    #[schema(value_type = std::collections::HashMap<String, LearnedFact>)]
    capabilities: LearnedCapabilities,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What a provider has said of the account behind a connection.
#[derive(Debug, Serialize, ToSchema)]
struct ConnectionState {
    /// quota_exceeded | storage_full
    #[schema(example = "storage_full")]
    kind: String,
    /// In the provider's words.
    reason: String,
    since: DateTime<Utc>,
    next_try_at: DateTime<Utc>,
}

impl ConnectionState {
    fn of(row: &Connection) -> Option<Self> {
        Some(Self {
            kind: row.blocked_kind.clone()?,
            reason: row.blocked_reason.clone().unwrap_or_default(),
            since: row.blocked_since?,
            next_try_at: row.blocked_next_try_at?,
        })
    }
}

/// One thing that a connection was seen to do or not to do.
#[derive(ToSchema)]
#[schema(as = LearnedFact)]
#[expect(
    dead_code,
    reason = "describes `rag_providers::Fact`, which knows nothing of the API's document"
)]
struct LearnedFact {
    /// It does it.
    holds: bool,
    seen_at: DateTime<Utc>,
    /// How that was seen.
    #[schema(example = "a batch of files ended without counting or attaching one of them")]
    how: String,
}

impl From<Connection> for ConnectionOut {
    fn from(row: Connection) -> Self {
        Self {
            state: ConnectionState::of(&row),
            provider_type: row.provider_type,
            base_url: row.base_url,
            auth_type: row.auth_type,
            has_credentials: row.credentials_enc.is_some(),
            has_token: row.token_enc.is_some(),
            token_expires_at: row.token_expires_at,
            max_requests_per_second: row.max_requests_per_second,
            max_concurrent_requests: row.max_concurrent_requests,
            is_enabled: row.is_enabled,
            exclusive: row.is_exclusive,
            last_healthcheck_at: row.last_healthcheck_at,
            last_error: row.last_error.or(row.sync_error),
            capabilities: LearnedCapabilities::from_value(row.learned.as_ref()),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// for types in paths.
fn require_known(app: &App, provider_type: &str) -> Result<(), Problem> {
    if app.connections.registry().contains(provider_type) {
        Ok(())
    } else {
        Err(Problem::not_found("provider type"))
    }
}

fn no_connection(provider_type: &str) -> Problem {
    Problem::not_found(&format!("connection: provider `{provider_type}` has none"))
}
