//! Two requests are the same if method, path, query and body are equal. A form's boundary does not count, because clients
//! choose another one for each try.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::BytesMut;
use futures::StreamExt as _;
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use memchr::memmem;
use rag_settings::ApiSettings;
use sha2::{Digest as _, Sha256};

use crate::http::problem::{Kind, Problem};
use crate::http::upload::{BodyFailed, Pace, least_rate, paced, upload_limit};

/// Complete when the body has been read.
#[derive(Debug, Clone)]
pub(super) struct Fingerprint(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Whole([u8; 32]),
    Form(Box<FormHash>),
}

impl Fingerprint {
    /// The returned body replaces the given one. Bodies other than forms are small and are read here.
    pub(super) async fn of(
        settings: &ApiSettings,
        parts: &Parts,
        body: Body,
    ) -> Result<(Self, Body), Problem> {
        let mut hash = Sha256::new();
        hash.update(format!("{} {}\n", parts.method, parts.uri));
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if let Some(boundary) = content_type.and_then(boundary) {
            let fingerprint = Self::new(State::Form(Box::new(FormHash::new(hash, boundary))));
            let watching = fingerprint.clone();
            let body = body.into_data_stream().inspect(move |piece| {
                if let (Ok(piece), State::Form(hash)) = (piece, &mut *watching.lock()) {
                    hash.update(piece);
                }
            });
            return Ok((fingerprint, Body::from_stream(body)));
        }
        let limited = Limited::new(body, settings.max_body_bytes).collect();
        let bytes = match tokio::time::timeout(settings.request_timeout, limited).await {
            Err(_) => {
                return Err(Problem::new(
                    Kind::RequestTimeout,
                    "the body did not arrive in time",
                ));
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(Problem::new(Kind::ContentTooLarge, "the body is too large"));
            }
            Ok(Err(_)) => return Err(Problem::malformed("the body did not arrive completely")),
            Ok(Ok(body)) => body.to_bytes(),
        };
        hash.update(&bytes);
        Ok((Self::new(State::Whole(hash.finalize().into())), Body::from(bytes)))
    }

    fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a body that no other code reads.
    pub(super) async fn read_to_end(&self, settings: &ApiSettings, body: Body) -> Result<(), Problem> {
        let limit = upload_limit(settings);
        let mut pieces = std::pin::pin!(paced(body, least_rate(settings), Pace::default()));
        let mut total = 0_usize;
        while let Some(piece) = pieces.next().await {
            total = total.saturating_add(piece?.len());
            if total > limit {
                return Err(BodyFailed::TooLarge.into());
            }
        }
        Ok(())
    }

    pub(super) fn value(&self) -> [u8; 32] {
        match &*self.lock() {
            State::Whole(hash) => *hash,
            State::Form(hash) => hash.value(),
        }
    }
}

/// Of `multipart/form-data; boundary=…`.
fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then_some(value)
    })
}

/// Hash of what lies between the delimiters of a form, however it is cut into pieces. What follows the last delimiter does
/// not count, because a form reader may skip it.
#[derive(Debug)]
struct FormHash {
    delimiter: Vec<u8>,
    running: Sha256,
    at_delimiter: Sha256,
    segment_bytes: u64,
    /// Not hashed yet: it may hold the beginning of a delimiter.
    pending: BytesMut,
}

impl FormHash {
    fn new(seed: Sha256, boundary: &str) -> Self {
        Self {
            delimiter: format!("--{boundary}").into_bytes(),
            running: seed.clone(),
            at_delimiter: seed,
            segment_bytes: 0,
            pending: BytesMut::new(),
        }
    }

    fn update(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
        while let Some(at) = memmem::find(&self.pending, &self.delimiter) {
            self.take(at);
            self.running.update(self.segment_bytes.to_be_bytes());
            self.segment_bytes = 0;
            self.at_delimiter = self.running.clone();
            drop(self.pending.split_to(self.delimiter.len()));
        }
        self.take((self.pending.len() + 1).saturating_sub(self.delimiter.len()));
    }

    fn take(&mut self, count: usize) {
        self.running.update(self.pending.split_to(count));
        self.segment_bytes += count as u64;
    }

    fn value(&self) -> [u8; 32] {
        self.at_delimiter.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(boundary: &str, text: &str, piece: usize) -> [u8; 32] {
        let mut hash = FormHash::new(Sha256::new(), boundary);
        for piece in text
            .replace('|', &format!("--{boundary}"))
            .as_bytes()
            .chunks(piece)
        {
            hash.update(piece);
        }
        hash.value()
    }

    #[test]
    fn neither_boundary_nor_cuts_nor_epilogue_matter() {
        let form = "|\r\nname: a\r\n\r\n-----x--- --X\r\n|\r\nb\r\n|--\r\n";
        let expected = hash("XYZ", form, 1000);
        for piece in 1..20 {
            assert_eq!(hash("XYZ", form, piece), expected, "{piece}");
            assert_eq!(hash("another-one", form, piece), expected, "{piece}");
        }
        assert_eq!(hash("XYZ", &format!("{form}epilogue"), 3), expected);
    }

    #[test]
    fn contents_matter_and_where_they_are_cut() {
        let all =
            ["|ab|c|--", "|a|bc|--", "|abc|--", "|abd|--", "|ab|c", ""].map(|form| hash("XYZ", form, 4));
        for (n, one) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other != one), "{n}");
        }
    }

    #[test]
    fn boundaries_are_found() {
        assert_eq!(boundary("multipart/form-data; boundary=a"), Some("a"));
        assert_eq!(
            boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""),
            Some("a b")
        );
        assert_eq!(boundary("multipart/form-data"), None);
        assert_eq!(boundary("application/json; boundary=a"), None);
    }
}
