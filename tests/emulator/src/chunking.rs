//! Text into tokens into chunks.
//!
//! The tokenizer is a plain approximation, not a model's: a token is a run of up to 16 letters and digits, or one
//! other visible character. Whitespace only separates. A chunk is `max_chunk_size_tokens` consecutive tokens; the next
//! one starts `chunk_overlap_tokens` before its end; the last chunk is shorter. `auto` means 800 tokens with an
//! overlap of 400, as at OpenAI. A text of `t` tokens therefore makes 1 chunk if `t <= size`, else
//! `1 + ceil((t - size) / (size - overlap))`.
//!
//! Everything streams: memory grows with the number of chunks and search terms, not with the bytes of the file.

use crate::error::ApiError;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read},
};

/// Sizes of the chunks of one file, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkSizes {
    pub max_chunk_size_tokens: u32,
    pub chunk_overlap_tokens: u32,
}

/// A `chunking_strategy` as requests spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum StrategyRequest {
    Auto {},
    Static { r#static: ChunkSizes },
}

impl ChunkSizes {
    pub(crate) const AUTO: Self = Self {
        max_chunk_size_tokens: 800,
        chunk_overlap_tokens: 400,
    };

    /// Checks a request against OpenAI's bounds: size 100..=4096, overlap at most half of it.
    pub(crate) fn from_request(request: Option<StrategyRequest>) -> Result<Self, ApiError> {
        let Some(StrategyRequest::Static { r#static: sizes }) = request else {
            return Ok(Self::AUTO);
        };
        if !(100..=4096).contains(&sizes.max_chunk_size_tokens) {
            let message = format!(
                "Invalid 'chunking_strategy.static.max_chunk_size_tokens': expected a value between 100 and 4096, \
                 but got {} instead.",
                sizes.max_chunk_size_tokens
            );
            return Err(ApiError::invalid(
                message,
                "chunking_strategy.static.max_chunk_size_tokens",
            ));
        }
        if sizes.chunk_overlap_tokens > sizes.max_chunk_size_tokens / 2 {
            let message = "Invalid 'chunking_strategy.static.chunk_overlap_tokens': the overlap must not exceed half \
                           of max_chunk_size_tokens.";
            return Err(ApiError::invalid(
                message,
                "chunking_strategy.static.chunk_overlap_tokens",
            ));
        }
        Ok(sizes)
    }

    pub(crate) fn to_json(self) -> serde_json::Value {
        serde_json::json!({ "type": "static", "static": self })
    }
}

/// A piece of text by its byte range in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub start: u64,
    pub end: u64,
    pub tokens: u32,
}

/// `count` times the term in the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Posting {
    pub term: u64,
    pub chunk: u32,
    pub count: u32,
}

/// What indexing makes of a file.
#[derive(Debug, Default)]
pub(crate) struct ChunkedText {
    pub chunks: Vec<Chunk>,
    /// Sorted by term, then chunk.
    pub postings: Vec<Posting>,
    /// Tokens of the text, overlaps counted once.
    pub tokens: u64,
}

impl ChunkedText {
    /// Bytes a store is charged: the text of every chunk plus a vector of 256 four-byte numbers each.
    pub(crate) fn usage_bytes(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| chunk.end - chunk.start + 1024)
            .sum()
    }
}

/// The file is no text: not UTF-8, or with NUL characters in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkingError {
    #[error("the file is not UTF-8 text")]
    NotText,
    #[error("reading the file failed")]
    Io(#[from] io::Error),
}

/// Terms are searchable up to this many tokens of a file; the rest is chunked and counted only. Bounds the memory a
/// huge file takes.
const SEARCHABLE_TOKENS: u64 = 2_000_000;
const BLOCK_BYTES: usize = 256 * 1024;

/// Reads the whole text once.
pub(crate) fn chunk(mut reader: impl Read, sizes: ChunkSizes) -> Result<ChunkedText, ChunkingError> {
    let mut chunker = Chunker::new(sizes);
    let mut tokenizer = Tokenizer::default();
    let mut block = vec![0; BLOCK_BYTES];
    let mut kept = 0;
    loop {
        let read = reader.read(&mut block[kept..])?;
        let filled = kept + read;
        let valid = match std::str::from_utf8(&block[..filled]) {
            Ok(_) => filled,
            // A character may be cut at the end of a block, but not at the end of the file.
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            Err(_) => return Err(ChunkingError::NotText),
        };
        let text = std::str::from_utf8(&block[..valid]).map_err(|_| ChunkingError::NotText)?;
        if text.contains('\0') {
            return Err(ChunkingError::NotText);
        }
        tokenizer.push(text, |token| chunker.push(token));
        if read == 0 {
            break;
        }
        block.copy_within(valid..filled, 0);
        kept = filled - valid;
    }
    tokenizer.finish(|token| chunker.push(token));
    Ok(chunker.finish())
}

/// The searchable terms of a query, cut exactly as texts are.
pub(crate) fn terms(text: &str) -> Vec<u64> {
    let mut terms = Vec::new();
    let mut tokenizer = Tokenizer::default();
    tokenizer.push(text, |token| terms.extend(token.term));
    tokenizer.finish(|token| terms.extend(token.term));
    terms.sort_unstable();
    terms.dedup();
    terms
}

#[derive(Debug, Clone, Copy)]
struct Token {
    start: u64,
    end: u64,
    /// Hash of the lowercased word; none for punctuation.
    term: Option<u64>,
}

/// Keeps its place between blocks, so that a word cut by a block boundary stays one token.
#[derive(Default)]
struct Tokenizer {
    at: u64,
    word: Option<(Token, u8)>,
}

const WORD_CHARACTERS: u8 = 16;

impl Tokenizer {
    fn push(&mut self, text: &str, mut emit: impl FnMut(Token)) {
        for character in text.chars() {
            let start = self.at;
            self.at += character.len_utf8() as u64;
            if character.is_alphanumeric() {
                let (word, length) = self.word.get_or_insert((
                    Token {
                        start,
                        end: start,
                        term: None,
                    },
                    0,
                ));
                word.end = self.at;
                word.term = Some(hash(word.term, character));
                *length += 1;
                if *length == WORD_CHARACTERS {
                    emit(*word);
                    self.word = None;
                }
                continue;
            }
            self.finish(&mut emit);
            if !character.is_whitespace() && !character.is_control() && character != '\u{feff}' {
                emit(Token {
                    start,
                    end: self.at,
                    term: None,
                });
            }
        }
    }

    fn finish(&mut self, mut emit: impl FnMut(Token)) {
        if let Some((word, _)) = self.word.take() {
            emit(word);
        }
    }
}

/// FNV-1a over the lowercased characters: stable, and good enough to tell words apart.
fn hash(so_far: Option<u64>, character: char) -> u64 {
    character
        .to_lowercase()
        .fold(so_far.unwrap_or(0xcbf2_9ce4_8422_2325), |hash, lower| {
            (hash ^ u64::from(u32::from(lower))).wrapping_mul(0x0100_0000_01b3)
        })
}

struct Chunker {
    size: usize,
    overlap: usize,
    window: VecDeque<Token>,
    /// Tokens of the window that no chunk holds yet.
    fresh: usize,
    text: ChunkedText,
}

impl Chunker {
    fn new(sizes: ChunkSizes) -> Self {
        let size = sizes.max_chunk_size_tokens as usize;
        let overlap = sizes.chunk_overlap_tokens as usize;
        Self {
            size,
            overlap,
            window: VecDeque::with_capacity(size),
            fresh: 0,
            text: ChunkedText::default(),
        }
    }

    fn push(&mut self, token: Token) {
        self.window.push_back(token);
        self.fresh += 1;
        self.text.tokens += 1;
        if self.window.len() == self.size {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let (Some(first), Some(last)) = (self.window.front(), self.window.back()) else {
            return;
        };
        let tokens = u32::try_from(self.window.len()).unwrap_or(u32::MAX);
        let number = u32::try_from(self.text.chunks.len()).unwrap_or(u32::MAX);
        self.text.chunks.push(Chunk {
            start: first.start,
            end: last.end,
            tokens,
        });
        if self.text.tokens <= SEARCHABLE_TOKENS {
            let mut counts: HashMap<u64, u32> = HashMap::new();
            for term in self.window.iter().filter_map(|token| token.term) {
                *counts.entry(term).or_default() += 1;
            }
            let postings = counts.into_iter().map(|(term, count)| Posting {
                term,
                chunk: number,
                count,
            });
            self.text.postings.extend(postings);
        }
        self.window
            .drain(..self.window.len().saturating_sub(self.overlap));
        self.fresh = 0;
    }

    fn finish(mut self) -> ChunkedText {
        if self.fresh > 0 {
            self.cut();
        }
        self.text.postings.sort_unstable();
        self.text.postings.shrink_to_fit();
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(size: u32, overlap: u32) -> ChunkSizes {
        ChunkSizes {
            max_chunk_size_tokens: size,
            chunk_overlap_tokens: overlap,
        }
    }

    fn words(count: usize) -> String {
        (0..count).fold(String::new(), |text, n| text + &format!("w{n} "))
    }

    #[test]
    fn chunk_counts_follow_size_and_overlap() {
        let text = words(1000);
        for (size, overlap, expected) in [
            (800, 400, 2),
            (100, 0, 10),
            (100, 50, 19),
            (4096, 0, 1),
            (1000, 500, 1),
            (999, 0, 2),
        ] {
            let made = chunk(text.as_bytes(), sizes(size, overlap)).unwrap();
            assert_eq!(made.chunks.len(), expected, "size {size} overlap {overlap}");
            assert_eq!(made.tokens, 1000);
        }
    }

    #[test]
    fn overlap_repeats_exactly_that_many_tokens() {
        let text = words(250);
        let made = chunk(text.as_bytes(), sizes(100, 30)).unwrap();
        let part = |n: usize| {
            let chunk = made.chunks[n];
            text[usize::try_from(chunk.start).unwrap()..usize::try_from(chunk.end).unwrap()].to_owned()
        };
        assert!(part(0).starts_with("w0 ") && part(0).ends_with(" w99"));
        assert!(part(1).starts_with("w70 ") && part(1).ends_with(" w169"));
    }

    #[test]
    fn characters_and_words_survive_block_boundaries() {
        // One byte at a time is the worst place to cut.
        struct OneByOne<'a>(&'a [u8]);
        impl Read for OneByOne<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(&mut buffer[..1])
            }
        }
        let text = "Жук жужжит, 日本 naïve";
        let cut = chunk(OneByOne(text.as_bytes()), ChunkSizes::AUTO).unwrap();
        let whole = chunk(text.as_bytes(), ChunkSizes::AUTO).unwrap();
        assert_eq!(cut.postings, whole.postings);
        assert_eq!(whole.tokens, 5);
        assert_eq!(
            whole.chunks,
            [Chunk {
                start: 0,
                end: text.len() as u64,
                tokens: 5
            }]
        );
    }

    #[test]
    fn binary_is_refused_and_blank_makes_no_chunks() {
        assert!(matches!(
            chunk(&b"\xff\xfe\x00a"[..], ChunkSizes::AUTO),
            Err(ChunkingError::NotText)
        ));
        assert!(matches!(
            chunk(&b"abc\0"[..], ChunkSizes::AUTO),
            Err(ChunkingError::NotText)
        ));
        assert!(matches!(
            chunk(&b"cut \xd0"[..], ChunkSizes::AUTO),
            Err(ChunkingError::NotText)
        ));
        assert!(chunk(&b" \n\t "[..], ChunkSizes::AUTO).unwrap().chunks.is_empty());
    }

    #[test]
    fn long_runs_are_cut_like_long_words() {
        assert_eq!(
            chunk("a".repeat(40).as_bytes(), ChunkSizes::AUTO).unwrap().tokens,
            3
        );
    }
}
