//! For operators: liveness, readiness, metrics. No key needed.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::problem::{Kind, Problem};
use crate::state::App;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(metrics))
}

/// How the program is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
}

const OK: Health = Health {
    status: "ok",
    version: env!("CARGO_PKG_VERSION"),
};

/// The process answers
///
/// Says nothing about the database: restart the program only when this fails.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200, description = "Alive", body = Health)))]
async fn live() -> Json<Health> {
    Json(OK)
}

/// The process can serve requests
///
/// The database answers, takes writes, and has exactly the schema of this version; and FILES_ROOT is the folder of this
/// installation's files.
#[utoipa::path(get, path = "/health/ready", tag = "operations", responses(
    (status = 200, description = "Ready", body = Health),
    (status = 503, description = "The database is away, read-only, or has another schema version; or FILES_ROOT is not mounted"),
))]
async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    if let Err(error) = rag_db::check_schema(&app.db).await {
        return Err(Problem::new(Kind::Unavailable, error.to_string()).because(error));
    }
    let mut connection = app.connection().await?;
    if let Err(error) = rag_db::check_writable(&mut connection).await {
        let detail = "the database takes no writes at the moment: it is read-only";
        return Err(Problem::new(Kind::Unavailable, detail).because(error));
    }
    drop(connection);
    match app.files.check_root().await {
        Ok(()) => Ok(Json(OK)),
        Err(error) => Err(Problem::new(Kind::Unavailable, error.to_string()).because(error)),
    }
}

/// Metrics in the Prometheus text format
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "Metrics", body = String, content_type = "text/plain"),
))]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        app.metrics.render(),
    )
}
