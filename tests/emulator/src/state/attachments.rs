//! Files in stores: attached, indexed, changed, detached.

use super::stores::EMBEDDING_MODEL;
use super::{FileError, FileStatus, State, StoreFile, now};
use crate::{
    body::Body,
    chunking::{ChunkSizes, ChunkedText},
    context::Context,
    error::ApiError,
    ids::Id,
    ledger::{Effect, Entry},
};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// One file to attach, with its own strategy.
#[derive(Debug, Clone)]
pub(crate) struct AttachRequest {
    pub file_id: Id,
    pub sizes: ChunkSizes,
    pub attributes: Map<String, Value>,
}

/// Indexing work that an attach leaves to be done.
#[derive(Debug)]
pub(crate) struct IndexJob {
    pub store_id: Id,
    pub file_id: Id,
    pub filename: Arc<str>,
    pub bytes: u64,
    pub body: Arc<Body>,
    pub sizes: ChunkSizes,
    /// Cancelled when the attachment is gone or ended.
    pub cancelled: CancellationToken,
    /// Why it will fail, known from the beginning.
    pub doomed: Option<FileError>,
    generation: u64,
}

pub(crate) type Outcome = Result<Arc<ChunkedText>, FileError>;

impl State {
    /// Fails when store or file are unknown, before anything changes.
    pub(crate) fn check_attach(&self, store_id: &str, files: &[AttachRequest]) -> Result<(), ApiError> {
        self.store(store_id)?;
        if self.deviations.unchecked_batches {
            return Ok(());
        }
        for request in files {
            if self.files.get(&request.file_id).is_none() {
                return Err(ApiError::not_found("File", &request.file_id, "file_id"));
            }
        }
        Ok(())
    }

    /// Attaches a file. A file that is already there with the same strategy, and neither failed nor cancelled, is left
    /// as it is; otherwise it is indexed anew.
    pub(crate) fn attach(
        &mut self,
        context: &Context,
        store_id: &Id,
        request: AttachRequest,
        batch_id: Option<&Id>,
    ) -> Result<Option<IndexJob>, ApiError> {
        let AttachRequest {
            file_id,
            sizes,
            attributes,
        } = request;
        let Some(file) = self.files.get(&file_id).cloned() else {
            if self.deviations.unchecked_batches {
                return self.attach_unknown(store_id, &file_id, sizes, batch_id);
            }
            return Err(ApiError::not_found("File", &file_id, "file_id"));
        };
        let entry = Entry {
            vector_store_id: Some(store_id.clone()),
            file_id: Some(file_id.clone()),
            batch_id: batch_id.cloned(),
            filename: Some(file.filename.clone()),
            bytes: Some(file.bytes),
            sha256: Some(file.sha256.clone()),
            chunking_strategy: Some(sizes.to_json()),
            ..Entry::default()
        };

        let keep = self.deviations.keep_on_reattach;
        if let Some(present) = self.store_mut(store_id)?.files.get_mut(&file_id) {
            let usable = matches!(present.status, FileStatus::InProgress | FileStatus::Completed);
            let same = usable && present.sizes == sizes;
            if same || (keep && present.visible) {
                let status = present.status;
                present.batches.extend(batch_id.cloned());
                self.count_in_batch(batch_id, &file_id, status);
                self.ledger.push(context, entry);
                return Ok(None);
            }
            self.remove_attachment(store_id, &file_id);
        }

        self.generation += 1;
        let (generation, cancelled) = (self.generation, CancellationToken::new());
        let (visible, own_keys) = (
            !self.deviations.hide_while_indexing,
            self.deviations.own_metadata_keys,
        );
        let store = self.store_mut(store_id)?;
        store.last_active_at = now();
        let doomed = (own_keys && !store.metadata.contains_key(EMBEDDING_MODEL)).then(|| FileError {
            code: "server_error".into(),
            message: "'embedding_model'".to_owned(),
        });
        if visible {
            store.counts.add(FileStatus::InProgress);
        }
        let attachment = StoreFile {
            filename: file.filename.clone(),
            body: file.body.clone(),
            created_at: now(),
            created: Instant::now(),
            status: FileStatus::InProgress,
            visible,
            last_error: None,
            sizes,
            attributes,
            text: None,
            batches: batch_id.cloned().into_iter().collect(),
            generation,
            indexing: cancelled.clone().drop_guard(),
        };
        store.files.insert(file_id.clone(), attachment);
        self.mark_attached(&file_id, store_id, true);
        self.count_in_batch(batch_id, &file_id, FileStatus::InProgress);
        self.ledger.push(
            context,
            Entry {
                effect: Effect::Attached,
                ..entry
            },
        );
        let (store_id, filename) = (store_id.clone(), file.filename);
        let (bytes, body) = (file.bytes, file.body);
        Ok(Some(IndexJob {
            store_id,
            file_id,
            filename,
            bytes,
            body,
            sizes,
            cancelled,
            doomed,
            generation,
        }))
    }

    /// A file that does not exist fails at once, where servers do not look before.
    fn attach_unknown(
        &mut self,
        store_id: &Id,
        file_id: &Id,
        sizes: ChunkSizes,
        batch_id: Option<&Id>,
    ) -> Result<Option<IndexJob>, ApiError> {
        self.remove_attachment(store_id, file_id);
        let store = self.store_mut(store_id)?;
        store.counts.add(FileStatus::Failed);
        let failed = StoreFile {
            filename: file_id.clone(),
            body: Arc::new(Body::Memory(Vec::new().into())),
            created_at: now(),
            created: Instant::now(),
            status: FileStatus::Failed,
            visible: true,
            last_error: Some(FileError {
                code: "server_error".into(),
                message: format!("File '{file_id}' not found."),
            }),
            sizes,
            attributes: Map::new(),
            text: None,
            batches: batch_id.cloned().into_iter().collect(),
            generation: 0,
            indexing: CancellationToken::new().drop_guard(),
        };
        store.files.insert(file_id.clone(), failed);
        self.count_in_batch(batch_id, file_id, FileStatus::Failed);
        Ok(None)
    }

    pub(crate) fn store_file(&self, store_id: &str, file_id: &str) -> Result<&StoreFile, ApiError> {
        let file = self.attached_file(store_id, file_id)?;
        Some(file)
            .filter(|file| file.visible)
            .ok_or_else(|| no_store_file(store_id, file_id))
    }

    /// As [`store_file`](Self::store_file), also before it can be seen: for the answer to the attach itself.
    pub(crate) fn attached_file(&self, store_id: &str, file_id: &str) -> Result<&StoreFile, ApiError> {
        let found = self.store(store_id)?.files.get(file_id);
        found.ok_or_else(|| no_store_file(store_id, file_id))
    }

    pub(crate) fn set_attributes(
        &mut self,
        context: &Context,
        store_id: &str,
        file_id: &str,
        attributes: Map<String, Value>,
    ) -> Result<(), ApiError> {
        let store = self.store_mut(store_id)?;
        let file = store
            .files
            .get_mut(file_id)
            .ok_or_else(|| no_store_file(store_id, file_id))?;
        file.attributes = attributes;
        let filename = Some(file.filename.clone());
        store.last_active_at = now();
        let effect = Effect::AttributesUpdated;
        self.ledger.push(
            context,
            Entry {
                effect,
                filename,
                ..place(store_id, file_id)
            },
        );
        Ok(())
    }

    pub(crate) fn detach(
        &mut self,
        context: &Context,
        store_id: &str,
        file_id: &str,
    ) -> Result<(), ApiError> {
        let store = self.store_mut(store_id)?;
        store.last_active_at = now();
        let store_id = store.id.clone();
        self.store_file(&store_id, file_id)?;
        let file = self
            .remove_attachment(&store_id, file_id)
            .ok_or_else(|| no_store_file(&store_id, file_id))?;
        let entry = Entry {
            effect: Effect::Detached,
            filename: Some(file.filename),
            ..place(&store_id, file_id)
        };
        self.ledger.push(context, entry);
        Ok(())
    }

    /// Takes a file out of every store that it is attached to.
    pub(crate) fn detach_everywhere(&mut self, context: &Context, file_id: &str) -> Result<(), ApiError> {
        let with_file = self
            .stores
            .iter()
            .filter(|(_, store)| store.files.get(file_id).is_some());
        let stores: Vec<Id> = with_file.map(|(id, _)| id.clone()).collect();
        for store in stores {
            self.detach(context, &store, file_id)?;
        }
        Ok(())
    }

    /// Writes the result of an indexing, unless the attachment it was made for has ended meanwhile.
    pub(crate) fn finish_indexing(&mut self, job: &IndexJob, outcome: Outcome) {
        let Some(store) = self.stores.get_mut(&job.store_id) else {
            return;
        };
        let Some(file) = store.files.get_mut(&job.file_id) else {
            return;
        };
        if file.generation != job.generation || file.status != FileStatus::InProgress {
            return;
        }
        let mut entry = Entry {
            filename: Some(job.filename.clone()),
            ..place(&job.store_id, &job.file_id)
        };
        match outcome {
            Ok(text) => {
                file.status = FileStatus::Completed;
                file.text = Some(text);
                entry.effect = Effect::Indexed;
                entry.chunking_strategy = Some(file.sizes.to_json());
            }
            Err(error) => {
                file.status = FileStatus::Failed;
                entry.effect = Effect::IndexingFailed;
                entry.error_code = Some(error.code.clone());
                file.last_error = Some(error);
            }
        }
        let (status, batches) = (file.status, file.batches.clone());
        store.usage_bytes += file.usage_bytes();
        if file.visible {
            store.counts.shift(FileStatus::InProgress, status);
        } else {
            file.visible = true;
            store.counts.add(status);
        }
        store.last_active_at = now();
        entry.batch_id = batches.last().cloned();
        self.shift_in_batches(&batches, FileStatus::InProgress, status);
        self.ledger.push(&Context::new("indexing"), entry);
    }

    /// Stops the indexing of a file; it stays in the store as `cancelled`.
    pub(super) fn cancel_indexing(&mut self, store_id: &str, file_id: &str) {
        let stay = self.deviations.cancelled_stay_in_progress;
        let Some(store) = self.stores.get_mut(store_id) else {
            return;
        };
        let Some(file) = store.files.get_mut(file_id) else {
            return;
        };
        if file.status != FileStatus::InProgress {
            return;
        }
        file.status = FileStatus::Cancelled;
        file.indexing = CancellationToken::new().drop_guard();
        let batches = file.batches.clone();
        if file.visible {
            store.counts.shift(FileStatus::InProgress, FileStatus::Cancelled);
        } else {
            // Nobody ever saw it there.
            store.files.remove(file_id);
        }
        if stay {
            return;
        }
        self.shift_in_batches(&batches, FileStatus::InProgress, FileStatus::Cancelled);
    }

    /// Batches keep counting a file that had ended; one that was being indexed counts as cancelled.
    fn remove_attachment(&mut self, store_id: &Id, file_id: &str) -> Option<StoreFile> {
        let store = self.stores.get_mut(store_id)?;
        let file = store.files.remove(file_id)?;
        if file.visible {
            store.counts.remove(file.status);
        }
        store.usage_bytes -= file.usage_bytes();
        if file.status == FileStatus::InProgress {
            self.shift_in_batches(&file.batches, FileStatus::InProgress, FileStatus::Cancelled);
        }
        self.mark_attached(file_id, store_id, false);
        Some(file)
    }

    fn count_in_batch(&mut self, batch_id: Option<&Id>, file_id: &Id, status: FileStatus) {
        let Some(batch) = batch_id.and_then(|id| self.batches.get_mut(id)) else {
            return;
        };
        batch.counts.add(status);
        batch.files.insert(file_id.clone(), file_id.clone());
    }

    fn shift_in_batches(&mut self, batches: &[Id], from: FileStatus, to: FileStatus) {
        for id in batches {
            if let Some(batch) = self.batches.get_mut(id) {
                batch.counts.shift(from, to);
            }
        }
    }
}

fn place(store_id: &str, file_id: &str) -> Entry {
    Entry {
        vector_store_id: Some(store_id.into()),
        file_id: Some(file_id.into()),
        ..Entry::default()
    }
}

fn no_store_file(store_id: &str, file_id: &str) -> ApiError {
    let message = format!("No file found with id '{file_id}' in vector store '{store_id}'.");
    ApiError {
        param: Some("file_id".into()),
        ..ApiError::new(axum::http::StatusCode::NOT_FOUND, message)
    }
}
