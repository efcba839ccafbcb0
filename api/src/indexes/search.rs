//! `POST /indexes/{index_id}/search` (R-B6): asks the provider, answers in terms of local files.

use axum::Json;
use axum::extract::State;
use rag_db::indexes;
use rag_domain::{FileId, IndexId};
use rag_providers::{ErrorKind, SearchHit, SearchRequest, VectorStoreStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::EXPIRED_WAY_OUT;
use super::live_store::{LiveStore, LocalFiles};
use crate::http::extract::{Domain, Id, JsonBody};
use crate::http::problem::{Kind, Problem};
use crate::http::validate::Checks;
use crate::openapi::schemas::QuerySchema;
use crate::state::App;

const QUERY_CHARS: usize = 4096;
const QUERIES: usize = 16;

/// What to search for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Search, example = json!({"query": "What is the notice period?", "max_num_results": 5}))]
pub(super) struct SearchIn {
    #[schema(value_type = QuerySchema)]
    query: Query,
    #[schema(minimum = 1, maximum = 50, default = 10)]
    max_num_results: Option<u32>,
    /// Let the provider reword the query.
    rewrite_query: Option<bool>,
    /// A comparison or compound filter over file attributes, as OpenAI writes it.
    #[schema(value_type = Option<HashMap<String, Value>>)]
    filters: Option<Value>,
    /// `ranker`, `score_threshold`, as OpenAI writes it.
    #[schema(value_type = Option<HashMap<String, Value>>)]
    ranking_options: Option<Value>,
}

/// One query, or several at once.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Query {
    One(String),
    Several(Vec<String>),
}

/// What was found, best first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchResult)]
pub(super) struct SearchOut {
    /// The queries as the provider ran them.
    search_query: Vec<String>,
    items: Vec<HitOut>,
    /// The provider has more than it was asked for.
    has_more: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchHit)]
struct HitOut {
    /// The local file; null for an attached file that is not ours.
    #[schema(value_type = Option<uuid::Uuid>)]
    file_id: Option<FileId>,
    file_name: String,
    external_file_id: String,
    /// 0 to 1, higher is better.
    score: f64,
    #[schema(value_type = HashMap<String, Value>)]
    attributes: Value,
    /// The matching pieces of text.
    content: Vec<TextPartOut>,
}

/// A piece of text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TextPart)]
struct TextPartOut {
    /// `text` for all that is known.
    #[serde(rename = "type")]
    kind: String,
    text: String,
}

/// Search an index
#[utoipa::path(post, path = "/indexes/{index_id}/search", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index")),
    request_body = SearchIn,
    responses(
        (status = 200, description = "What was found", body = SearchOut),
        (status = 404, description = "No such index in this domain"),
        (status = 409, description = "The index was never built, its vector store has expired, or its provider is not connected or switched off"),
        (status = 502, description = "The provider failed"),
    ))]
pub(super) async fn search_index(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    JsonBody(body): JsonBody<SearchIn>,
) -> Result<Json<SearchOut>, Problem> {
    let request = body.check()?;
    let mut connection = app.connection().await?;
    let live = LiveStore::open(&app, &mut connection, &domain, index_id).await?;
    let files = LocalFiles::of(&mut connection, &domain, index_id).await?;
    // No database connection is held while the provider is asked.
    drop(connection);
    let found = match live.provider.search_vector_store(&live.store_id, request).await {
        Ok(found) => {
            live.answered(&app).await?;
            found
        }
        Err(error) => {
            // Providers refuse a search of an expired store in different ways; the store's own state is reliable.
            let may_be_expired = matches!(error.kind, ErrorKind::InvalidRequest | ErrorKind::NotFound);
            if may_be_expired && has_expired(&app, &live).await? {
                return Err(Problem::conflict(EXPIRED_WAY_OUT).because(error));
            }
            // The provider checks the caller's filters and ranking options.
            let kind = if error.kind == ErrorKind::InvalidRequest {
                Kind::ValidationFailed
            } else {
                live.not_answered(&app, "search", &error).await?;
                Kind::ProviderFailed
            };
            return Err(
                Problem::new(kind, format!("provider {}: {error}", live.index.provider_type)).because(error),
            );
        }
    };
    let items = found
        .hits
        .into_iter()
        .map(|hit| HitOut::new(hit, &files))
        .collect();
    Ok(Json(SearchOut {
        search_query: found.search_query,
        items,
        has_more: found.has_more,
    }))
}

/// Asks the provider, and writes down what it says.
async fn has_expired(app: &App, live: &LiveStore) -> Result<bool, Problem> {
    let Ok(found) = live.provider.get_vector_store(&live.store_id).await else {
        return Ok(false);
    };
    let expired = found.status == VectorStoreStatus::Expired;
    let mut connection = app.connection().await?;
    indexes::set_store_expired(&mut connection, live.index.id, &live.store_id, expired).await?;
    Ok(expired)
}

impl SearchIn {
    fn check(self) -> Result<SearchRequest, Problem> {
        let mut checks = Checks::default();
        let queries = match self.query {
            Query::One(query) => vec![query],
            Query::Several(queries) => queries,
        };
        if queries.is_empty() || queries.len() > QUERIES {
            checks.fail("query", format!("must be one text, or 1 to {QUERIES} of them"));
        }
        for query in &queries {
            checks.text("query", query, QUERY_CHARS);
            if query.trim().is_empty() {
                checks.fail("query", "must not be blank");
            }
        }
        if self
            .max_num_results
            .is_some_and(|results| !(1..=50).contains(&results))
        {
            checks.fail("max_num_results", "must be 1 to 50");
        }
        for (field, value) in [
            ("filters", &self.filters),
            ("ranking_options", &self.ranking_options),
        ] {
            if let Some(value) = value {
                checks.object(field, value);
            }
        }
        checks.finish()?;
        Ok(SearchRequest {
            queries,
            max_num_results: self.max_num_results,
            rewrite_query: self.rewrite_query,
            filters: self.filters,
            ranking_options: self.ranking_options,
        })
    }
}

impl HitOut {
    fn new(hit: SearchHit, files: &LocalFiles) -> Self {
        // Some servers hand out ids of their own, and the one of the Files API among the attributes.
        let attributed = hit.attributes.get("file_id").and_then(Value::as_str);
        let by_attribute = || attributed.and_then(|id| Some((id.to_owned(), files.find(id)?)));
        let (external_file_id, file_id) = match files.find(&hit.file_id) {
            Some(known) => (hit.file_id, Some(known)),
            None => by_attribute().map_or((hit.file_id, None), |(id, known)| (id, Some(known))),
        };
        let file_name = file_id.and_then(|id| files.name(id)).unwrap_or(hit.file_name);
        Self {
            file_id,
            file_name,
            external_file_id,
            score: hit.score,
            attributes: serde_json::to_value(hit.attributes).unwrap_or_default(),
            content: hit
                .content
                .into_iter()
                .map(|part| TextPartOut {
                    kind: part.kind,
                    text: part.text,
                })
                .collect(),
        }
    }
}
