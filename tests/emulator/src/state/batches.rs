//! File batches: many attachments under one id.

use super::{AttachRequest, Batch, Counts, IndexJob, State, now};
use crate::{
    collection::Collection,
    context::Context,
    error::ApiError,
    ids::Id,
    ledger::{Effect, Entry},
};
use axum::http::StatusCode;
use std::time::Instant;

impl Batch {
    /// A failed file does not fail its batch.
    pub(crate) fn status(&self) -> &'static str {
        if self.cancelled {
            "cancelled"
        } else if self.counts.in_progress > 0 {
            "in_progress"
        } else {
            "completed"
        }
    }

    fn entry(&self, effect: Effect) -> Entry {
        let (vector_store_id, batch_id) = (Some(self.store_id.clone()), Some(self.id.clone()));
        Entry {
            effect,
            vector_store_id,
            batch_id,
            ..Entry::default()
        }
    }
}

impl State {
    /// All or nothing: an unknown file refuses the whole batch. A file named twice counts once, as first named.
    pub(crate) fn create_batch(
        &mut self,
        context: &Context,
        id: &Id,
        store_id: &Id,
        files: Vec<AttachRequest>,
    ) -> Result<Vec<IndexJob>, ApiError> {
        self.check_attach(store_id, &files)?;
        let batch = Batch {
            id: id.clone(),
            store_id: store_id.clone(),
            created_at: now(),
            created: Instant::now(),
            counts: Counts::default(),
            cancelled: false,
            files: Collection::default(),
        };
        self.ledger.push(context, batch.entry(Effect::BatchCreated));
        self.store_mut(store_id)?.batches.push(id.clone());
        self.batches.insert(id.clone(), batch);
        let mut jobs = Vec::with_capacity(files.len());
        for file in files {
            let counted = self
                .batches
                .get(id)
                .is_some_and(|batch| batch.files.get(&file.file_id).is_some());
            if !counted {
                jobs.extend(self.attach(context, store_id, file, Some(id))?);
            }
        }
        Ok(jobs)
    }

    pub(crate) fn batch(&self, store_id: &str, id: &str) -> Result<&Batch, ApiError> {
        self.store(store_id)?;
        let batch = self.batches.get(id).filter(|batch| &*batch.store_id == store_id);
        batch.ok_or_else(|| no_batch(store_id, id))
    }

    /// Cancels what has not ended. A batch that has ended stays as it is.
    pub(crate) fn cancel_batch(
        &mut self,
        context: &Context,
        store_id: &str,
        id: &str,
    ) -> Result<(), ApiError> {
        let batch = self.batch(store_id, id)?;
        if batch.status() == "completed" && self.deviations.cancelled_stay_in_progress {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                format!("Cannot cancel batch {id} with status completed"),
            ));
        }
        if batch.status() != "in_progress" {
            let entry = batch.entry(Effect::None);
            self.ledger.push(context, entry);
            return Ok(());
        }
        let entry = batch.entry(Effect::BatchCancelled);
        let files: Vec<Id> = batch.files.iter().map(|(file_id, _)| file_id.clone()).collect();
        for file_id in files {
            self.cancel_indexing(store_id, &file_id);
        }
        if let Some(batch) = self.batches.get_mut(id) {
            batch.cancelled = true;
        }
        self.ledger.push(context, entry);
        Ok(())
    }
}

fn no_batch(store_id: &str, id: &str) -> ApiError {
    let message = format!("No file batch found with id '{id}' in vector store '{store_id}'.");
    ApiError {
        param: Some("batch_id".into()),
        ..ApiError::new(StatusCode::NOT_FOUND, message)
    }
}
