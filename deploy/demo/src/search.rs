//! The search at the end, and whether its answer is true. Asks the API; an API without search is told by 404 or 405, and
//! then the provider is asked directly.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api::{Api, accepted, answer, transport};
use crate::error::DemoError;

const HITS: usize = 3;
/// Shorter words are in every text.
const SHORTEST_WORD: usize = 4;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    pub(crate) file_name: String,
    pub(crate) score: f64,
    pub(crate) text: String,
}

/// The best hits, best first.
pub(crate) async fn ask(
    api: &Api,
    index_id: &str,
    provider_url: &str,
    provider_key: &str,
    store: &str,
    query: &str,
) -> Result<Vec<Hit>, DemoError> {
    let what = "searching";
    let body = json!({"query": query, "max_num_results": HITS});
    let own = api
        .service(Method::POST, &format!("/indexes/{index_id}/search"))
        .json(&body);
    let own_answer = transport(what, own.send().await)?;
    let found: Value = if matches!(
        own_answer.status(),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
    ) {
        let url = format!(
            "{}/vector_stores/{store}/search",
            provider_url.trim_end_matches('/')
        );
        let request = api
            .http
            .post(url)
            .bearer_auth(provider_key)
            .header("OpenAI-Beta", "assistants=v2");
        answer("searching at the provider", request.json(&body)).await?
    } else {
        transport(what, accepted(what, own_answer).await?.json().await)?
    };
    Ok(hits(&found))
}

/// Reads a page of the protocol (`data`) or of the API (`items`).
fn hits(page: &Value) -> Vec<Hit> {
    let list = page["data"].as_array().or_else(|| page["items"].as_array());
    list.into_iter().flatten().map(hit).collect()
}

fn hit(item: &Value) -> Hit {
    let name = item["filename"].as_str().or_else(|| item["file_name"].as_str());
    let pieces = item["content"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|piece| piece["text"].as_str());
    Hit {
        file_name: name.unwrap_or("?").to_owned(),
        score: item["score"].as_f64().unwrap_or(0.0),
        text: pieces.collect::<Vec<_>>().join("\n"),
    }
}

/// Whether the best hit really speaks of what was asked.
pub(crate) fn is_answered(query: &str, hits: &[Hit]) -> bool {
    let words = words(query);
    hits.first()
        .is_some_and(|best| words.iter().any(|word| best.text.to_lowercase().contains(word)))
}

/// The words of a query that say something, in lower case.
pub(crate) fn words(text: &str) -> Vec<String> {
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() >= SHORTEST_WORD);
    words.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_a_page_are_read() {
        let item =
            json!({"filename": "a.md", "score": 0.5, "content": [{"type": "text", "text": "The lease"}]});
        let expected = vec![Hit {
            file_name: "a.md".to_owned(),
            score: 0.5,
            text: "The lease".to_owned(),
        }];
        assert_eq!(hits(&json!({"data": [item]})), expected);
        let item =
            json!({"file_name": "a.md", "score": 0.5, "content": [{"type": "text", "text": "The lease"}]});
        assert_eq!(hits(&json!({"items": [item]})), expected);
        assert_eq!(hits(&json!({})), []);
    }

    #[test]
    fn an_answer_must_contain_a_word_of_the_query() {
        let hit = |text: &str| {
            vec![Hit {
                file_name: String::new(),
                score: 1.0,
                text: text.to_owned(),
            }]
        };
        assert!(is_answered("Who holds the LEASE?", &hit("a lease is held")));
        assert!(
            !is_answered("Who holds the lease?", &hit("the weather")),
            "`the` and `who` do not count"
        );
        assert!(!is_answered("lease", &[]));
    }
}
