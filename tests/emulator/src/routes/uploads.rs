//! `/uploads`: large files in parts of at most 64 MB.

use super::{
    Answer,
    files::{bad_form, check_expiry, check_purpose, receive},
};
use crate::{
    app::App,
    body::{Body, BodyWriter},
    context::Context,
    error::ApiError,
    extract::JsonBody,
    fault_layer,
    ids::{Id, Kind},
    state::{NewFile, Upload, now},
    view,
};
use axum::{
    Extension, Json,
    extract::{Multipart, Path, State, multipart::MultipartRejection},
};
use futures::StreamExt as _;
use md5::{Digest as _, Md5};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

const PART_BYTES: u64 = 64 << 20;
const UPLOAD_BYTES: u64 = 8 << 30;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    filename: String,
    purpose: String,
    bytes: u64,
    mime_type: String,
    expires_after: Option<ExpiresAfter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpiresAfter {
    anchor: String,
    seconds: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompleteBody {
    part_ids: Vec<String>,
    md5: Option<String>,
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Answer {
    check_purpose(&body.purpose)?;
    if body.bytes > UPLOAD_BYTES {
        return Err(ApiError::invalid("The upload is larger than 8 GB.", "bytes"));
    }
    if body.filename.is_empty() || body.mime_type.is_empty() {
        return Err(ApiError::invalid(
            "'filename' and 'mime_type' must not be empty.",
            "filename",
        ));
    }
    fault_layer::meet(&app, &context, &[&body.filename]).await?;
    let expires_after = body
        .expires_after
        .map(|e| check_expiry(&e.anchor, e.seconds))
        .transpose()?;
    let id = app.new_id(Kind::Upload);
    let upload = Upload::new(id, &body.filename, &body.purpose, body.bytes, expires_after);
    let shown = view::upload(&upload, None);
    app.state.lock().create_upload(&context, upload);
    Ok(Json(shown))
}

pub(crate) async fn add_part(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(id): Path<String>,
    form: Result<Multipart, MultipartRejection>,
) -> Answer {
    app.state.lock().pending_upload(&id)?;
    let mut multipart = form.map_err(bad_form)?;
    let mut data = None;
    while let Some(mut field) = multipart.next_field().await.map_err(bad_form)? {
        if field.name() != Some("data") {
            return Err(ApiError::invalid("A part has one field, 'data'.", "data"));
        }
        data = Some(receive(&app, &mut field, PART_BYTES).await?);
    }
    let data = data.ok_or_else(|| ApiError::invalid("'data' is a required property", "data"))?;
    let part = app.new_id(Kind::Part);
    app.state
        .lock()
        .add_part(&context, &id, part.clone(), data.body, data.bytes)?;
    Ok(Json(
        json!({ "id": part, "object": "upload.part", "created_at": now(), "upload_id": id }),
    ))
}

pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<CompleteBody>,
) -> Answer {
    let upload = app.state.lock().pending_upload(&id)?.clone();
    let parts = parts_in_order(&upload, &body.part_ids)?;
    let written = join(&app, &parts, body.md5.as_deref()).await?;
    let file_id = app.new_id(Kind::File);
    let new = NewFile {
        id: file_id.clone(),
        filename: upload.filename.clone(),
        purpose: upload.purpose.clone(),
        expires_after_seconds: upload.expires_after_seconds,
        written,
    };
    let mut state = app.state.lock();
    // Whoever completed or cancelled it meanwhile was first.
    let upload = state.complete_upload(&context, &id, &file_id)?;
    let file = state.create_file(&context, new, Some(upload.id.clone()));
    Ok(Json(view::upload(&upload, Some(view::file(&file, &app.options)))))
}

fn parts_in_order(upload: &Upload, ids: &[String]) -> Result<Vec<Arc<Body>>, ApiError> {
    let mut total = 0;
    let mut parts = Vec::with_capacity(ids.len());
    for part_id in ids {
        let (part, bytes) = upload.parts.get(part_id.as_str()).ok_or_else(|| {
            ApiError::invalid(
                format!("Part {part_id} does not belong to upload {}.", upload.id),
                "part_ids",
            )
        })?;
        total += bytes;
        parts.push(part.clone());
    }
    if total != upload.bytes {
        let message = format!(
            "The parts have {total} bytes, the upload was declared with {}.",
            upload.bytes
        );
        return Err(ApiError::invalid(message, "part_ids"));
    }
    Ok(parts)
}

async fn join(app: &App, parts: &[Arc<Body>], md5: Option<&str>) -> Result<crate::body::Written, ApiError> {
    let mut writer = BodyWriter::new(app.directory());
    let mut digest = md5.map(|_| Md5::new());
    for part in parts {
        let mut stream = part.clone().stream().await.map_err(ApiError::internal)?;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(ApiError::internal)?;
            if let Some(digest) = &mut digest {
                digest.update(&piece);
            }
            writer.write(&piece).await.map_err(ApiError::internal)?;
        }
    }
    if let (Some(expected), Some(digest)) = (md5, digest)
        && !hex::encode(digest.finalize()).eq_ignore_ascii_case(expected)
    {
        return Err(ApiError::invalid("The md5 of the parts is another one.", "md5"));
    }
    writer.finish().await.map_err(ApiError::internal)
}

pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(id): Path<Id>,
) -> Answer {
    let upload = app.state.lock().cancel_upload(&context, &id)?;
    Ok(Json(view::upload(&upload, None)))
}
