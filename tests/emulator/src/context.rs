//! What is known about a request before its handler runs, and travels with it.

use crate::{
    faults::{Action, Fired},
    ids::Id,
};
use axum::http::Method;
use parking_lot::Mutex;
use std::sync::Arc;

/// Marks calls made behind the client's back: no faults, not counted in the rates, `external` in the ledger.
pub(crate) const EXTERNAL_HEADER: &str = "x-emulator-external";

#[derive(Debug, Default)]
pub(crate) struct Context {
    pub operation: &'static str,
    pub method: Arc<str>,
    pub path: Arc<str>,
    pub request_id: Option<Id>,
    pub client_request_id: Option<Arc<str>>,
    pub external: bool,
    /// Ids that the path names.
    pub file_id: Option<Id>,
    pub vector_store_id: Option<Id>,
    pub batch_id: Option<Id>,
    pub upload_id: Option<Id>,
    recorded: Mutex<Option<(u64, u64)>>,
    fault: Mutex<Option<Fired>>,
}

impl Context {
    /// All else is empty, as it is for work that no request waits for.
    pub(crate) fn new(operation: &'static str) -> Self {
        Self {
            operation,
            ..Self::default()
        }
    }

    pub(crate) fn recorded(&self, seq: u64) {
        let mut recorded = self.recorded.lock();
        *recorded = Some((recorded.map_or(seq, |(first, _)| first), seq));
    }

    pub(crate) fn recorded_range(&self) -> Option<(u64, u64)> {
        *self.recorded.lock()
    }

    pub(crate) fn set_fault(&self, fault: Fired) {
        *self.fault.lock() = Some(fault);
    }

    /// Where a gateway asks again after a lost answer, its client hears the second one: the fault is over.
    pub(crate) fn takes_back_lost_answer(&self) -> bool {
        let mut fault = self.fault.lock();
        let lost = fault.as_ref().is_some_and(Action::loses_an_answer);
        if lost {
            *fault = None;
        }
        lost
    }

    pub(crate) fn fault(&self) -> Option<Fired> {
        self.fault.lock().clone()
    }
}

/// Every operation of the protocol by method and route, named as the official Python SDK names it.
const OPERATIONS: &[(&str, &str, &str)] = &[
    ("GET", "/v1/models", "models.list"),
    ("GET", "/v1/models/{model}", "models.retrieve"),
    ("GET", "/v1/files", "files.list"),
    ("POST", "/v1/files", "files.create"),
    ("GET", "/v1/files/{file_id}", "files.retrieve"),
    ("DELETE", "/v1/files/{file_id}", "files.delete"),
    ("GET", "/v1/files/{file_id}/content", "files.content"),
    ("POST", "/v1/uploads", "uploads.create"),
    ("POST", "/v1/uploads/{upload_id}/parts", "uploads.parts.create"),
    ("POST", "/v1/uploads/{upload_id}/complete", "uploads.complete"),
    ("POST", "/v1/uploads/{upload_id}/cancel", "uploads.cancel"),
    ("GET", "/v1/vector_stores", "vector_stores.list"),
    ("POST", "/v1/vector_stores", "vector_stores.create"),
    (
        "GET",
        "/v1/vector_stores/{vector_store_id}",
        "vector_stores.retrieve",
    ),
    (
        "POST",
        "/v1/vector_stores/{vector_store_id}",
        "vector_stores.update",
    ),
    (
        "DELETE",
        "/v1/vector_stores/{vector_store_id}",
        "vector_stores.delete",
    ),
    (
        "POST",
        "/v1/vector_stores/{vector_store_id}/search",
        "vector_stores.search",
    ),
    (
        "GET",
        "/v1/vector_stores/{vector_store_id}/files",
        "vector_stores.files.list",
    ),
    (
        "POST",
        "/v1/vector_stores/{vector_store_id}/files",
        "vector_stores.files.create",
    ),
    (
        "GET",
        "/v1/vector_stores/{vector_store_id}/files/{file_id}",
        "vector_stores.files.retrieve",
    ),
    (
        "POST",
        "/v1/vector_stores/{vector_store_id}/files/{file_id}",
        "vector_stores.files.update",
    ),
    (
        "DELETE",
        "/v1/vector_stores/{vector_store_id}/files/{file_id}",
        "vector_stores.files.delete",
    ),
    (
        "GET",
        "/v1/vector_stores/{vector_store_id}/files/{file_id}/content",
        "vector_stores.files.content",
    ),
    (
        "POST",
        "/v1/vector_stores/{vector_store_id}/file_batches",
        "vector_stores.file_batches.create",
    ),
    (
        "GET",
        "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}",
        "vector_stores.file_batches.retrieve",
    ),
    (
        "POST",
        "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel",
        "vector_stores.file_batches.cancel",
    ),
    (
        "GET",
        "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files",
        "vector_stores.file_batches.list_files",
    ),
    ("POST", "/iam/v1/tokens", "iam.tokens.create"),
];

/// `unknown` for anything that is no operation of the protocol.
pub(crate) fn operation(method: &Method, route: &str) -> &'static str {
    let found = OPERATIONS
        .iter()
        .find(|(known, path, _)| *known == method.as_str() && *path == route);
    found.map_or("unknown", |(_, _, name)| name)
}

pub(crate) fn is_operation(name: &str) -> bool {
    name == "indexing" || name == "unknown" || OPERATIONS.iter().any(|(_, _, known)| *known == name)
}

/// Reads change nothing; a search is a POST but a read.
pub(crate) fn is_read(context: &Context) -> bool {
    &*context.method == "GET" || context.operation == "vector_stores.search"
}
