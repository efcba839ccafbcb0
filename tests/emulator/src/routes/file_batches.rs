//! `/vector_stores/{id}/file_batches`.

use super::{Answer, polled};
use crate::{
    app::App,
    chunking::{ChunkSizes, StrategyRequest},
    context::Context,
    deviations::Deviations,
    error::ApiError,
    extract::{AttachBody, JsonBody, ListQuery, check_attributes},
    fault_layer,
    ids::{Id, Kind},
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
use serde_json::{Map, Value};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    file_ids: Option<Vec<String>>,
    files: Option<Vec<AttachBody>>,
    chunking_strategy: Option<StrategyRequest>,
    attributes: Option<Map<String, Value>>,
}

impl CreateBody {
    fn has_strategy(&self) -> bool {
        let own = self
            .files
            .iter()
            .flatten()
            .any(|file| file.chunking_strategy.is_some());
        own || (self.files.is_none() && self.chunking_strategy.is_some())
    }

    /// With `files`, the batch's own strategy and attributes count for nothing.
    fn check(self, max: usize, deviations: Deviations) -> Result<Vec<AttachRequest>, ApiError> {
        let length = |length: usize, param: &'static str| match length {
            0 => Err(ApiError::invalid(
                format!("Invalid '{param}': array too short."),
                param,
            )),
            _ if length > max => {
                let message = format!(
                    "Invalid '{param}': array too long. Expected an array with maximum length {max}, but got an array \
                     with length {length} instead."
                );
                Err(ApiError::invalid(message, param).code("array_above_max_length"))
            }
            _ => Ok(()),
        };
        let (file_ids, files) = match (self.file_ids, self.files) {
            (ids, files) if deviations.unchecked_batches && (ids.is_none() || files.is_none()) => {
                let files = files.filter(|_| !deviations.ignore_batch_files);
                match files {
                    Some(files) => (None, Some(files)),
                    None if ids.as_ref().is_none_or(Vec::is_empty) => return Ok(Vec::new()),
                    None => (ids, None),
                }
            }
            (None, Some(files)) if deviations.ignore_batch_files => {
                length(files.len(), "files")?;
                return Ok(Vec::new());
            }
            (Some(ids), _) if deviations.ignore_batch_files => (Some(ids), None),
            both => both,
        };
        match (file_ids, files) {
            (Some(ids), None) => {
                length(ids.len(), "file_ids")?;
                let sizes = ChunkSizes::from_request(self.chunking_strategy)?;
                let attributes = self.attributes.unwrap_or_default();
                check_attributes(&attributes)?;
                let request = |id: String| AttachRequest {
                    file_id: id.into(),
                    sizes,
                    attributes: attributes.clone(),
                };
                Ok(ids.into_iter().map(request).collect())
            }
            (None, Some(files)) => {
                length(files.len(), "files")?;
                files.into_iter().map(AttachBody::check).collect()
            }
            (Some(_), Some(_)) => Err(ApiError::invalid(
                "'file_ids' and 'files' exclude each other.",
                "files",
            )),
            (None, None) => Err(ApiError::invalid(
                "Either 'file_ids' or 'files' is required.",
                "file_ids",
            )),
        }
    }
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(store_id): Path<Id>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Answer {
    let max = if app.options.is_yandex() {
        yandex::FILES_PER_CALL
    } else {
        2000
    };
    let has_strategy = body.has_strategy();
    let files = body.check(max, app.deviations)?;
    let names = {
        let state = app.state.lock();
        state.check_attach(&store_id, &files)?;
        state.filenames(&files)?
    };
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    fault_layer::meet(&app, &context, &names).await?;
    yandex::check_attach(&app, &store_id, &files, has_strategy)?;
    let id = app.new_id(Kind::Batch);
    let (shown, jobs) = {
        let mut state = app.state.lock();
        let jobs = state.create_batch(&context, &id, &store_id, files)?;
        (view::batch(state.batch(&store_id, &id)?, &app.options), jobs)
    };
    drop(indexing::start(&app, jobs));
    Ok(Json(shown))
}

pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Path((store_id, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let state = app.state.lock();
    Ok(polled(
        &app,
        view::batch(state.batch(&store_id, &id)?, &app.options),
    ))
}

pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path((store_id, id)): Path<(String, String)>,
) -> Answer {
    let mut state = app.state.lock();
    state.cancel_batch(&context, &store_id, &id)?;
    Ok(Json(view::batch(state.batch(&store_id, &id)?, &app.options)))
}

/// The files of the batch that are still in the store.
pub(crate) async fn list_files(
    State(app): State<Arc<App>>,
    Path((store_id, id)): Path<(String, String)>,
    query: ListQuery,
) -> Answer {
    let (request, status) = (query.page(app.deviations, 20, 100)?, query.status()?);
    let state = app.state.lock();
    let batch = state.batch(&store_id, &id)?;
    let store = state.store(&store_id)?;
    let page = batch.files.page(&request, |file_id| {
        store
            .files
            .get(file_id)
            .is_some_and(|file| file.visible && status.is_none_or(|status| status == file.status))
    })?;
    Ok(Json(view::list(&page, &app.options, |_, file_id| {
        match store.files.get(file_id) {
            Some(file) => view::store_file(&app.options, &store_id, file_id, file),
            None => Value::Null,
        }
    })))
}
