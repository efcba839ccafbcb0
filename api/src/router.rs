//! All routes, in groups by what is layered over them: who may call, how long it may take, how much may be sent.
//!
//! The same groups give the OpenAPI document, so a route cannot be served without being described.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::http::auth::{self, Role};
use crate::http::idempotency::{self, Idempotency};
use crate::http::problem::{Kind, Problem};
use crate::http::upload::upload_limit;
use crate::http::{edge, limits};
use crate::state::App;
use crate::{files, health, indexes, jobs, keys, openapi, providers};

const API: &str = "/api/v1";

/// Reads and writes of a domain.
fn service() -> OpenApiRouter<App> {
    OpenApiRouter::new().nest(
        API,
        files::routes().merge(indexes::routes()).merge(jobs::routes()),
    )
}

/// What callers may know of the installation.
fn installation() -> OpenApiRouter<App> {
    OpenApiRouter::new().nest(API, providers::routes())
}

/// Transfers of file contents, which have no deadline.
fn transfers() -> OpenApiRouter<App> {
    OpenApiRouter::new().nest(API, files::transfer_routes())
}

/// What concerns the installation and no domain.
fn admin() -> OpenApiRouter<App> {
    OpenApiRouter::new().nest(
        API,
        providers::admin_routes()
            .merge(files::admin_routes())
            .merge(keys::admin_routes()),
    )
}

/// The OpenAPI document of everything that [`router`] serves.
pub fn document() -> utoipa::openapi::OpenApi {
    let parts = openapi::Groups {
        operations: health::routes().into_openapi(),
        domain: [service().into_openapi(), transfers().into_openapi()],
        keyed: [installation().into_openapi(), admin().into_openapi()],
    };
    openapi::assemble(parts)
}

/// The whole application.
pub fn router(app: App) -> Router {
    let role = |role| from_fn_with_state((app.authenticator().clone(), role), auth::require);
    let deadline = from_fn_with_state(app.clone(), deadline);
    let body_limit = DefaultBodyLimit::max(app.settings.api.max_body_bytes);
    let rate = from_fn_with_state(app.rates().clone(), limits::limit_rate);
    let gate = app.gates().requests.clone();
    let shed = from_fn(move |request, next| limits::shed(gate.clone(), request, next));
    let gate = app.gates().transfers.clone();
    let shed_transfers =
        from_fn(move |request, next| limits::hold_while_transferring(gate.clone(), request, next));
    // Outside of the deadline: a request with an Idempotency-Key runs to its end.
    let once = Idempotency::new(app.db.clone(), &app.settings.api);
    let once = from_fn_with_state(once, idempotency::once);

    let service = Router::from(service().merge(installation()))
        .route_layer(deadline.clone())
        .route_layer(body_limit)
        .route_layer(once.clone())
        .route_layer(rate.clone())
        .route_layer(role(Role::Service))
        .route_layer(shed.clone());
    let transfers = Router::from(transfers())
        .route_layer(DefaultBodyLimit::max(upload_limit(&app.settings.api)))
        .route_layer(once)
        .route_layer(rate.clone())
        .route_layer(role(Role::Service))
        .route_layer(shed_transfers);
    let admin = Router::from(admin())
        .route_layer(deadline.clone())
        .route_layer(body_limit)
        .route_layer(rate)
        .route_layer(role(Role::Admin))
        .route_layer(shed);
    let operations = Router::from(health::routes()).route_layer(deadline);

    let router = service
        .merge(transfers)
        .merge(admin)
        .merge(operations)
        .merge(SwaggerUi::new("/docs").url("/api/v1/openapi.json", document()))
        // The router's own 404 would bypass the layer below.
        .fallback(async || Problem::new(Kind::NotFound, "there is nothing at this path"));
    edge::around(router).with_state(app)
}

/// Not tower-http's `TimeoutLayer`: it answers a bare status, and callers get a problem that says what happened.
async fn deadline(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.settings.api.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Problem::new(Kind::Unavailable, "the request took too long and was given up").into_response()
        }
    }
}
