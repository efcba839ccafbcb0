//! `/files`. Uploads are written as they arrive; no body is ever held whole.

use super::Answer;
use crate::{
    app::App,
    body::{BodyWriter, Written},
    context::Context,
    error::ApiError,
    extract::ListQuery,
    fault_layer,
    ids::Kind,
    state::NewFile,
    view, yandex,
};
use axum::{
    Extension, Json,
    body::Body,
    extract::{
        Multipart, Path, State,
        multipart::{Field, MultipartRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// What the fields of an upload said.
#[derive(Default)]
struct Form {
    file: Option<(Arc<str>, Written)>,
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    form: Result<Multipart, MultipartRejection>,
) -> Answer {
    let mut multipart = form.map_err(bad_form)?;
    let mut form = Form::default();
    while let Some(mut field) = multipart.next_field().await.map_err(bad_form)? {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "file" => {
                let filename: Arc<str> = field
                    .file_name()
                    .filter(|name| !name.is_empty())
                    .ok_or_else(|| ApiError::invalid("The file has no filename.", "file"))?
                    .into();
                let filename = if app.deviations.mangle_names {
                    mangled(&filename)
                } else {
                    filename
                };
                if let Err(error) = fault_layer::meet(&app, &context, &[&filename]).await {
                    drain(&mut field).await;
                    return Err(error);
                }
                yandex::check_media_type(&app.options, field.content_type())?;
                form.file = Some((
                    filename,
                    receive(&app, &mut field, app.options.max_file_bytes()).await?,
                ));
            }
            "purpose" => form.purpose = Some(short_text(field).await?),
            "expires_after[anchor]" => form.anchor = Some(short_text(field).await?),
            "expires_after[seconds]" => form.seconds = Some(short_text(field).await?),
            _ => {
                let message = format!("Unknown parameter: '{name}'.");
                return Err(ApiError::invalid(message, name).code("unknown_parameter"));
            }
        }
    }
    let (filename, written) = form
        .file
        .ok_or_else(|| ApiError::invalid("'file' is a required property", "file"))?;
    let purpose = form
        .purpose
        .ok_or_else(|| ApiError::invalid("'purpose' is a required property", "purpose"))?;
    check_purpose(&purpose)?;
    let expires_after_seconds = match (form.anchor, form.seconds) {
        (None, None) => None,
        (Some(anchor), Some(seconds)) => Some(check_expiry(&anchor, seconds.parse().unwrap_or_default())?),
        _ => {
            return Err(ApiError::invalid(
                "'expires_after' takes an anchor and seconds.",
                "expires_after",
            ));
        }
    };
    let year = app.deviations.files_expire.then_some(365 * 86_400);
    let new = || NewFile {
        id: app.new_id(Kind::File),
        filename: filename.clone(),
        purpose: purpose.as_str().into(),
        expires_after_seconds: expires_after_seconds.or(year),
        written: written.clone(),
    };
    let mut file = app.state.lock().create_file(&context, new(), None);
    if app.deviations.repeat_uploads && context.takes_back_lost_answer() {
        file = app.state.lock().create_file(&context, new(), None);
    }
    Ok(Json(view::file(&file, &app.options)))
}

fn mangled(name: &str) -> Arc<str> {
    let keeps = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars()
        .map(|c| if keeps(c) { c } else { '_' })
        .collect::<String>()
        .into()
}

pub(crate) fn check_purpose(purpose: &str) -> Result<(), ApiError> {
    if matches!(
        purpose,
        "assistants" | "batch" | "fine-tune" | "vision" | "user_data" | "evals"
    ) {
        return Ok(());
    }
    let message = format!(
        "'{purpose}' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals']"
    );
    Err(ApiError::invalid(message, "purpose").code("invalid_value"))
}

pub(crate) fn check_expiry(anchor: &str, seconds: i64) -> Result<i64, ApiError> {
    if anchor != "created_at" {
        return Err(ApiError::invalid(
            "The anchor must be 'created_at'.",
            "expires_after.anchor",
        ));
    }
    if !(3600..=2_592_000).contains(&seconds) {
        let message = "Invalid 'expires_after.seconds': expected a value between 3600 and 2592000.";
        return Err(ApiError::invalid(message, "expires_after.seconds"));
    }
    Ok(seconds)
}

/// Takes the bytes of a field, as they come.
pub(crate) async fn receive(app: &App, field: &mut Field<'_>, max_bytes: u64) -> Result<Written, ApiError> {
    let mut writer = BodyWriter::new(app.directory());
    while let Some(piece) = field.chunk().await.map_err(bad_form)? {
        writer.write(&piece).await.map_err(ApiError::internal)?;
        if writer.bytes() > max_bytes {
            let message = format!("The file is larger than {max_bytes} bytes.");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("file_too_large"));
        }
    }
    writer.finish().await.map_err(ApiError::internal)
}

pub(crate) fn bad_form(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!("Could not parse multipart form: {error}"),
    )
}

/// Reads a refused body for a while, so that its client sees the refusal and not a broken pipe.
pub(crate) async fn drain(field: &mut Field<'_>) {
    let mut seen = 0;
    while let Ok(Some(piece)) = field.chunk().await {
        seen += piece.len();
        if seen > 16 << 20 {
            return;
        }
    }
}

async fn short_text(mut field: Field<'_>) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(bad_form)? {
        text.extend_from_slice(&piece);
        if text.len() > 1024 {
            return Err(bad_form("a field is too long"));
        }
    }
    String::from_utf8(text).map_err(bad_form)
}

pub(crate) async fn list(State(app): State<Arc<App>>, query: ListQuery) -> Answer {
    if query.get("before").is_some() {
        return Err(ApiError::invalid("Unknown parameter: 'before'.", "before").code("unknown_parameter"));
    }
    let mut request = query.page(app.deviations, 10_000, 10_000)?;
    if app.deviations.unpaged_files {
        (request.limit, request.after) = (usize::MAX - 1, None);
    }
    let state = app.state.lock();
    let page = state.files.page(&request, |file| {
        query.get("purpose").is_none_or(|p| p == &*file.purpose)
    })?;
    Ok(Json(view::list(&page, &app.options, |_, file| {
        view::file(file, &app.options)
    })))
}

pub(crate) async fn retrieve(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let state = app.state.lock();
    Ok(Json(view::file(state.file(&id)?, &app.options)))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(id): Path<String>,
) -> Answer {
    app.state
        .lock()
        .delete_file(&context, &id, app.deviations.keep_deleted_files)?;
    Ok(Json(view::deleted(&id, "file")))
}

pub(crate) async fn content(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let file = app.state.lock().file(&id)?.clone();
    if !app.options.allow_content {
        if app.options.is_yandex() {
            return Err(yandex::no_content());
        }
        if &*file.purpose == "assistants" {
            let message = "Not allowed to download files of purpose: assistants";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
        }
    }
    let stream = file.body.stream().await.map_err(ApiError::internal)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, file.bytes.to_string()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}
