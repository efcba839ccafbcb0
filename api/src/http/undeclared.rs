//! Refuses what an operation does not take: a body, or parameters in the query. What is ignored in silence is taken for done.
//!
//! What an operation takes is read from the OpenAPI document. Operations that have parameters refuse others themselves, with
//! [`extract::Params`](super::extract::Params).

use std::collections::HashMap;

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Query, Request};
use http::Method;
use serde_json::Value;
use utoipa::openapi::OpenApi;

use crate::http::problem::Problem;

/// Bodies that say nothing are let through: many clients send `{}` with every POST.
const SAYS_NOTHING: [&[u8]; 3] = [b"", b"{}", b"null"];
/// A longer body says something.
const MAX_BYTES: usize = 64;

/// What the operations take, by path template and method.
#[derive(Debug, Default)]
pub(crate) struct Declared(HashMap<String, Vec<(Method, Takes)>>);

#[derive(Debug)]
struct Takes {
    body: bool,
    /// Names of the parameters in the query.
    query: Vec<String>,
}

impl Declared {
    pub(crate) fn of(document: &OpenApi) -> Self {
        let document = serde_json::to_value(document).unwrap_or_default();
        let paths = document["paths"].as_object().into_iter().flatten();
        let operations = paths.map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            let takes = methods.filter_map(|(method, operation)| {
                Some((method.to_uppercase().parse().ok()?, Takes::of(operation)))
            });
            (path.clone(), takes.collect())
        });
        Self(operations.collect())
    }

    /// The same request, if its operation takes all of it.
    pub(crate) async fn check(&self, request: Request) -> Result<Request, Problem> {
        let path = request.extensions().get::<MatchedPath>();
        let mut operations = path
            .and_then(|path| self.0.get(path.as_str()))
            .into_iter()
            .flatten();
        let Some((_, takes)) = operations.find(|(method, _)| method == request.method()) else {
            return Ok(request);
        };
        if takes.query.is_empty()
            && let Ok(Query(sent)) = Query::<Vec<(String, String)>>::try_from_uri(request.uri())
            && let Some((name, _)) = sent.first()
        {
            return Err(Problem::malformed(format!(
                "this operation takes no parameters in the query, and so no {name}"
            )));
        }
        if takes.body || request.body().is_end_stream() {
            return Ok(request);
        }
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_BYTES).await;
        if !body.is_ok_and(|body| SAYS_NOTHING.contains(&body.trim_ascii())) {
            return Err(Problem::malformed(takes.without_body()));
        }
        Ok(Request::from_parts(parts, Body::empty()))
    }
}

impl Takes {
    fn of(operation: &Value) -> Self {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_query = parameters.filter(|parameter| parameter["in"] == "query");
        Self {
            body: operation.get("requestBody").is_some(),
            query: in_query
                .filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned()))
                .collect(),
        }
    }

    fn without_body(&self) -> String {
        let mut text = "this operation takes no body".to_owned();
        if !self.query.is_empty() {
            text += "; it has parameters in the query: ";
            text += &self.query.join(", ");
        }
        text
    }
}
