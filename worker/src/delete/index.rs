//! A deleted index leaves its provider: its store, then the copies that no other index there needs, then its rows.
//!
//! Reads and writes the tombstone, attachments, copies, intents and the ownership ledger. Calls list of stores (after a creation that was
//! never answered), delete of stores and files. The store goes first: one call takes all files out of it, and a file must not
//! be attached to a store when it is deleted. Safe to repeat because what is left to do is read from rows, and a deletion of
//! something absent is a success.
//!
//! Copies that other indexes at the provider hold stay, and so do imports: files that were at the provider before they were
//! ours.

use apalis_mariadb::Claim;
use rag_db::indexes::{self, Index};
use rag_db::intents::{self, Operation, Owner};
use rag_db::{attachments, files, index_files, uploads};
use rag_domain::{FileId, IndexId, IndexingStatus};
use rag_jobs::IndexDelete;
use serde_json::json;
use sqlx::{MySql, MySqlConnection, Transaction};

use super::pending::{Site, delete_owned};
use super::unconfirmed_store;
use crate::context::Context;
use crate::lease::Scope;
use crate::step_error::StepError;

/// Files per transaction.
const PORTION: u32 = 200;
const NOT_VISIBLE_YET: std::time::Duration = std::time::Duration::from_secs(2);

/// Goes on with the deletion as far as it gets now.
pub(crate) async fn run(job: &IndexDelete, claim: &Claim, context: &Context) -> Result<(), StepError> {
    match DeletedIndex::find(context, claim, job.index_id).await? {
        Some(deleted) => deleted.run().await,
        // An earlier claim, or an admin, has ended it.
        None => Ok(()),
    }
}

/// One claim's work on the deletion of one index.
#[derive(Debug)]
struct DeletedIndex<'a> {
    context: &'a Context,
    claim: &'a Claim,
    index: Index,
}

impl<'a> DeletedIndex<'a> {
    /// `None`: the index is gone.
    async fn find(context: &'a Context, claim: &'a Claim, id: IndexId) -> Result<Option<Self>, StepError> {
        let mut tx = context.pool.begin().await?;
        let tombstone = indexes::find_tombstone_for_update(&mut tx, id).await?;
        claim.fence(&mut tx).await?;
        let Some(tombstone) = tombstone else {
            return Ok(None);
        };
        let index = tombstone.index;
        if index.indexing_status == IndexingStatus::InProgress {
            // Its build has ended before this began: they take turns.
            indexes::mark_built(&mut tx, id, IndexingStatus::Failed, Some("the index was deleted")).await?;
        }
        tx.commit().await?;
        Ok(Some(Self {
            context,
            claim,
            index,
        }))
    }

    async fn run(&self) -> Result<(), StepError> {
        if self.has_or_may_have_a_store().await? {
            let scope = self.scope().await?;
            self.retire_unconfirmed_store(&scope).await?;
            self.give_up_store().await?;
            let owner = Owner::Index(self.index.id);
            delete_owned(Site::from(&scope), owner, Operation::DeleteVectorStore).await?;
        }
        self.forget_attachments().await?;
        self.drop_copies().await?;
        if self.has_deletions().await? {
            let scope = self.scope().await?;
            let owner = Owner::Index(self.index.id);
            delete_owned(Site::from(&scope), owner, Operation::DeleteFile).await?;
        }
        self.finish().await
    }

    /// The provider is opened only when it is needed: an index of which nothing is there goes without it.
    async fn scope(&self) -> Result<Scope<'_>, StepError> {
        let mut db = self.context.pool.acquire().await?;
        let provider = self
            .context
            .connections
            .open(&mut db, &self.index.provider_type)
            .await?;
        Ok(Scope::new(
            self.context,
            self.claim,
            provider,
            &self.index.provider_type,
            &self.index.domain_id,
        ))
    }

    /// A transaction that may write what the tombstone stands for.
    async fn write(&self) -> Result<(Transaction<'static, MySql>, Index), StepError> {
        let mut tx = self.context.pool.begin().await?;
        let tombstone = indexes::find_tombstone_for_update(&mut tx, self.index.id).await?;
        self.claim.fence(&mut tx).await?;
        // An admin gave the deletion up.
        let tombstone = tombstone.ok_or(StepError::Stopped)?;
        Ok((tx, tombstone.index))
    }

    async fn has_or_may_have_a_store(&self) -> Result<bool, StepError> {
        let mut db = self.context.pool.acquire().await?;
        let id = self.index.id;
        Ok(self.index.external_id.is_some()
            || intents::any_of_index(&mut db, id).await?
            || attachments::any_of_index(&mut db, id).await?)
    }

    async fn retire_unconfirmed_store(&self, scope: &Scope<'_>) -> Result<(), StepError> {
        if let Some(unconfirmed) = unconfirmed_store::find(scope, self.index.id).await? {
            let (mut tx, _) = self.write().await?;
            unconfirmed.retire(&mut tx, &scope.provider_type).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// From now on the store is the deletion intent's.
    async fn give_up_store(&self) -> Result<(), StepError> {
        let (mut tx, index) = self.write().await?;
        if let Some(store) = &index.external_id {
            intents::retire_store(&mut tx, &index.provider_type, Some(index.id), store).await?;
            indexes::clear_external_id(&mut tx, index.id, store).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Nothing is attached to a store that is gone.
    async fn forget_attachments(&self) -> Result<(), StepError> {
        loop {
            let (mut tx, index) = self.write().await?;
            let gone = attachments::forget_some(&mut tx, index.id, PORTION).await?;
            if gone.is_empty() {
                return Ok(tx.commit().await?);
            }
            let mut ids: Vec<FileId> = gone.iter().map(|(file, _)| *file).collect();
            ids.sort_unstable();
            ids.dedup();
            self.drop_copies_of(&mut tx, &ids).await?;
            for (_, external_file_id) in gone {
                self.retire(&mut tx, &external_file_id).await?;
            }
            tx.commit().await?;
        }
    }

    /// Copies that were made for this index and never attached to its store.
    async fn drop_copies(&self) -> Result<(), StepError> {
        let mut after = String::new();
        loop {
            let (mut tx, index) = self.write().await?;
            let ids = index_files::list_file_ids(&mut tx, index.id, &after, PORTION).await?;
            let Some(last) = ids.last() else {
                return Ok(tx.commit().await?);
            };
            after = last.to_string();
            self.drop_copies_of(&mut tx, &ids).await?;
            tx.commit().await?;
        }
    }

    async fn drop_copies_of(&self, tx: &mut MySqlConnection, ids: &[FileId]) -> Result<(), StepError> {
        // Links and uploads are made under these locks.
        files::lock_all(tx, ids).await?;
        for copy in uploads::mark_surplus_deleted(tx, &self.index.provider_type, ids).await? {
            if let Some(external_file_id) = copy.external_file_id {
                self.retire(tx, &external_file_id).await?;
            }
        }
        Ok(())
    }

    async fn retire(&self, tx: &mut MySqlConnection, external_file_id: &str) -> Result<(), StepError> {
        let owner = Owner::Index(self.index.id);
        intents::retire_file_for(tx, &self.index.provider_type, external_file_id, owner).await?;
        Ok(())
    }

    async fn has_deletions(&self) -> Result<bool, StepError> {
        let mut db = self.context.pool.acquire().await?;
        Ok(intents::any_of_index(&mut db, self.index.id).await?)
    }

    async fn finish(&self) -> Result<(), StepError> {
        let (mut tx, index) = self.write().await?;
        let is_clean = index.external_id.is_none()
            && !intents::any_of_index(&mut tx, index.id).await?
            && !attachments::any_of_index(&mut tx, index.id).await?;
        if !is_clean {
            return Err(StepError::snooze(
                NOT_VISIBLE_YET,
                "something of the index came to light meanwhile",
            ));
        }
        indexes::delete_tombstone(&mut tx, index.id).await?;
        let output = json!({"index_id": index.id, "deleted": true});
        self.claim.complete(&mut tx, &output).await?;
        tx.commit().await?;
        tracing::info!("the index is deleted");
        Ok(())
    }
}
