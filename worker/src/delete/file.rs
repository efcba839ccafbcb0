//! The copies of a deleted file are deleted at every provider, then its contents, then the file (R-B1).
//!
//! Reads and writes the tombstone, attachments, copies and intents. Calls delete of files. Safe to repeat because what is left
//! to do is read from rows. While the file is attached to a store it waits for `FileDetach` jobs, which it starts.

use std::time::Duration;

use apalis_mariadb::{Claim, JobKind as _};
use rag_db::files::{self, File};
use rag_db::intents::{self, Operation, Owner};
use rag_db::{attachments, uploads};
use rag_jobs::{FileDelete, FileDetach, JobSpec as _};
use serde_json::json;
use sqlx::{MySql, Transaction};

use super::abandoned_uploads;
use super::pending::{Site, delete_owned};
use crate::context::Context;
use crate::step_error::{StepError, chain};

const PAUSE: Duration = Duration::from_secs(2);

/// Goes on with the deletion as far as it gets now.
pub(crate) async fn run(job: &FileDelete, claim: &Claim, context: &Context) -> Result<(), StepError> {
    Deletion { job, claim, context }.run().await
}

struct Deletion<'a> {
    job: &'a FileDelete,
    claim: &'a Claim,
    context: &'a Context,
}

impl Deletion<'_> {
    async fn run(&self) -> Result<(), StepError> {
        let (tx, Some(file)) = self.write().await? else {
            return Ok(());
        };
        tx.commit().await?;
        self.leave_stores().await?;
        self.end_uploads().await?;
        self.drop_copies().await?;
        self.delete_copies().await?;
        let path = &file.local_path;
        if let Err(error) = self.context.files.delete(path).await {
            if error.is_storage_failure() {
                return Err(StepError::storage(&self.context.files, &error));
            }
            let error = format!("the contents could not be removed: {}", chain(&error));
            return Err(StepError::Retry { error, after: None });
        }
        self.finish().await
    }

    /// `None`: the file is gone.
    async fn write(&self) -> Result<(Transaction<'static, MySql>, Option<File>), StepError> {
        let mut tx = self.context.pool.begin().await?;
        self.claim.fence(&mut tx).await?;
        let file = files::find_tombstone_for_update(&mut tx, self.job.file_id).await?;
        Ok((tx, file))
    }

    async fn leave_stores(&self) -> Result<(), StepError> {
        let mut tx = self.context.pool.begin().await?;
        let indexes = attachments::list_indexes_of_file(&mut tx, self.job.file_id).await?;
        if indexes.is_empty() {
            return Ok(());
        }
        let mut jobs = Vec::new();
        for (index_id, is_deleted) in &indexes {
            // A deleted index loses its whole store.
            if !is_deleted {
                let job = FileDetach {
                    index_id: *index_id,
                    file_id: self.job.file_id,
                    domain_id: self.job.domain_id.clone(),
                };
                jobs.push(job.to_job(self.context.job_limits())?);
            }
        }
        self.context.queue.enqueue_many(&mut tx, jobs).await?;
        tx.commit().await?;
        self.context.queue.notify(FileDetach::KIND);
        let (count, first) = (indexes.len(), indexes[0].0);
        let reason =
            format!("the file is attached to the vector stores of {count} index(es), {first} among them");
        Err(StepError::snooze(PAUSE, reason))
    }

    /// What is on the wire comes to its end; what broke off is remembered, and the search for orphans reports what it left.
    async fn end_uploads(&self) -> Result<(), StepError> {
        let mut db = self.context.pool.acquire().await?;
        for intent in intents::list_uploads_of_file(&mut db, self.job.file_id).await? {
            let provider_type = &intent.provider_id;
            if abandoned_uploads::is_wanted(self.context, provider_type, &intent).await? {
                let reason = format!("the file is being uploaded to provider `{provider_type}`");
                return Err(StepError::snooze(PAUSE, reason));
            }
            abandoned_uploads::end_all(self.context, std::slice::from_ref(&intent)).await?;
        }
        if intents::is_upload_open(&mut db, self.job.file_id).await? {
            let reason = "somebody is uploading the file";
            return Err(StepError::snooze(PAUSE, reason));
        }
        Ok(())
    }

    async fn drop_copies(&self) -> Result<(), StepError> {
        let (mut tx, file) = self.write().await?;
        let Some(file) = file else { return Ok(()) };
        let copies = uploads::list_of_file(&mut tx, file.id).await?;
        uploads::mark_deleted_of_file(&mut tx, file.id).await?;
        for copy in copies {
            if let Some(external_file_id) = copy.files_api_id.or(copy.external_file_id) {
                let owner = Owner::File(file.id);
                intents::retire_file_for(&mut tx, &copy.provider_id, &external_file_id, owner).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    async fn delete_copies(&self) -> Result<(), StepError> {
        let owner = Owner::File(self.job.file_id);
        let mut db = self.context.pool.acquire().await?;
        let waiting = intents::list_deletions_of(&mut db, owner, Operation::DeleteFile, 1000).await?;
        let mut providers: Vec<String> = waiting.into_iter().map(|intent| intent.provider_id).collect();
        providers.sort();
        providers.dedup();
        let mut first = None;
        for provider_type in providers {
            // One provider that can't be used is no reason to leave the copies at the others.
            let result = match self.context.connections.open(&mut db, &provider_type).await {
                Ok(provider) => {
                    let site = self.site(&provider_type, provider.as_ref());
                    delete_owned(site, owner, Operation::DeleteFile).await
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = result {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn site<'a>(&'a self, provider_type: &'a str, provider: &'a dyn rag_providers::Provider) -> Site<'a> {
        Site {
            pool: &self.context.pool,
            provider_type,
            provider,
            stop: self.claim.cancellation(),
        }
    }

    async fn finish(&self) -> Result<(), StepError> {
        let (mut tx, file) = self.write().await?;
        let Some(file) = file else { return Ok(()) };
        let is_clean = attachments::list_indexes_of_file(&mut tx, file.id)
            .await?
            .is_empty()
            && uploads::list_of_file(&mut tx, file.id).await?.is_empty()
            && !intents::any_of_file(&mut tx, file.id).await?;
        if !is_clean {
            return Err(StepError::snooze(
                PAUSE,
                "a copy of the file came to light meanwhile",
            ));
        }
        files::delete(&mut tx, &file.domain_id, file.id).await?;
        let output = json!({"file_id": file.id, "deleted": true});
        self.claim.complete(&mut tx, &output).await?;
        tx.commit().await?;
        tracing::info!("the file is deleted");
        Ok(())
    }
}
