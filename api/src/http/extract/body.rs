//! JSON bodies. One that is not JSON is a 400; one of the wrong shape is a 422 that names the field.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::IntoResponse as _;
use http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::http::problem::{Kind, Problem};

/// A body of type `T` sent as `application/json`.
#[derive(Debug, Clone)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "the body must be sent as application/json",
            ));
        }
        let bytes = read(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// As [`JsonBody`], or the default where the request has no body.
#[derive(Debug, Clone)]
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = read(request, state).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => parse(&bytes).map(Self),
            (false, false) => Err(Problem::new(
                Kind::UnsupportedMediaType,
                "the body must be sent as application/json",
            )),
        }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Kind::ContentTooLarge, "the body is too large"),
            _ => Problem::malformed("the body did not arrive completely"),
        })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would also accept an array with a struct's fields in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => Problem::invalid_field("body", "must be a JSON object"),
            Err(error) => Problem::malformed(format!("the body is not JSON: {error}")),
        });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data => {
                let field = if path == "." { "body" } else { path.as_str() };
                Problem::invalid_field(field, without_position(&inner.to_string()))
            }
            _ => Problem::malformed(format!("the body is not JSON: {inner}")),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// `unknown field `x`, expected … at line 1 column 9`: the field is named already, the position is noise.
fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(text, _)| text)
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|essence| essence.trim().to_ascii_lowercase());
    essence.is_some_and(|essence| {
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[expect(dead_code, reason = "only its shape matters")]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        #[expect(dead_code, reason = "only its shape matters")]
        size: u32,
    }

    fn problem(body: &str) -> (u16, String, Vec<String>) {
        let problem = parse::<Example>(body.as_bytes()).unwrap_err();
        let body = problem.body("id");
        (
            body.status,
            body.detail,
            body.errors.into_iter().map(|error| error.field).collect(),
        )
    }

    #[test]
    fn syntax_is_400_and_shape_is_422_with_its_field() {
        assert!(parse::<Example>(br#"{"items":[{"size":1}]}"#).is_ok());
        for broken in ["", "{", r#"{"items":[]"#, r#"{"items":[]} x"#, "\u{feff}{}"] {
            assert_eq!(problem(broken).0, 400, "{broken:?}");
        }
        let (status, detail, fields) = problem(r#"{"items":[{"size":"big"}]}"#);
        assert_eq!((status, fields), (422, vec!["items[0].size".to_owned()]));
        assert!(
            detail.contains("expected u32") && !detail.contains("line"),
            "{detail}"
        );
        assert_eq!(problem(r#"{"items":[],"itmes":1}"#).2, ["itmes"]);
        for no_object in ["[]", "[[]]", "null", "1", "\"x\""] {
            assert_eq!(problem(no_object).0, 422, "{no_object}");
        }
    }
}
