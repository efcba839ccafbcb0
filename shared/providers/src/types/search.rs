//! Search in a store, and the text a provider parsed out of a file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::store_file::Attributes;
use super::wire::null_as_default;

/// A search. What is `None` is left to the provider.
#[derive(Debug, Clone, Default)]
pub struct SearchRequest {
    /// One query, or several at once.
    pub queries: Vec<String>,
    /// 1..=50, 10 by default.
    pub max_num_results: Option<u32>,
    pub rewrite_query: Option<bool>,
    /// A comparison or compound filter over attributes, in wire form.
    pub filters: Option<Value>,
    /// `{"ranker": …, "score_threshold": …}`, in wire form.
    pub ranking_options: Option<Value>,
}

/// A piece of text. `kind` is `text` for all that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextPart {
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    #[serde(deserialize_with = "null_as_default")]
    pub text: String,
}

/// One chunk, or the chunks of one file, that matched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchHit {
    pub file_id: String,
    #[serde(rename = "filename", default, deserialize_with = "null_as_default")]
    pub file_name: String,
    /// 0.0..=1.0, higher is better.
    #[serde(default, deserialize_with = "null_as_default")]
    pub score: f64,
    #[serde(default, deserialize_with = "null_as_default")]
    pub attributes: Attributes,
    #[serde(default, deserialize_with = "null_as_default")]
    pub content: Vec<TextPart>,
}

/// What a search found, best first.
#[derive(Debug, Clone)]
pub struct SearchPage {
    /// The queries as the provider ran them (rewritten, perhaps).
    pub search_query: Vec<String>,
    pub hits: Vec<SearchHit>,
    /// The provider has more than `max_num_results`. No provider documents how to ask for it.
    pub has_more: bool,
    pub raw: Value,
}

/// The text a provider parsed out of an attached file: not the file's bytes.
#[derive(Debug, Clone)]
pub struct ParsedContent {
    pub parts: Vec<TextPart>,
    /// The provider holds back more text. No provider documents how to ask for it.
    pub has_more: bool,
    pub raw: Value,
}
