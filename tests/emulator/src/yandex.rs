//! What Yandex AI Studio does differently from OpenAI, as seen in the field. Nothing here acts in another profile. The
//! rest of the profile: ids (`ids`), extra fields and the store status `failed` (`view`), gRPC-shaped errors and
//! `x-server-trace-id` (`http`), `Api-Key` (`auth`), tokens (`iam`), no `/uploads` and no batch cancel (`http`).

use crate::{
    app::App,
    error::ApiError,
    options::Options,
    state::{AttachRequest, FileStatus, StoreFile},
};
use axum::http::StatusCode;
use std::sync::atomic::Ordering;

pub(crate) const FILES_PER_CALL: usize = 100;
const OPEN_OPERATIONS: usize = 10;

/// Only types of a list are taken; `application/octet-stream`, and no type at all, are not.
pub(crate) fn check_media_type(options: &Options, media_type: Option<&str>) -> Result<(), ApiError> {
    const ALLOWED: &[&str] = &[
        "application/json",
        "application/jsonlines",
        "application/msword",
        "application/pdf",
        "application/rtf",
        "application/x-latex",
        "application/xhtml+xml",
        "application/xml",
        "text/csv",
        "text/html",
        "text/markdown",
        "text/plain",
        "text/xml",
    ];
    const ALLOWED_PREFIXES: &[&str] = &[
        "application/vnd.ms-",
        "application/vnd.openxmlformats-officedocument.",
    ];
    let essence = media_type
        .unwrap_or("application/octet-stream")
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let allowed =
        ALLOWED.contains(&essence) || ALLOWED_PREFIXES.iter().any(|prefix| essence.starts_with(prefix));
    if allowed || !options.is_yandex() {
        return Ok(());
    }
    Err(ApiError::invalid(
        format!("Unsupported MIME type: {essence}"),
        "file",
    ))
}

/// Refusals of an attach call, before it changes anything.
pub(crate) fn check_attach(
    app: &App,
    store_id: &str,
    files: &[AttachRequest],
    has_strategy: bool,
) -> Result<(), ApiError> {
    if !app.options.is_yandex() {
        return Ok(());
    }
    if has_strategy && !app.options.yandex_accepts_strategy {
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error"));
    }
    let present: Vec<String> = {
        let state = app.state.lock();
        let store = state.store(store_id)?;
        let present = files
            .iter()
            .filter(|file| store.files.get(&file.file_id).is_some());
        present.map(|file| file.file_id.to_string()).collect()
    };
    if !present.is_empty() {
        let message = format!(
            "Files with ids [{}] have already been created",
            present.join(", ")
        );
        return Err(ApiError::invalid(message, "file_id"));
    }
    check_open_operations(app)
}

/// At most ten indexing operations (attach calls) run at the same time.
pub(crate) fn check_open_operations(app: &App) -> Result<(), ApiError> {
    if app.options.is_yandex() && app.open_operations.load(Ordering::Acquire) >= OPEN_OPERATIONS {
        let message = format!("Limit of {OPEN_OPERATIONS} concurrent indexing operations exceeded");
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, message));
    }
    Ok(())
}

/// A file can't be looked at until it is indexed; lists show it all the same.
pub(crate) fn hide_while_indexing(
    options: &Options,
    file_id: &str,
    file: &StoreFile,
) -> Result<(), ApiError> {
    if options.is_yandex() && file.status == FileStatus::InProgress {
        return Err(ApiError::not_found("VectorStoreFile", file_id, "file_id"));
    }
    Ok(())
}

const STORE_FILE: &str = "vsf";

/// What a store calls a file.
pub(crate) fn store_file_id(options: &Options, file_id: &str) -> String {
    if options.is_yandex() && options.yandex_store_file_ids {
        format!("{STORE_FILE}{file_id}")
    } else {
        file_id.to_owned()
    }
}

/// The file that a store calls so; a store that has names of its own knows no others.
pub(crate) fn file_id(options: &Options, store_file_id: String) -> String {
    if options.is_yandex() && options.yandex_store_file_ids {
        store_file_id
            .strip_prefix(STORE_FILE)
            .unwrap_or_default()
            .to_owned()
    } else {
        store_file_id
    }
}

/// Downloads are answered 404 with an empty body.
pub(crate) fn no_content() -> ApiError {
    ApiError {
        empty_body: true,
        ..ApiError::new(StatusCode::NOT_FOUND, "")
    }
}
