//! Receives file contents as a stream: no file is held in memory.

mod form;
mod paced;

pub(crate) use form::{Form, Part};
pub(crate) use paced::{BodyFailed, Pace, least_rate, paced};

use rag_settings::ApiSettings;

use crate::http::problem::{Kind, Problem};

impl From<BodyFailed> for Problem {
    fn from(error: BodyFailed) -> Self {
        let kind = match error {
            BodyFailed::Stalled(_) => Kind::RequestTimeout,
            BodyFailed::TooLarge => Kind::ContentTooLarge,
            BodyFailed::HeadersTooLarge | BodyFailed::Broken(_) => Kind::MalformedRequest,
        };
        Self::new(kind, error.to_string())
    }
}

/// The size limit of a whole upload request: the file, its text parts, and the form around them.
pub(crate) fn upload_limit(settings: &ApiSettings) -> usize {
    usize::try_from(settings.max_file_bytes)
        .unwrap_or(usize::MAX)
        .saturating_add(settings.max_body_bytes)
}
