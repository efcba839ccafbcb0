//! One request as data: built once, sent perhaps several times.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;
use url::Url;

use crate::error::{ErrorKind, ProviderError};
use crate::operation::Operation;

/// The largest id or path segment that is sent; the longest seen is about 40 bytes.
const MAX_SEGMENT_BYTES: usize = 255;

/// A request below the base URL.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) method: Method,
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Value>,
    /// How long the answer may take, if not as long as that of any call.
    pub(crate) time: Option<Duration>,
    /// The largest answer that is read.
    pub(crate) max_answer_bytes: usize,
    /// What a 404 without a body means here.
    pub(crate) kind_of_empty_404: ErrorKind,
    repeatable: bool,
    /// Texts of the caller's that are sent otherwise than in `body`.
    own_texts: Vec<String>,
}

/// The parts of paths that are no ids.
const WORDS: [&str; 10] = [
    "files",
    "vector_stores",
    "file_batches",
    "search",
    "content",
    "cancel",
    "uploads",
    "parts",
    "complete",
    "models",
];
/// No text of a request is looked for deeper than this in its body.
const MAX_DEPTH: usize = 8;
/// Shorter texts of the caller's are not looked for in answers: they would be found everywhere.
const MIN_OWN_TEXT_BYTES: usize = 4;

impl Call {
    /// # Errors
    /// `InvalidRequest` if a segment is empty, or could be read as more or less than one segment: ids come from providers
    /// and callers, and must not be able to point a deletion elsewhere.
    pub(crate) fn new(
        operation: Operation,
        method: Method,
        segments: &[&str],
    ) -> Result<Self, ProviderError> {
        for segment in segments {
            if !is_plain_segment(segment) {
                return Err(ProviderError::new(
                    ErrorKind::InvalidRequest,
                    operation,
                    "an id is empty or contains characters no id has; nothing was sent",
                ));
            }
        }
        let repeatable = method == Method::GET || method == Method::DELETE || !operation.is_write();
        Ok(Self {
            operation,
            method,
            repeatable,
            segments: segments.iter().map(|segment| (*segment).to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            own_texts: Vec::new(),
            body: None,
            time: None,
            kind_of_empty_404: ErrorKind::NotFound,
            max_answer_bytes: 32 * 1024 * 1024,
        })
    }

    pub(crate) fn get(operation: Operation, segments: &[&str]) -> Result<Self, ProviderError> {
        Self::new(operation, Method::GET, segments)
    }

    pub(crate) fn delete(operation: Operation, segments: &[&str]) -> Result<Self, ProviderError> {
        Self::new(operation, Method::DELETE, segments)
    }

    pub(crate) fn post(operation: Operation, segments: &[&str]) -> Result<Self, ProviderError> {
        Self::new(operation, Method::POST, segments)
    }

    pub(crate) fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.query.push((name, value.to_string()));
        }
        self
    }

    pub(crate) fn time(mut self, time: Option<Duration>) -> Self {
        self.time = time;
        self
    }

    pub(crate) fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn empty_404_means(mut self, kind: ErrorKind) -> Self {
        self.kind_of_empty_404 = kind;
        self
    }

    /// The call carries this text of the caller's, though not in its JSON body.
    pub(crate) fn own_text(mut self, text: &str) -> Self {
        self.own_texts.push(text.to_owned());
        self
    }

    /// Texts that come from the caller, and that an answer may repeat; the longest first.
    pub(crate) fn own_texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = self.own_texts.iter().map(String::as_str).collect();
        if let Some(body) = &self.body {
            collect_texts(body, 0, &mut texts);
        }
        texts.retain(|text| text.len() >= MIN_OWN_TEXT_BYTES);
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts
    }

    /// The ids that the call is about: of its path, and those of files in its body.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self
            .segments
            .iter()
            .map(String::as_str)
            .filter(|segment| !WORDS.contains(segment))
            .collect();
        if let Some(body) = &self.body {
            ids.extend(body.get("file_id").and_then(Value::as_str));
            let list = |key: &str| body.get(key).and_then(Value::as_array).into_iter().flatten();
            ids.extend(list("file_ids").filter_map(Value::as_str));
            ids.extend(list("files").filter_map(|file| file.get("file_id")?.as_str()));
        }
        ids
    }

    /// Doing it twice does no harm, although it is a POST.
    pub(crate) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Doing it twice is as good as doing it once.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    pub(crate) fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        // A base URL that passed the guard has a host, and can always have a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&self.segments);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

fn collect_texts<'a>(value: &'a Value, depth: usize, texts: &mut Vec<&'a str>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_texts(item, depth + 1, texts)),
        Value::Object(fields) => fields
            .values()
            .for_each(|field| collect_texts(field, depth + 1, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_plain_segment(segment: &str) -> bool {
    let dots = segment == "." || segment == "..";
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'%');
    !segment.is_empty() && segment.len() <= MAX_SEGMENT_BYTES && !dots && segment.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_place() {
        for id in [
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "%2e%2e",
            "a b",
            "a\n",
            "ф",
            &"x".repeat(256),
        ] {
            let error = Call::delete(Operation::DeleteFile, &["files", id]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidRequest, "{id:?}");
        }
    }

    #[test]
    fn the_url_is_the_base_and_the_segments() {
        let base = Url::parse("https://api.example.com/v1").unwrap();
        let call = Call::get(Operation::ListFiles, &["files"]).unwrap();
        assert_eq!(call.url(&base).as_str(), "https://api.example.com/v1/files");
        let call = Call::get(Operation::GetFile, &["files", "file-1"])
            .unwrap()
            .query("after", Some("a&b=c"));
        assert_eq!(
            call.url(&base).as_str(),
            "https://api.example.com/v1/files/file-1?after=a%26b%3Dc"
        );
        let pathless = Url::parse("https://api.example.com").unwrap();
        assert_eq!(call.url(&pathless).path(), "/files/file-1");
    }
}
