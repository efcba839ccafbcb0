//! Receiving file contents: from a request's body to the file store, without ever holding a file in memory.

mod form;
mod media_type;
mod paced;

pub(crate) use form::{Form, Part};
pub(crate) use media_type::media_type;
pub(crate) use paced::{BodyFailed, Pace, least_rate, paced};

use crate::problem::{Kind, Problem};

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
