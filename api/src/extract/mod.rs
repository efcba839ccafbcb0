//! Extractors whose rejections are problems: the domain, JSON bodies, query strings, ids in paths.

mod body;
mod domain;
mod path;
mod query;

pub use body::{JsonBody, OptionalBody};
pub use domain::{Domain, X_DOMAIN_ID};
pub use path::Id;
pub use query::Params;
