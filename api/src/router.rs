//! All routes, in groups by what is layered over them: who may call, how long it may take, how much may be sent.
//!
//! The same groups give the OpenAPI document, so a route cannot be served without being described.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::http::auth::{self, Role};
use crate::http::idempotency::{self, Idempotency};
use crate::http::problem::{Kind, Problem};
use crate::http::undeclared::Declared;
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
    let document = document();
    let declared = Arc::new(Declared::of(&document));
    let layer = |routes, role, is_transfer| {
        let group = Group {
            app: app.clone(),
            once: Idempotency::new(app.db.clone(), &app.settings.api),
            declared: Arc::clone(&declared),
            role,
            is_transfer,
        };
        Router::from(routes).route_layer(from_fn_with_state(Arc::new(group), around))
    };
    let deadline = from_fn_with_state(app.clone(), async |State(app), request, next: Next| {
        deadline(&app, next.run(request)).await
    });
    let router = layer(service().merge(installation()), Role::Service, false)
        .merge(layer(transfers(), Role::Service, true))
        .merge(layer(admin(), Role::Admin, false))
        .merge(Router::from(health::routes()).route_layer(deadline))
        .merge(SwaggerUi::new("/docs").url("/api/v1/openapi.json", document))
        // The router's own 404 would bypass the layer below.
        .fallback(async || Problem::new(Kind::NotFound, "there is nothing at this path"));
    edge::around(router).with_state(app)
}

/// Routes with the same limits.
struct Group {
    app: App,
    once: Idempotency,
    declared: Arc<Declared>,
    role: Role,
    /// Of contents of files: without a deadline.
    is_transfer: bool,
}

/// All that is around the handlers of a group, in one layer: for each request axum copies everything below each layer, so
/// six layers cost as much as 21.
async fn around(State(group): State<Arc<Group>>, mut request: Request, next: Next) -> Response {
    let Group {
        app,
        once,
        declared,
        role,
        is_transfer,
    } = &*group;
    let is_transfer = *is_transfer;
    let carry_out = {
        let (app, declared) = (app.clone(), Arc::clone(declared));
        async move |request| {
            let carried_out = async {
                match declared.check(request).await {
                    Ok(request) => next.run(request).await,
                    Err(problem) => problem.into_response(),
                }
            };
            if is_transfer {
                carried_out.await
            } else {
                deadline(&app, carried_out).await
            }
        }
    };
    // The deadline is inside: a request with an Idempotency-Key is carried out even if its caller goes away.
    let admitted = async |request| {
        auth::require(app.authenticator(), *role, request, async |request| {
            limits::limit_rate(app.rates(), request, async |request| {
                idempotency::once(once, request, carry_out).await
            })
            .await
        })
        .await
    };
    if is_transfer {
        DefaultBodyLimit::max(upload_limit(&app.settings.api)).apply(&mut request);
        let gate = app.gates().transfers.clone();
        limits::hold_while_transferring(gate, request, admitted).await
    } else {
        DefaultBodyLimit::max(app.settings.api.max_body_bytes).apply(&mut request);
        limits::shed(app.gates().requests.clone(), request, admitted).await
    }
}

/// Not tower-http's `TimeoutLayer`: it answers a bare status, and callers get a problem that says what happened.
async fn deadline(app: &App, answer: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(app.settings.api.request_timeout, answer).await {
        Ok(response) => response,
        Err(_) => {
            Problem::new(Kind::Unavailable, "the request took too long and was given up").into_response()
        }
    }
}
