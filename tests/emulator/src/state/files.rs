//! Files: created, deleted, expired.

use super::{File, State, now};
use crate::{
    body::Written,
    context::Context,
    error::ApiError,
    ids::Id,
    ledger::{Effect, Entry},
};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// A file about to exist.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub id: Id,
    pub filename: Arc<str>,
    pub purpose: Arc<str>,
    pub expires_after_seconds: Option<i64>,
    pub written: Written,
}

impl File {
    fn entry(&self, effect: Effect) -> Entry {
        Entry {
            effect,
            file_id: Some(self.id.clone()),
            filename: Some(self.filename.clone()),
            bytes: Some(self.bytes),
            sha256: Some(self.sha256.clone()),
            ..Entry::default()
        }
    }
}

impl State {
    pub(crate) fn create_file(&mut self, context: &Context, new: NewFile, upload_id: Option<Id>) -> File {
        let created_at = now();
        let file = File {
            id: new.id,
            filename: new.filename,
            purpose: new.purpose,
            bytes: new.written.bytes,
            sha256: new.written.sha256,
            created_at,
            created: Instant::now(),
            expires_at: new.expires_after_seconds.map(|seconds| created_at + seconds),
            body: new.written.body,
            attached_to: BTreeSet::new(),
        };
        if let Some(at) = file.expires_at {
            self.expiring.insert((at, file.id.clone()));
        }
        self.ledger.push(
            context,
            Entry {
                upload_id,
                ..file.entry(Effect::FileCreated)
            },
        );
        self.files.insert(file.id.clone(), file.clone());
        file
    }

    pub(crate) fn file(&self, id: &str) -> Result<&File, ApiError> {
        self.files
            .get(id)
            .ok_or_else(|| ApiError::not_found("File", id, "id"))
    }

    /// Deletes the file and, unless `keep_attached`, takes it out of every store.
    pub(crate) fn delete_file(
        &mut self,
        context: &Context,
        id: &str,
        keep_attached: bool,
    ) -> Result<(), ApiError> {
        let file = self
            .files
            .remove(id)
            .ok_or_else(|| ApiError::not_found("File", id, "id"))?;
        if let Some(at) = file.expires_at {
            self.expiring.remove(&(at, file.id.clone()));
        }
        self.ledger.push(context, file.entry(Effect::FileDeleted));
        if !keep_attached {
            for store_id in &file.attached_to {
                // The store may have been deleted since; then there is nothing to detach.
                let _ = self.detach(context, store_id, id);
            }
        }
        Ok(())
    }

    /// Changes the bytes of a file in place, which no provider offers: drift for tests. What stores have indexed
    /// stays as it was.
    pub(crate) fn replace_file(
        &mut self,
        context: &Context,
        id: &str,
        written: Written,
    ) -> Result<File, ApiError> {
        let file = self
            .files
            .get_mut(id)
            .ok_or_else(|| ApiError::not_found("File", id, "id"))?;
        file.bytes = written.bytes;
        file.sha256 = written.sha256;
        file.body = written.body;
        let file = file.clone();
        self.ledger.push(context, file.entry(Effect::FileReplaced));
        Ok(file)
    }

    /// Ends what is due. Cheap when nothing is.
    pub(crate) fn expire(&mut self) {
        let now = now();
        while let Some((at, id)) = self.expiring.first().cloned() {
            if at > now {
                return;
            }
            let context = Context::new("files.expire");
            if self.delete_file(&context, &id, false).is_err() {
                self.expiring.pop_first();
            }
        }
    }

    pub(super) fn mark_attached(&mut self, file_id: &str, store_id: &Id, attached: bool) {
        let Some(file) = self.files.get_mut(file_id) else {
            return;
        };
        if attached {
            file.attached_to.insert(store_id.clone());
        } else {
            file.attached_to.remove(store_id);
        }
    }
}
