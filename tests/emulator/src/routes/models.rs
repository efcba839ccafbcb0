//! `/models`: a light request that tells whether key and server are well.

use super::Answer;
use crate::error::ApiError;
use axum::{Json, extract::Path, http::StatusCode};
use serde_json::{Value, json};

const MODEL: &str = "text-embedding-3-large";

fn model() -> Value {
    json!({ "id": MODEL, "object": "model", "created": 1_705_953_180, "owned_by": "system" })
}

pub(crate) async fn list() -> Json<Value> {
    Json(json!({ "object": "list", "data": [model()] }))
}

pub(crate) async fn retrieve(Path(id): Path<String>) -> Answer {
    if id == MODEL {
        return Ok(Json(model()));
    }
    let message = format!("The model '{id}' does not exist or you do not have access to it.");
    Err(ApiError::new(StatusCode::NOT_FOUND, message).code("model_not_found"))
}
