//! Who is let in.

use crate::{app::App, error::ApiError};
use axum::http::{HeaderMap, header};

pub(crate) fn check(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (scheme, key) = value.split_once(' ').unwrap_or_default();
    let key = key.trim();
    let api_key_scheme = app.options.is_yandex() && scheme.eq_ignore_ascii_case("api-key");
    if key.is_empty() || !(scheme.eq_ignore_ascii_case("bearer") || api_key_scheme) {
        return Err(ApiError::unauthorized(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
             auth (i.e. Authorization: Bearer YOUR_KEY).",
        ));
    }
    let known = app.options.api_key.as_deref() == Some(key);
    let allowed = match &app.iam {
        Some(iam) => known || (!api_key_scheme && iam.is_valid(key)),
        None => known || app.options.api_key.is_none(),
    };
    if allowed {
        Ok(())
    } else {
        Err(ApiError::unauthorized("Incorrect API key provided."))
    }
}
