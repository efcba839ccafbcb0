//! An index's store is deleted on its own command: the index is `not_indexed` and without a store from then on, its
//! files stay, and so do their copies as far as something refers to them. The next build makes a new store.
//!
//! Reads and writes the index, attachments, intents and the ownership ledger. Calls list of stores (after a creation that was never
//! answered), delete of stores and files. Safe to repeat because what is left to do is read from rows, and a deletion of something
//! absent is a success.

use std::time::Duration;

use apalis_mariadb::Claim;
use rag_db::indexes::{self, Index};
use rag_db::intents::{self, Operation, Owner};
use rag_db::{attachments, store_polls};
use rag_domain::IndexingStatus;
use rag_jobs::IndexStoreDelete;
use serde_json::json;
use sqlx::{MySql, Transaction};

use super::pending::{Site, delete_owned};
use super::unconfirmed_store;
use crate::context::Context;
use crate::lease::Scope;
use crate::provider_payload::forget_payload;
use crate::step_error::StepError;

const PAUSE: Duration = Duration::from_secs(2);

/// Goes on with the deletion as far as it gets now.
pub(crate) async fn run(job: &IndexStoreDelete, claim: &Claim, context: &Context) -> Result<(), StepError> {
    let deletion = Deletion { job, claim, context };
    // An index that is deleted itself loses its store with its own job.
    let Some((tx, index)) = deletion.write().await? else {
        return Ok(());
    };
    tx.commit().await?;
    deletion.give_up_store().await?;
    if deletion.has_intents().await? {
        let mut db = context.pool.acquire().await?;
        let provider = context.connections.open(&mut db, &index.provider_type).await?;
        drop(db);
        let scope = Scope::new(context, claim, provider, &index.provider_type, &job.domain_id);
        if job.external_id.is_none() {
            deletion.retire_unconfirmed(&scope).await?;
        }
        for operation in [Operation::DeleteVectorStore, Operation::DeleteFile] {
            delete_owned(Site::from(&scope), Owner::Index(job.index_id), operation).await?;
        }
    }
    deletion.finish().await
}

struct Deletion<'a> {
    job: &'a IndexStoreDelete,
    claim: &'a Claim,
    context: &'a Context,
}

impl Deletion<'_> {
    /// `None`: the index is gone, or about to go.
    async fn write(&self) -> Result<Option<(Transaction<'static, MySql>, Index)>, StepError> {
        let mut tx = self.context.pool.begin().await?;
        let index = indexes::find_for_update(&mut tx, &self.job.domain_id, self.job.index_id).await?;
        self.claim.fence(&mut tx).await?;
        Ok(index.map(|index| (tx, index)))
    }

    /// From now on the store is the deletion intent's, and the index has none. All at once: a build may come between two
    /// tries of this job.
    async fn give_up_store(&self) -> Result<(), StepError> {
        let Some((mut tx, index)) = self.write().await? else {
            return Ok(());
        };
        let (Some(store), true) = (&index.external_id, index.external_id == self.job.external_id) else {
            return Ok(());
        };
        intents::retire_store(&mut tx, &index.provider_type, Some(index.id), store).await?;
        indexes::clear_external_id(&mut tx, index.id, store).await?;
        let owner = Owner::Index(index.id);
        for file in attachments::forget_store(&mut tx, store).await? {
            intents::retire_file_for(&mut tx, &index.provider_type, &file, owner).await?;
        }
        if index.indexing_status != IndexingStatus::NotIndexed {
            indexes::mark_seen(&mut tx, index.id, IndexingStatus::NotIndexed, None, None).await?;
        }
        forget_payload(&mut tx, &index).await?;
        store_polls::forget(&mut tx, index.id).await?;
        tx.commit().await?;
        tracing::info!(store, "the index gives up its vector store on request");
        Ok(())
    }

    async fn retire_unconfirmed(&self, scope: &Scope<'_>) -> Result<(), StepError> {
        if let Some(unconfirmed) = unconfirmed_store::find(scope, self.job.index_id).await? {
            let (mut tx, _) = self.write().await?.ok_or(StepError::Stopped)?;
            unconfirmed.retire(&mut tx, &scope.provider_type).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn has_intents(&self) -> Result<bool, StepError> {
        let mut db = self.context.pool.acquire().await?;
        Ok(intents::any_of_index(&mut db, self.job.index_id).await?)
    }

    async fn finish(&self) -> Result<(), StepError> {
        let Some((mut tx, index)) = self.write().await? else {
            return Ok(());
        };
        // Of a build that came between, its own are none of this job's.
        let owner = Owner::Index(index.id);
        for operation in [Operation::DeleteVectorStore, Operation::DeleteFile] {
            if !intents::list_deletions_of(&mut tx, owner, operation, 1)
                .await?
                .is_empty()
            {
                return Err(StepError::snooze(
                    PAUSE,
                    "something of the store came to light meanwhile",
                ));
            }
        }
        let output = json!({
            "index_id": index.id,
            "external_id": self.job.external_id,
            "deleted": true,
        });
        self.claim.complete(&mut tx, &output).await?;
        tx.commit().await?;
        tracing::info!("the vector store is deleted");
        Ok(())
    }
}
