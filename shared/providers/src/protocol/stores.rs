//! Request bodies and answers of vector stores and their files.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::decode::Expected;
use crate::error::ProviderError;
use crate::types::{
    AttachFile, NewVectorStore, ParsedContent, Patch, SearchHit, SearchPage, SearchRequest, TextPart,
    VectorStoreUpdate,
};

pub(super) fn create_body(store: NewVectorStore) -> Value {
    let mut body = Map::new();
    if let Some(name) = store.name {
        body.insert("name".to_owned(), json!(name));
    }
    if let Some(description) = store.description {
        body.insert("description".to_owned(), json!(description));
    }
    if let Some(expires_after) = store.expires_after {
        body.insert("expires_after".to_owned(), json!(expires_after));
    }
    if !store.metadata.is_empty() {
        body.insert("metadata".to_owned(), json!(store.metadata));
    }
    if !store.file_ids.is_empty() {
        body.insert("file_ids".to_owned(), json!(store.file_ids));
        if let Some(strategy) = store.chunking_strategy {
            body.insert("chunking_strategy".to_owned(), strategy.to_value());
        }
    }
    Value::Object(body)
}

pub(super) fn update_body(update: VectorStoreUpdate) -> Value {
    let mut body = Map::new();
    if let Some(name) = update.name {
        body.insert("name".to_owned(), json!(name));
    }
    match update.expires_after {
        Patch::Keep => {}
        Patch::Clear => {
            body.insert("expires_after".to_owned(), Value::Null);
        }
        Patch::Set(expires_after) => {
            body.insert("expires_after".to_owned(), json!(expires_after));
        }
    }
    if let Some(metadata) = update.metadata {
        body.insert("metadata".to_owned(), json!(metadata));
    }
    Value::Object(body)
}

/// The body of an attach, and of each entry of a batch's `files`.
pub(super) fn attach_body(file: &AttachFile) -> Value {
    let mut body = Map::new();
    body.insert("file_id".to_owned(), json!(file.file_id));
    insert_own(&mut body, file);
    Value::Object(body)
}

/// What a file may have of its own, if it has it.
pub(super) fn insert_own(body: &mut Map<String, Value>, file: &AttachFile) {
    if !file.attributes.is_empty() {
        body.insert("attributes".to_owned(), Value::Object(file.attributes.clone()));
    }
    if let Some(strategy) = &file.chunking_strategy {
        body.insert("chunking_strategy".to_owned(), strategy.to_value());
    }
}

pub(super) fn search_body(search: SearchRequest) -> Value {
    let mut body = Map::new();
    let query = match <[String; 1]>::try_from(search.queries) {
        Ok([query]) => Value::String(query),
        Err(queries) => json!(queries),
    };
    body.insert("query".to_owned(), query);
    // The protocol's defaults, said all the same: a gateway was seen to pass on what is left out as null, which the server
    // behind it refuses.
    let limit = search.max_num_results.unwrap_or(10);
    body.insert("max_num_results".to_owned(), json!(limit));
    let rewrite = search.rewrite_query.unwrap_or(false);
    body.insert("rewrite_query".to_owned(), json!(rewrite));
    if let Some(filters) = search.filters {
        body.insert("filters".to_owned(), filters);
    }
    if let Some(options) = search.ranking_options {
        body.insert("ranking_options".to_owned(), options);
    }
    Value::Object(body)
}

pub(super) fn search_page(raw: Value, expected: Expected<'_>) -> Result<SearchPage, ProviderError> {
    let Some(data) = raw.get("data").and_then(Value::as_array) else {
        return Err(expected.protocol_error("the answer is not a page of search results"));
    };
    let hits = data
        .iter()
        .map(SearchHit::deserialize)
        .collect::<Result<Vec<_>, _>>();
    let hits = hits.map_err(|error| {
        expected
            .protocol_error("a search result is garbled")
            .with_source(error)
    })?;
    let search_query = match raw.get("search_query") {
        Some(Value::String(query)) => vec![query.clone()],
        Some(Value::Array(queries)) => queries
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    let has_more = raw.get("has_more").and_then(Value::as_bool).unwrap_or_default();
    Ok(SearchPage {
        search_query,
        hits,
        has_more,
        raw,
    })
}

/// `data` per the document; OpenAI's own sample calls it `content`.
pub(super) fn parsed_content(raw: Value, expected: Expected<'_>) -> Result<ParsedContent, ProviderError> {
    let Some(parts) = raw
        .get("data")
        .or_else(|| raw.get("content"))
        .and_then(Value::as_array)
    else {
        return Err(expected.protocol_error("the answer is not the content of a file"));
    };
    let parts = parts
        .iter()
        .map(TextPart::deserialize)
        .collect::<Result<Vec<_>, _>>();
    let parts = parts.map_err(|error| {
        expected
            .protocol_error("the content is garbled")
            .with_source(error)
    })?;
    let has_more = raw.get("has_more").and_then(Value::as_bool).unwrap_or_default();
    Ok(ParsedContent { parts, has_more, raw })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rag_domain::ChunkingStrategy;

    use crate::types::ExpiresAfter;

    #[test]
    fn a_creation_says_only_what_it_was_told() {
        assert_eq!(create_body(NewVectorStore::default()), json!({}));
        // A strategy without files would be refused.
        let store = NewVectorStore {
            name: Some("n".to_owned()),
            chunking_strategy: Some(ChunkingStrategy::AUTO),
            metadata: [("tag".to_owned(), "1".to_owned())].into(),
            ..NewVectorStore::default()
        };
        assert_eq!(
            create_body(store.clone()),
            json!({"name": "n", "metadata": {"tag": "1"}})
        );
        let store = NewVectorStore {
            file_ids: vec!["f".to_owned()],
            ..store
        };
        assert_eq!(create_body(store)["chunking_strategy"], json!({"type": "auto"}));
    }

    #[test]
    fn an_update_keeps_clears_or_sets() {
        let update = |expires_after| {
            update_body(VectorStoreUpdate {
                expires_after,
                ..Default::default()
            })
        };
        assert_eq!(update(Patch::Keep), json!({}));
        assert_eq!(update(Patch::Clear), json!({"expires_after": null}));
        assert_eq!(
            update(Patch::Set(ExpiresAfter::days_after_last_use(7))),
            json!({"expires_after": {"anchor": "last_active_at", "days": 7}})
        );
    }

    #[test]
    fn one_query_is_a_string_and_several_are_a_list() {
        let query = |queries: &[&str]| {
            let queries = queries.iter().map(|query| (*query).to_owned()).collect();
            search_body(SearchRequest {
                queries,
                ..SearchRequest::default()
            })["query"]
                .clone()
        };
        assert_eq!(query(&["a"]), json!("a"));
        assert_eq!(query(&["a", "b"]), json!(["a", "b"]));
    }
}
