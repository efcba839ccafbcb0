//! Extractors whose rejections are problems: the domain, JSON bodies, query strings, ids in paths,
//! preferences.

mod body;
mod domain;
mod path;
mod prefer;
mod query;

pub(crate) use body::{JsonBody, OptionalBody};
pub(crate) use domain::{Domain, X_DOMAIN_ID};
pub(crate) use path::Id;
pub(crate) use prefer::{Prefer, PreferHeader, Wait};
pub(crate) use query::{Params, check_length};
