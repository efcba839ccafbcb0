//! What handlers take from a request: JSON bodies, list parameters, and the checks they share.

use crate::{
    chunking::StrategyRequest, collection::PageRequest, deviations::Deviations, error::ApiError,
    state::FileStatus,
};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::BytesRejection},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// A JSON body; mistakes in it are answered as OpenAI does.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error: BytesRejection| {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let message = error.to_string();
            match message
                .strip_prefix("unknown field `")
                .and_then(|rest| rest.split('`').next())
            {
                Some(field) => ApiError::invalid(format!("Unknown parameter: '{field}'."), field.to_owned())
                    .code("unknown_parameter"),
                None => ApiError::new(StatusCode::BAD_REQUEST, format!("Invalid body: {message}")),
            }
        })
    }
}

/// The query of a list.
#[derive(Debug)]
pub(crate) struct ListQuery(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(query)| Self(query))
            .map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, e.to_string()))
    }
}

impl ListQuery {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `limit`, `order`, `after` and `before`, in bounds.
    pub(crate) fn page(
        &self,
        deviations: Deviations,
        default_limit: usize,
        max_limit: usize,
    ) -> Result<PageRequest, ApiError> {
        let newest_first = match self.get("order") {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(other) => {
                let message = format!("Invalid value: '{other}'. Supported values are: 'asc' and 'desc'.");
                return Err(ApiError::invalid(message, "order").code("invalid_value"));
            }
        };
        let owned = |name: &str| self.get(name).map(str::to_owned);
        let limit = self.limit(default_limit, max_limit)?;
        Ok(PageRequest {
            limit,
            newest_first,
            after: owned("after"),
            before: owned("before").filter(|_| !deviations.ignore_unknown_cursors),
            ignore_unknown: deviations.ignore_unknown_cursors,
        })
    }

    fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else {
            return Ok(default);
        };
        let Ok(limit) = text.parse::<i64>() else {
            let message = format!("Invalid type for 'limit': expected an integer, but got '{text}' instead.");
            return Err(ApiError::invalid(message, "limit").code("invalid_type"));
        };
        let refuse = |side: &str, bound: &str, code: &'static str| {
            let message = format!(
                "Invalid 'limit': integer {side}. Expected a value {bound}, but got {limit} instead."
            );
            Err(ApiError::invalid(message, "limit").code(code))
        };
        match usize::try_from(limit) {
            Err(_) | Ok(0) => refuse("below minimum value", ">= 1", "integer_below_min_value"),
            Ok(limit) if limit > max => refuse(
                "above maximum value",
                &format!("<= {max}"),
                "integer_above_max_value",
            ),
            Ok(limit) => Ok(limit),
        }
    }

    /// The `filter` of store files: a status.
    pub(crate) fn status(&self) -> Result<Option<FileStatus>, ApiError> {
        let Some(text) = self.get("filter") else {
            return Ok(None);
        };
        FileStatus::parse(text).map(Some).ok_or_else(|| {
            ApiError::invalid(format!("Invalid value: '{text}' is no file status."), "filter")
                .code("invalid_value")
        })
    }
}

/// One file of an attach call, alone or in a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachBody {
    pub file_id: String,
    pub chunking_strategy: Option<StrategyRequest>,
    pub attributes: Option<Map<String, Value>>,
}

/// Metadata: 16 pairs, keys up to 64 characters, values strings up to 512.
pub(crate) fn check_metadata(metadata: &Map<String, Value>) -> Result<(), ApiError> {
    check_pairs(metadata, "metadata", Value::is_string)
}

/// Attributes: like metadata, but values may be numbers and booleans too.
pub(crate) fn check_attributes(attributes: &Map<String, Value>) -> Result<(), ApiError> {
    check_pairs(attributes, "attributes", |value| {
        value.is_string() || value.is_number() || value.is_boolean()
    })
}

fn check_pairs(
    pairs: &Map<String, Value>,
    param: &'static str,
    is_allowed: impl Fn(&Value) -> bool,
) -> Result<(), ApiError> {
    if pairs.len() > 16 {
        let message = format!(
            "Invalid '{param}': too many properties. Expected at most 16, but got {}.",
            pairs.len()
        );
        return Err(ApiError::invalid(message, param).code("object_above_max_properties"));
    }
    for (key, value) in pairs {
        let refuse = |what: &str| {
            Err(ApiError::invalid(
                format!("Invalid '{param}.{key}': {what}."),
                param,
            ))
        };
        if key.chars().count() > 64 {
            return refuse("the key is longer than 64 characters");
        }
        if !is_allowed(value) {
            return refuse("values of this type are not allowed");
        }
        if value.as_str().is_some_and(|text| text.chars().count() > 512) {
            return refuse("the string is longer than 512 characters");
        }
    }
    Ok(())
}
