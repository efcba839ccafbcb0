//! `/vector_stores/{id}/files`.

use super::{Answer, polled};
use crate::{
    app::App,
    chunking::ChunkSizes,
    context::Context,
    error::ApiError,
    extract::{AttachBody, JsonBody, ListQuery, check_attributes},
    fault_layer,
    ids::Id,
    indexing,
    state::AttachRequest,
    view, yandex,
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A page of parsed text has at most this many bytes; `next_page` leads on.
const CONTENT_BYTES: u64 = 4 << 20;

impl AttachBody {
    pub(crate) fn check(self) -> Result<AttachRequest, ApiError> {
        let sizes = ChunkSizes::from_request(self.chunking_strategy)?;
        let attributes = self.attributes.unwrap_or_default();
        check_attributes(&attributes)?;
        Ok(AttachRequest {
            file_id: self.file_id.into(),
            sizes,
            attributes,
        })
    }
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(store_id): Path<Id>,
    JsonBody(body): JsonBody<AttachBody>,
) -> Answer {
    let has_strategy = body.chunking_strategy.is_some();
    let request = body.check()?;
    let file_id = request.file_id.clone();
    let name = {
        let state = app.state.lock();
        state.check_attach(&store_id, std::slice::from_ref(&request))?;
        state.filenames(std::slice::from_ref(&request))?.remove(0)
    };
    fault_layer::meet(&app, &context, &[&name]).await?;
    yandex::check_attach(&app, &store_id, std::slice::from_ref(&request), has_strategy)?;
    let show = |state: &crate::state::State| {
        let file = state.attached_file(&store_id, &file_id)?;
        Ok(view::store_file(&app.options, &store_id, &file_id, file))
    };
    let (shown, job) = {
        let mut state = app.state.lock();
        state.check_attach(&store_id, std::slice::from_ref(&request))?;
        let job = state.attach(&context, &store_id, request, None)?;
        (show(&state), job)
    };
    let running = indexing::start(&app, job.into_iter().collect());
    if !app.deviations.attach_answers_indexed {
        return Ok(Json(shown?));
    }
    for job in running {
        job.await.map_err(ApiError::internal)?;
    }
    let shown: Result<Value, ApiError> = show(&app.state.lock());
    Ok(Json(shown?))
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(store_id): Path<String>,
    query: ListQuery,
) -> Answer {
    let (request, status) = (query.page(app.deviations, 20, 100)?, query.status()?);
    let state = app.state.lock();
    let store = state.store(&store_id)?;
    let page = store.files.page(&request, |file| {
        file.visible && status.is_none_or(|status| status == file.status)
    })?;
    Ok(Json(view::list(&page, &app.options, |id, file| {
        view::store_file(&app.options, &store_id, id, file)
    })))
}

pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Path((store_id, file_id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let file_id = yandex::file_id(&app.options, file_id);
    let state = app.state.lock();
    let file = state.store_file(&store_id, &file_id)?;
    yandex::hide_while_indexing(&app.options, &file_id, file)?;
    Ok(polled(
        &app,
        view::store_file(&app.options, &store_id, &file_id, file),
    ))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateBody {
    attributes: Option<Map<String, Value>>,
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path((store_id, file_id)): Path<(String, String)>,
    JsonBody(body): JsonBody<UpdateBody>,
) -> Answer {
    let attributes = body.attributes.unwrap_or_default();
    check_attributes(&attributes)?;
    let file_id = yandex::file_id(&app.options, file_id);
    let mut state = app.state.lock();
    state.set_attributes(&context, &store_id, &file_id, attributes)?;
    Ok(Json(view::store_file(
        &app.options,
        &store_id,
        &file_id,
        state.store_file(&store_id, &file_id)?,
    )))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path((store_id, file_id)): Path<(String, String)>,
) -> Answer {
    let own = yandex::file_id(&app.options, file_id.clone());
    let mut state = app.state.lock();
    state.detach(&context, &store_id, &own)?;
    if app.options.detach_everywhere {
        state.detach_everywhere(&context, &own)?;
    }
    Ok(Json(view::deleted(&file_id, "vector_store.file.deleted")))
}

/// The parsed text, which for text files is the text.
pub(crate) async fn content(
    State(app): State<Arc<App>>,
    Path((store_id, file_id)): Path<(String, String)>,
    query: ListQuery,
) -> Answer {
    let file_id = yandex::file_id(&app.options, file_id);
    let (body, text) = {
        let state = app.state.lock();
        let file = state.store_file(&store_id, &file_id)?;
        (file.body.clone(), file.text.clone())
    };
    let end = text
        .as_ref()
        .and_then(|text| text.chunks.last())
        .map_or(0, |chunk| chunk.end);
    let start = match query.get("page") {
        Some(page) => page
            .parse()
            .map_err(|_| ApiError::invalid("Invalid 'page'.", "page"))?,
        None => 0_u64,
    };
    let until = end.min(start.saturating_add(CONTENT_BYTES));
    let bytes = tokio::task::spawn_blocking(move || body.read_range(start, until.max(start)));
    let mut bytes = bytes
        .await
        .map_err(ApiError::internal)?
        .map_err(ApiError::internal)?;
    // The text is known to be UTF-8; a character that the page cuts in two begins the next page.
    if let Err(error) = std::str::from_utf8(&bytes) {
        bytes.truncate(error.valid_up_to());
    }
    let next = start + bytes.len() as u64;
    let has_more = next < end && !bytes.is_empty();
    let pieces = String::from_utf8(bytes).map_err(ApiError::internal)?;
    let data = if pieces.is_empty() {
        json!([])
    } else {
        json!([{ "type": "text", "text": pieces }])
    };
    Ok(Json(json!({
        "object": "vector_store.file_content.page", "data": data, "has_more": has_more,
        "next_page": has_more.then(|| next.to_string()),
    })))
}
