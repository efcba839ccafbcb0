//! Full-text ranking over chunks: BM25 (k1 = 1.2, b = 0.75) on the terms of `chunking`, its sum `s` shown as
//! `s / (s + 1)` so that scores lie in 0..1. No embeddings: a query finds words, not meanings.

use crate::{
    body::Body,
    chunking::{self, Chunk, ChunkedText, Posting},
    ids::Id,
};
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc};

/// A file that may be searched.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub file_id: Id,
    pub filename: Arc<str>,
    pub attributes: Map<String, Value>,
    pub body: Arc<Body>,
    pub text: Arc<ChunkedText>,
}

/// A chunk found in `candidates[file]`.
#[derive(Debug)]
pub(crate) struct Hit {
    pub file: usize,
    pub chunk: Chunk,
    pub score: f64,
}

/// The best `limit` chunks with at least `threshold`, best first; ties keep the order of the candidates.
pub(crate) fn search(candidates: &[Candidate], queries: &[String], limit: usize, threshold: f64) -> Vec<Hit> {
    let mut terms: Vec<u64> = queries.iter().flat_map(|query| chunking::terms(query)).collect();
    terms.sort_unstable();
    terms.dedup();

    let chunks: usize = candidates
        .iter()
        .map(|candidate| candidate.text.chunks.len())
        .sum();
    let tokens: u64 = candidates
        .iter()
        .flat_map(|candidate| &candidate.text.chunks)
        .map(|chunk| u64::from(chunk.tokens))
        .sum();
    if chunks == 0 {
        return Vec::new();
    }
    let chunks = to_f64(chunks as u64);
    let average = to_f64(tokens) / chunks;

    let mut sums: HashMap<(usize, u32), f64> = HashMap::new();
    for term in terms {
        let found: Vec<_> = candidates
            .iter()
            .map(|candidate| postings(&candidate.text, term))
            .collect();
        let holding = to_f64(found.iter().map(|postings| postings.len() as u64).sum());
        let rarity = (1.0 + (chunks - holding + 0.5) / (holding + 0.5)).ln();
        for (file, posting) in found
            .iter()
            .enumerate()
            .flat_map(|(file, list)| list.iter().map(move |p| (file, p)))
        {
            let length = f64::from(candidates[file].text.chunks[posting.chunk as usize].tokens);
            let count = f64::from(posting.count);
            let saturated = count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / average));
            *sums.entry((file, posting.chunk)).or_default() += rarity * saturated;
        }
    }

    let mut ranked: Vec<_> = sums
        .into_iter()
        .map(|(place, sum)| (place, sum / (sum + 1.0)))
        .filter(|(_, score)| *score >= threshold)
        .collect();
    ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(limit);
    ranked
        .into_iter()
        .map(|((file, chunk), score)| Hit {
            file,
            chunk: candidates[file].text.chunks[chunk as usize],
            score,
        })
        .collect()
}

/// What `rewrite_query` does here: lower case, words only, no English stop words (unless nothing else is left).
pub(crate) fn rewrite(query: &str) -> String {
    const STOP_WORDS: &[&str] = &[
        "a", "about", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "how",
        "i", "in", "is", "it", "me", "of", "on", "or", "please", "tell", "that", "the", "this", "to", "was",
        "what", "when", "where", "which", "who", "why", "with", "you",
    ];
    let lower = query.to_lowercase();
    let words = || {
        lower
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
    };
    let telling: Vec<&str> = words().filter(|word| !STOP_WORDS.contains(word)).collect();
    if telling.is_empty() {
        words().collect::<Vec<_>>().join(" ")
    } else {
        telling.join(" ")
    }
}

fn postings(text: &ChunkedText, term: u64) -> &[Posting] {
    let start = text.postings.partition_point(|posting| posting.term < term);
    let length = text.postings[start..].partition_point(|posting| posting.term == term);
    &text.postings[start..start + length]
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^53")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunking::{ChunkSizes, chunk};

    fn candidate(name: &str, text: &str) -> Candidate {
        Candidate {
            file_id: name.into(),
            filename: name.into(),
            attributes: Map::new(),
            body: Arc::new(Body::Memory(text.to_owned().into())),
            text: Arc::new(chunk(text.as_bytes(), ChunkSizes::AUTO).unwrap()),
        }
    }

    fn names(files: &[Candidate], query: &str, threshold: f64) -> Vec<String> {
        let hits = search(files, &[query.to_owned()], 10, threshold);
        assert!(hits.iter().all(|hit| (0.0..=1.0).contains(&hit.score)));
        hits.iter()
            .map(|hit| files[hit.file].filename.to_string())
            .collect()
    }

    #[test]
    fn rare_and_frequent_words_rank_first() {
        let files = [
            candidate("cats", "The cat sat on the mat, said the other cat."),
            candidate("dogs", "The dog barked at the cat once upon a time."),
            candidate("tax", "Income tax is due in April."),
        ];
        assert_eq!(names(&files, "CAT", 0.0), ["cats", "dogs"]);
        assert_eq!(names(&files, "dog cat", 0.0), ["dogs", "cats"]);
        assert_eq!(names(&files, "tax?", 0.0), ["tax"]);
        assert_eq!(names(&files, "zebra", 0.0), [""; 0]);
        assert_eq!(names(&files, "cat", 0.999), [""; 0]);
    }

    #[test]
    fn rewriting_drops_what_does_not_tell() {
        assert_eq!(rewrite("What is the Income-Tax?"), "income tax");
        assert_eq!(rewrite("what is this"), "what is this");
    }
}
