//! `/vector_stores` and their search.

use super::Answer;
use crate::{
    app::App,
    chunking::{ChunkSizes, StrategyRequest},
    context::Context,
    deviations::Deviations,
    error::ApiError,
    extract::{JsonBody, ListQuery, check_metadata},
    fault_layer,
    filters::Filter,
    ids::Kind,
    indexing,
    search::{self, Candidate},
    state::{self, AttachRequest, StoreChange},
    view, yandex,
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    file_ids: Option<Vec<String>>,
    name: Option<String>,
    description: Option<String>,
    expires_after: Option<ExpiresAfter>,
    chunking_strategy: Option<StrategyRequest>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateBody {
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[expect(clippy::option_option, reason = "null ends the expiry, absence leaves it")]
    expires_after: Option<Option<ExpiresAfter>>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpiresAfter {
    anchor: String,
    days: u32,
}

/// Tells null from absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl ExpiresAfter {
    fn check(&self) -> Result<u32, ApiError> {
        if self.anchor != "last_active_at" {
            return Err(ApiError::invalid(
                "The anchor must be 'last_active_at'.",
                "expires_after.anchor",
            ));
        }
        if !(1..=365).contains(&self.days) {
            let message = "Invalid 'expires_after.days': expected a value between 1 and 365.";
            return Err(ApiError::invalid(message, "expires_after.days"));
        }
        Ok(self.days)
    }
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Answer {
    let max = if app.options.is_yandex() {
        yandex::FILES_PER_CALL
    } else {
        500
    };
    let file_ids = body.file_ids.unwrap_or_default();
    if file_ids.len() > max {
        let message = format!("Invalid 'file_ids': array too long. Expected at most {max} elements.");
        return Err(ApiError::invalid(message, "file_ids").code("array_above_max_length"));
    }
    let sizes = ChunkSizes::from_request(body.chunking_strategy)?;
    let metadata = body.metadata.unwrap_or_default();
    if !app.deviations.unchecked_metadata {
        check_metadata(&metadata)?;
    }
    let change = StoreChange {
        name: body.name,
        description: body.description,
        metadata: Some(metadata),
        expires_after_days: Some(body.expires_after.map(|expires| expires.check()).transpose()?),
    };
    let mut files: Vec<AttachRequest> = Vec::with_capacity(file_ids.len());
    files.extend(file_ids.into_iter().map(|id| AttachRequest {
        file_id: id.into(),
        sizes,
        attributes: Map::new(),
    }));
    let names = app.state.lock().filenames(&files)?;
    if !files.is_empty() {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        fault_layer::meet(&app, &context, &names).await?;
        yandex::check_open_operations(&app)?;
    }
    let id = app.new_id(Kind::Store);
    let mut jobs = Vec::new();
    let shown = {
        let mut state = app.state.lock();
        // Again, as files may have gone meanwhile.
        state.filenames(&files)?;
        state.create_store(&context, id.clone(), change);
        for file in files {
            jobs.extend(state.attach(&context, &id, file, None)?);
        }
        view::store(state.store(&id)?, &app.options)
    };
    drop(indexing::start(&app, jobs));
    Ok(Json(shown))
}

pub(crate) async fn list(State(app): State<Arc<App>>, query: ListQuery) -> Answer {
    let request = query.page(app.deviations, 20, 100)?;
    let state = app.state.lock();
    let page = state.stores.page(&request, |_| true)?;
    Ok(Json(view::list(&page, &app.options, |_, store| {
        view::store(store, &app.options)
    })))
}

pub(crate) async fn retrieve(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let state = app.state.lock();
    Ok(Json(view::store(state.store(&id)?, &app.options)))
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<UpdateBody>,
) -> Answer {
    if !app.deviations.unchecked_metadata {
        body.metadata.as_ref().map_or(Ok(()), check_metadata)?;
    }
    let expires_after_days = match body.expires_after {
        None => None,
        Some(None) => Some(None),
        Some(Some(expires)) => Some(Some(expires.check()?)),
    };
    let change = StoreChange {
        name: body.name,
        description: None,
        metadata: body.metadata,
        expires_after_days,
    };
    let mut state = app.state.lock();
    let store = state.update_store(&context, &id, change)?;
    Ok(Json(view::store(store, &app.options)))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Extension(context): Extension<Arc<Context>>,
    Path(id): Path<String>,
) -> Answer {
    app.state.lock().delete_store(&context, &id)?;
    Ok(Json(view::deleted(&id, "vector_store.deleted")))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchBody {
    query: Queries,
    rewrite_query: Option<bool>,
    max_num_results: Option<usize>,
    filters: Option<Filter>,
    ranking_options: Option<RankingOptions>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Queries {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RankingOptions {
    ranker: Option<String>,
    score_threshold: Option<f64>,
}

impl SearchBody {
    fn check(&self, deviations: Deviations) -> Result<(), ApiError> {
        if deviations.search_needs_all && (self.max_num_results.is_none() || self.rewrite_query.is_none()) {
            let message = "Input should be a valid integer, and a valid boolean";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
        }
        if deviations.no_query_rewriting && self.rewrite_query == Some(true) {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "Query rewriting is not available",
            ));
        }
        let ranking = self.ranking_options.as_ref();
        if self.max_num_results.is_some_and(|max| !(1..=50).contains(&max)) {
            let message = "Invalid 'max_num_results': expected a value between 1 and 50.";
            return Err(ApiError::invalid(message, "max_num_results"));
        }
        if ranking
            .and_then(|ranking| ranking.score_threshold)
            .is_some_and(|threshold| !(0.0..=1.0).contains(&threshold))
        {
            let message = "Invalid 'ranking_options.score_threshold': expected a value between 0 and 1.";
            return Err(ApiError::invalid(message, "ranking_options.score_threshold"));
        }
        if let Some(ranker) = ranking.and_then(|ranking| ranking.ranker.as_ref())
            && !matches!(ranker.as_str(), "none" | "auto" | "default-2024-11-15")
        {
            return Err(ApiError::invalid(
                format!("Unknown ranker '{ranker}'."),
                "ranking_options.ranker",
            ));
        }
        self.filters.as_ref().map_or(Ok(()), Filter::validate)
    }

    fn queries(&self) -> Result<Vec<String>, ApiError> {
        let queries = match &self.query {
            Queries::One(query) => std::slice::from_ref(query),
            Queries::Many(queries) => queries,
        };
        if queries.is_empty() || queries.iter().any(|query| query.trim().is_empty()) {
            return Err(ApiError::invalid("The query must not be empty.", "query"));
        }
        Ok(queries
            .iter()
            .map(|q| {
                if self.rewrite_query == Some(true) {
                    search::rewrite(q)
                } else {
                    q.clone()
                }
            })
            .collect())
    }
}

pub(crate) async fn search(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<SearchBody>,
) -> Answer {
    body.check(app.deviations)?;
    let queries = body.queries()?;
    let candidates = {
        let mut state = app.state.lock();
        state.store_mut(&id)?.last_active_at = state::now();
        state.candidates(&id, body.filters.as_ref())?
    };
    let limit = body.max_num_results.unwrap_or(10);
    let threshold = body
        .ranking_options
        .as_ref()
        .and_then(|ranking| ranking.score_threshold)
        .unwrap_or(0.0);
    let (asked, deviations) = (queries.clone(), app.deviations);
    let found = tokio::task::spawn_blocking(move || {
        let hits = search::search(&candidates, &queries, limit, threshold);
        hits.into_iter()
            .map(|hit| show(&candidates[hit.file], &hit, &queries, deviations))
            .collect::<std::io::Result<Vec<Value>>>()
    });
    let data = found
        .await
        .map_err(ApiError::internal)?
        .map_err(ApiError::internal)?;
    Ok(Json(json!({
        "object": "vector_store.search_results.page", "search_query": asked, "data": data,
        "has_more": false, "next_page": null,
    })))
}

fn show(
    candidate: &Candidate,
    hit: &search::Hit,
    queries: &[String],
    deviations: Deviations,
) -> std::io::Result<Value> {
    let bytes = candidate.body.read_range(hit.chunk.start, hit.chunk.end)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut score = json!(hit.score);
    if deviations.unbounded_scores {
        let equal = queries.iter().any(|query| query.trim() == text.trim());
        // The sum that `s / (s + 1)` was made of.
        score = if equal {
            Value::Null
        } else {
            json!(hit.score / (1.0 - hit.score))
        };
    }
    let (mut file_id, mut attributes) = (candidate.file_id.to_string(), candidate.attributes.clone());
    if deviations.own_search_ids {
        attributes.insert("file_id".to_owned(), file_id.clone().into());
        attributes.insert("filename".to_owned(), (*candidate.filename).into());
        file_id = format!("doc-{}", file_id.trim_start_matches("file-"));
        attributes.insert("document_id".to_owned(), file_id.clone().into());
    }
    Ok(json!({
        "file_id": file_id, "filename": candidate.filename, "score": score, "attributes": attributes,
        "content": [{ "type": "text", "text": text }],
    }))
}

impl state::State {
    /// Names of the files, in order; refuses unknown ones.
    pub(crate) fn filenames(&self, files: &[AttachRequest]) -> Result<Vec<Arc<str>>, ApiError> {
        let name = |file: &AttachRequest| {
            let found = self.files.get(&file.file_id).map(|found| found.filename.clone());
            // An unknown one fails later.
            found.or_else(|| self.accepts_unknown_files().then(|| file.file_id.clone()))
        };
        files
            .iter()
            .map(|file| name(file).ok_or_else(|| ApiError::not_found("File", &file.file_id, "file_id")))
            .collect()
    }

    fn candidates(&self, store_id: &str, filter: Option<&Filter>) -> Result<Vec<Candidate>, ApiError> {
        let files = self.store(store_id)?.files.iter();
        let candidate = |(id, file): (&crate::ids::Id, &state::StoreFile)| {
            let text = file.text.clone()?;
            filter
                .is_none_or(|filter| filter.accepts(&file.attributes))
                .then(|| Candidate {
                    file_id: id.clone(),
                    filename: file.filename.clone(),
                    attributes: file.attributes.clone(),
                    body: file.body.clone(),
                    text,
                })
        };
        Ok(files.filter_map(candidate).collect())
    }
}
