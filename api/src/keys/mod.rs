//! `/admin/keys`: who may call the API. As `rag-api keys` on the command line.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use rag_db::DbError;
use rag_db::api_keys::{self, ApiKey};
use rag_domain::ApiKeyId;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::auth::{Caller, Domains, KeyRequest, Role};
use crate::http::extract::{Id, JsonBody};
use crate::http::problem::Problem;
use crate::http::validate::Checks;
use crate::openapi::schemas::{KeyDomainsSchema, RoleSchema};
use crate::state::App;

pub(crate) fn admin_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(get_key, revoke_key))
}

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey, example = json!({"name": "billing backend", "role": "service", "domains": ["tenant-1"]}))]
pub(super) struct NewKeyIn {
    /// Whose key it is, for the list.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    #[schema(value_type = Option<RoleSchema>, default = "service")]
    role: Option<String>,
    /// Required of a service key, which may name these in X-Domain-Id. An admin key is for all.
    #[schema(value_type = Option<KeyDomainsSchema>)]
    domains: Option<Domains>,
}

/// An API key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyOut {
    #[schema(value_type = uuid::Uuid)]
    id: ApiKeyId,
    #[schema(example = "billing backend")]
    name: String,
    #[schema(value_type = RoleSchema)]
    role: String,
    #[schema(value_type = KeyDomainsSchema)]
    domains: Domains,
    created_at: DateTime<Utc>,
    /// When it was revoked; null: it is in force.
    revoked_at: Option<DateTime<Utc>>,
}

/// A key that has just been made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MadeKey)]
pub(super) struct MadeKeyOut {
    #[serde(flatten)]
    entry: KeyOut,
    /// The key itself, to be sent as `Authorization: Bearer`. This answer is the only place where it appears.
    #[schema(example = "rag_3q2-7w…")]
    key: String,
}

/// All keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Keys)]
pub(super) struct KeysOut {
    /// Oldest first, revoked ones included.
    items: Vec<KeyOut>,
}

impl From<ApiKey> for KeyOut {
    fn from(row: ApiKey) -> Self {
        Self {
            id: row.id,
            name: row.name,
            role: row.role,
            domains: Domains::of_row(row.domains),
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// List the API keys
#[utoipa::path(get, path = "/admin/keys", tag = "admin: keys", responses(
    (status = 200, description = "All keys, without the keys themselves", body = KeysOut),
))]
async fn list_keys(State(app): State<App>) -> Result<Json<KeysOut>, Problem> {
    let rows = api_keys::list(&mut *app.connection().await?).await?;
    let items = rows.into_iter().map(KeyOut::from).collect();
    Ok(Json(KeysOut { items }))
}

/// Read the entry of an API key in force
#[utoipa::path(get, path = "/admin/keys/{key_id}", tag = "admin: keys",
    params(("key_id" = uuid::Uuid, Path, description = "The key's id")),
    responses(
        (status = 200, description = "The key, without the key itself", body = KeyOut),
        (status = 404, description = "No such key, or it was revoked: the list has it still"),
    ))]
async fn get_key(State(app): State<App>, Id(id): Id<ApiKeyId>) -> Result<Json<KeyOut>, Problem> {
    let key = read(&app, id).await?;
    if key.revoked_at.is_some() {
        return Err(Problem::not_found(
            "key in force; the list has those that were revoked",
        ));
    }
    Ok(Json(key))
}

/// Make an API key
///
/// The key is in the answer, and nowhere else: it is not stored, and no `Idempotency-Key` is taken. If the answer gets lost,
/// revoke what the list shows and make another.
#[utoipa::path(post, path = "/admin/keys", tag = "admin: keys", request_body = NewKeyIn, responses(
    (status = 201, description = "The key, shown this once", body = MadeKeyOut,
        headers(("Location" = String, description = "The path of the key's entry"))),
))]
async fn create_key(State(app): State<App>, JsonBody(body): JsonBody<NewKeyIn>) -> Result<Response, Problem> {
    let request = body.check()?;
    let (id, key) = request.issue(&mut *app.connection().await?).await?;
    tracing::info!(made.id = %id, role = request.role.as_str(), "an API key was made");
    let made = MadeKeyOut {
        entry: read(&app, id).await?,
        key: key.expose_secret().to_owned(),
    };
    let headers = [
        (header::LOCATION, format!("/api/v1/admin/keys/{id}")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, Json(made)).into_response())
}

/// Revoke an API key
///
/// This process refuses the key from now on, other processes within 10 seconds. What is under way with it (streams of events,
/// waits for jobs, downloads) ends within seconds, too.
#[utoipa::path(delete, path = "/admin/keys/{key_id}", tag = "admin: keys",
    params(("key_id" = uuid::Uuid, Path, description = "The key's id")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "No such key, or it was revoked before"),
        (status = 409, description = "It is the key of this call, which nobody can revoke by accident"),
    ))]
async fn revoke_key(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<ApiKeyId>,
) -> Result<StatusCode, Problem> {
    if caller.key() == Some(id) {
        return Err(Problem::conflict(
            "this call is made with this very key: use another admin key, or `rag-api keys revoke`",
        ));
    }
    if !api_keys::revoke(&mut *app.connection().await?, id).await? {
        return Err(Problem::not_found("key in force"));
    }
    app.keys.forget(id);
    tracing::info!(revoked.id = %id, "an API key was revoked");
    Ok(StatusCode::NO_CONTENT)
}

async fn read(app: &App, id: ApiKeyId) -> Result<KeyOut, Problem> {
    let row = api_keys::find(&mut *app.connection().await?, id).await?;
    Ok(row.ok_or(DbError::NotFound("key"))?.into())
}

impl NewKeyIn {
    fn check(self) -> Result<KeyRequest, Problem> {
        let mut checks = Checks::default();
        let role = match self.role.as_deref().map(Role::parse) {
            None => Role::Service,
            Some(Some(role)) => role,
            Some(None) => {
                checks.fail("role", "must be service or admin");
                Role::Service
            }
        };
        let request = KeyRequest {
            name: self.name,
            role,
            domains: self.domains,
        };
        request.check(&mut checks);
        checks.finish()?;
        Ok(request)
    }
}
