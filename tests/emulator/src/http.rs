//! The routes, and what happens around every request: context, rate, faults, authentication, ledger, headers.

use crate::{
    app::App,
    auth,
    context::{self, Context, EXTERNAL_HEADER},
    control, dialect,
    error::ApiError,
    fault_layer::{self, Lost},
    faults::Loss,
    ids::Kind,
    routes::{file_batches, files, models, store_files, uploads, vector_stores},
    server::Connection,
    unread::Unread,
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Extension, MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use std::{sync::Arc, time::Instant};

/// JSON bodies are at most this long; uploads have their own limit.
const JSON_BYTES: usize = 16 << 20;

pub(crate) fn router(app: Arc<App>) -> Router {
    let mut api = Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{model}", get(models::retrieve))
        .route(
            "/v1/files",
            get(files::list)
                .post(files::create)
                .layer(DefaultBodyLimit::disable()),
        )
        .route("/v1/files/{file_id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{file_id}/content", get(files::content))
        .route(
            "/v1/vector_stores",
            get(vector_stores::list).post(vector_stores::create),
        )
        .route(
            "/v1/vector_stores/{vector_store_id}",
            get(vector_stores::retrieve)
                .post(vector_stores::update)
                .delete(vector_stores::delete),
        )
        .route(
            "/v1/vector_stores/{vector_store_id}/search",
            post(vector_stores::search),
        )
        .route(
            "/v1/vector_stores/{vector_store_id}/files",
            get(store_files::list).post(store_files::create),
        )
        .route(
            "/v1/vector_stores/{vector_store_id}/files/{file_id}",
            get(store_files::retrieve)
                .post(store_files::update)
                .delete(store_files::delete),
        )
        .route(
            "/v1/vector_stores/{vector_store_id}/files/{file_id}/content",
            get(store_files::content),
        );
    let (yandex, deviations) = (app.options.is_yandex(), app.deviations);
    if yandex {
        api = api.route("/iam/v1/tokens", post(crate::iam::create_token));
    }
    if !deviations.no_file_batches {
        api = api
            .route(
                "/v1/vector_stores/{vector_store_id}/file_batches",
                post(file_batches::create),
            )
            .route(
                "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}",
                get(file_batches::retrieve),
            )
            .route(
                "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files",
                get(file_batches::list_files),
            );
    }
    if !deviations.no_file_batches && !yandex {
        api = api.route(
            "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel",
            post(file_batches::cancel),
        );
    }
    if !deviations.no_uploads && !yandex {
        api = api
            .route("/v1/uploads", post(uploads::create))
            .route(
                "/v1/uploads/{upload_id}/parts",
                post(uploads::add_part).layer(DefaultBodyLimit::disable()),
            )
            .route("/v1/uploads/{upload_id}/complete", post(uploads::complete))
            .route("/v1/uploads/{upload_id}/cancel", post(uploads::cancel));
    }
    api.fallback(unknown_url)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), check_ids))
        .layer(from_fn_with_state(app.clone(), authenticate))
        .layer(from_fn_with_state(app.clone(), fault_layer::layer))
        .layer(from_fn_with_state(app.clone(), around))
        .merge(control::router())
        .layer(DefaultBodyLimit::max(JSON_BYTES))
        .with_state(app)
}

async fn unknown_url(method: Method, uri: Uri) -> ApiError {
    let message = format!("Invalid URL ({method} {})", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, message).code("unknown_url")
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_supported")
}

async fn authenticate(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // A token is asked for without one.
    if request.uri().path() != "/iam/v1/tokens" {
        auth::check(&app, request.headers())?;
    }
    Ok(next.run(request).await)
}

/// An id that cannot be one is refused before anything is looked up.
async fn check_ids(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if app.options.checks_ids() && context.operation.starts_with("vector_stores.") {
        for (name, id, prefix) in [
            ("vector_store_id", &context.vector_store_id, "vs_"),
            ("batch_id", &context.batch_id, "vsfb_"),
            ("file_id", &context.file_id, "file"),
        ] {
            if let Some(id) = id.as_ref().filter(|id| !id.starts_with(prefix)) {
                let message =
                    format!("Invalid '{name}': '{id}'. Expected an ID that begins with '{prefix}'.");
                return Err(ApiError::invalid(message, name).code("invalid_value"));
            }
        }
    }
    Ok(next.run(request).await)
}

/// The outermost layer.
async fn around(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let (mut request, unread) = Unread::watch(request);
    let context = Arc::new(read_context(&app, &mut request).await);
    request.extensions_mut().insert(context.clone());
    app.state.lock().expire();

    let open = (!context.external).then(|| OpenRequest::count(&app, &context));
    let too_fast = open
        .as_ref()
        .is_some_and(|(_, rate)| app.options.requests_per_second.is_some_and(|max| *rate > max));
    let response = if too_fast {
        rate_limited().into_response()
    } else {
        next.run(request).await
    };
    let response = unread.finish(response);
    // A faulted answer may stay away for ever, but the request itself is done.
    drop(open);

    let lost = response.extensions().get::<Lost>().map(|lost| lost.0);
    note(&app, &context, lost.is_none().then(|| response.status()));
    match lost {
        Some(Loss::Hang) => std::future::pending().await,
        Some(how) => {
            connection.end(how);
            std::future::pending().await
        }
        None => {
            if app.deviations.close_after_missing && dialect::is_missing(&context, &response) {
                connection.end_after_answer();
            }
            dress(&app, &context, response, started)
        }
    }
}

async fn read_context(app: &App, request: &mut Request) -> Context {
    use axum::RequestExt as _;
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let header = |headers: &HeaderMap, name: &str| headers.get(name)?.to_str().ok().map(Arc::from);
    let mut context = Context::new(context::operation(
        request.method(),
        route.as_deref().unwrap_or_default(),
    ));
    context.method = request.method().as_str().into();
    context.path = request.uri().path().into();
    context.request_id = Some(app.new_id(Kind::Request));
    context.client_request_id = header(request.headers(), "x-client-request-id");
    context.external = request.headers().contains_key(EXTERNAL_HEADER);
    if let Ok(params) = request.extract_parts::<RawPathParams>().await {
        for (name, value) in &params {
            let value = Some(value.into());
            match name {
                "file_id" => context.file_id = value,
                "vector_store_id" => context.vector_store_id = value,
                "batch_id" => context.batch_id = value,
                "upload_id" => context.upload_id = value,
                _ => {}
            }
        }
    }
    context
}

/// Counts a request as open until it is answered, or its client has gone.
struct OpenRequest {
    app: Arc<App>,
    path: Arc<str>,
}

impl OpenRequest {
    fn count(app: &Arc<App>, context: &Context) -> (Self, usize) {
        let rate = app.rate.lock().enter(&context.path);
        (
            Self {
                app: app.clone(),
                path: context.path.clone(),
            },
            rate,
        )
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.app.rate.lock().leave(&self.path);
    }
}

fn rate_limited() -> ApiError {
    let message = "Rate limit reached for requests. Please try again in 1s.";
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).code("rate_limit_exceeded");
    ApiError {
        retry_after_seconds: Some(1),
        ..error
    }
}

fn note(app: &App, context: &Context, status: Option<StatusCode>) {
    let mut state = app.state.lock();
    let wanted = app.options.ledger_reads || !context::is_read(context);
    if context.recorded_range().is_none() && wanted {
        state.ledger.push_unchanged(context);
    }
    let fault = context.fault().map(|fault| fault.name());
    state
        .ledger
        .answered(context, status.map(|status| status.as_u16()), fault);
}

/// Renders an error, and adds the headers that every answer has.
fn dress(app: &App, context: &Context, response: Response, started: Instant) -> Response {
    let request_id = context.request_id.as_deref().unwrap_or_default();
    let yandex = app.options.is_yandex();
    let closing = response.headers().get(header::CONNECTION).cloned();
    let mut response = match response.extensions().get::<ApiError>() {
        Some(error) => dialect::render(app, context, error, request_id),
        None => response,
    };
    let headers = response.headers_mut();
    headers.extend(closing.map(|value| (header::CONNECTION, value)));
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-request-id", request_id);
    if yandex {
        set("x-server-trace-id", request_id.trim_start_matches("req_"));
    } else {
        set("openai-version", "2020-10-01");
        set("openai-processing-ms", &started.elapsed().as_millis().to_string());
    }
    response
}
