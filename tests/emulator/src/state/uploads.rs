//! Uploads in parts. The parts' bytes are joined by the route; here is only who may do what when.

use super::{State, now};
use crate::{
    body::Body,
    context::Context,
    error::ApiError,
    ids::Id,
    ledger::{Effect, Entry},
};
use axum::http::StatusCode;
use std::{collections::HashMap, sync::Arc};

/// An upload that is not completed ends after an hour.
const UPLOAD_SECONDS: i64 = 3600;

#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub id: Id,
    pub filename: Arc<str>,
    pub purpose: Arc<str>,
    pub bytes: u64,
    pub created_at: i64,
    pub expires_after_seconds: Option<i64>,
    pub parts: HashMap<Id, (Arc<Body>, u64)>,
    pub outcome: Option<UploadOutcome>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum UploadOutcome {
    Completed,
    Cancelled,
}

impl Upload {
    pub(crate) fn new(id: Id, filename: &str, purpose: &str, bytes: u64, expires_after: Option<i64>) -> Self {
        Self {
            id,
            filename: filename.into(),
            purpose: purpose.into(),
            bytes,
            created_at: now(),
            expires_after_seconds: expires_after,
            parts: HashMap::new(),
            outcome: None,
        }
    }

    pub(crate) fn expires_at(&self) -> i64 {
        self.created_at + UPLOAD_SECONDS
    }

    pub(crate) fn status(&self) -> &'static str {
        match self.outcome {
            Some(UploadOutcome::Completed) => "completed",
            Some(UploadOutcome::Cancelled) => "cancelled",
            None if self.expires_at() <= now() => "expired",
            None => "pending",
        }
    }

    fn entry(&self, effect: Effect) -> Entry {
        let filename = Some(self.filename.clone());
        Entry {
            effect,
            upload_id: Some(self.id.clone()),
            filename,
            bytes: Some(self.bytes),
            ..Entry::default()
        }
    }
}

impl State {
    pub(crate) fn create_upload(&mut self, context: &Context, upload: Upload) {
        self.ledger.push(context, upload.entry(Effect::UploadCreated));
        self.uploads.insert(upload.id.clone(), upload);
    }

    /// The upload if it still takes parts.
    pub(crate) fn pending_upload(&mut self, id: &str) -> Result<&mut Upload, ApiError> {
        let upload = self.uploads.get_mut(id).ok_or_else(|| ApiError {
            param: Some("upload_id".into()),
            ..ApiError::new(StatusCode::NOT_FOUND, format!("No such Upload object: {id}"))
        })?;
        match upload.status() {
            "pending" => Ok(upload),
            status => Err(ApiError::invalid(
                format!("Upload {id} has status '{status}'."),
                "upload_id",
            )),
        }
    }

    pub(crate) fn add_part(
        &mut self,
        context: &Context,
        id: &str,
        part: Id,
        body: Arc<Body>,
        bytes: u64,
    ) -> Result<(), ApiError> {
        let upload = self.pending_upload(id)?;
        upload.parts.insert(part, (body, bytes));
        let entry = Entry {
            bytes: Some(bytes),
            ..upload.entry(Effect::UploadPartAdded)
        };
        self.ledger.push(context, entry);
        Ok(())
    }

    pub(crate) fn complete_upload(
        &mut self,
        context: &Context,
        id: &str,
        file_id: &Id,
    ) -> Result<Upload, ApiError> {
        let upload = self.pending_upload(id)?;
        upload.outcome = Some(UploadOutcome::Completed);
        upload.parts.clear();
        let upload = upload.clone();
        let entry = Entry {
            file_id: Some(file_id.clone()),
            ..upload.entry(Effect::UploadCompleted)
        };
        self.ledger.push(context, entry);
        Ok(upload)
    }

    pub(crate) fn cancel_upload(&mut self, context: &Context, id: &str) -> Result<Upload, ApiError> {
        let upload = self.pending_upload(id)?;
        upload.outcome = Some(UploadOutcome::Cancelled);
        upload.parts.clear();
        let upload = upload.clone();
        self.ledger.push(context, upload.entry(Effect::UploadCancelled));
        Ok(upload)
    }
}
