//! Decides from rows what each listed store or file is, and retires it if it is an orphan and that is wanted.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use rag_db::indexes;
use rag_db::intents::{self, Operation};
use rag_db::ownership::{self, Kind};
use rag_domain::IndexId;
use rag_jobs::OrphanMode;
use sqlx::MySqlConnection;

use super::listed::Listed;
use super::report::{Found, Report, Verdict};
use crate::lease::Scope;
use crate::step_error::StepError;

/// Ids per statement.
const PORTION: usize = 500;

/// A search in progress.
pub(super) struct Search<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) mode: OrphanMode,
    pub(super) confirmed: &'a HashSet<String>,
    pub(super) began: DateTime<Utc>,
    /// The account is ours alone.
    pub(super) is_exclusive: bool,
    pub(super) min_age: TimeDelta,
    pub(super) report: Report,
}

impl Search<'_> {
    /// Judges the stores.
    pub(super) async fn stores(&mut self, listed: &[Listed]) -> Result<(), StepError> {
        self.report.listed("vector_store", listed.len());
        let made = self.made(Kind::VectorStore, listed).await?;
        for store in listed {
            self.scope.check_running()?;
            let is_made = made.contains(&store.id);
            if !is_made && store.tag.is_none() {
                continue;
            }
            let mut db = self.scope.context.pool.acquire().await?;
            let verdict = self.judge_store(&mut db, store, is_made).await?;
            drop(db);
            let deleted = verdict == Verdict::Orphan
                && self.mode == OrphanMode::Delete
                && self.retire_store(store, is_made).await?;
            let proof = if is_made { "made" } else { "tag" };
            self.report
                .note("vector_store", store, Found::new(verdict, proof, deleted));
        }
        Ok(())
    }

    /// The order of the questions matters: a store that is recorded between two of them is seen by one of them.
    pub(super) async fn judge_store(
        &self,
        db: &mut MySqlConnection,
        store: &Listed,
        is_made: bool,
    ) -> Result<Verdict, StepError> {
        let provider = self.scope.provider_type.as_str();
        if let Some(tag) = &store.tag
            && intents::is_open(db, provider, Operation::CreateVectorStore, tag).await?
        {
            return Ok(Verdict::Referenced);
        }
        if intents::is_store_referenced(db, provider, &store.id).await? {
            return Ok(Verdict::Referenced);
        }
        if intents::is_store_retired(db, provider, &store.id).await? {
            return Ok(Verdict::Waiting);
        }
        let is_ours = is_made
            || match &store.tag {
                Some(tag) => ownership::is_our_tag(db, provider, tag).await?,
                None => false,
            };
        Ok(self.by_age(is_ours, store))
    }

    /// Under the lock of the index that it was made for, as everybody who retires or adopts one.
    pub(super) async fn retire_store(&self, store: &Listed, is_made: bool) -> Result<bool, StepError> {
        let Some(index_id) = store
            .index_id
            .as_deref()
            .and_then(|id| id.parse::<IndexId>().ok())
        else {
            return Ok(false);
        };
        let mut tx = self.scope.context.pool.begin().await?;
        indexes::lock_any(&mut tx, index_id).await?;
        self.scope.claim.fence(&mut tx).await?;
        if self.judge_store(&mut tx, store, is_made).await? != Verdict::Orphan {
            return Ok(false);
        }
        intents::retire_store(&mut tx, &self.scope.provider_type, None, &store.id).await?;
        tx.commit().await?;
        tracing::warn!(store = store.id, "an orphaned vector store will be deleted");
        Ok(true)
    }

    /// Judges the files that we made. Answers the others.
    pub(super) async fn files<'l>(&mut self, listed: &'l [Listed]) -> Result<Vec<&'l Listed>, StepError> {
        self.report.listed("file", listed.len());
        let made = self.made(Kind::File, listed).await?;
        let mut strangers = Vec::new();
        for file in listed {
            if !made.contains(&file.id) {
                strangers.push(file);
                continue;
            }
            self.scope.check_running()?;
            let mut db = self.scope.context.pool.acquire().await?;
            let verdict = self.judge_file(&mut db, file).await?;
            drop(db);
            let deleted = verdict == Verdict::Orphan
                && self.mode == OrphanMode::Delete
                && self.retire_file(file).await?;
            self.report
                .note("file", file, Found::new(verdict, "made", deleted));
        }
        Ok(strangers)
    }

    pub(super) async fn judge_file(
        &self,
        db: &mut MySqlConnection,
        file: &Listed,
    ) -> Result<Verdict, StepError> {
        let provider = self.scope.provider_type.as_str();
        if intents::is_file_in_use(db, provider, &file.id).await? {
            return Ok(Verdict::Referenced);
        }
        if intents::is_file_referenced(db, provider, &file.id).await? {
            return Ok(Verdict::Waiting);
        }
        Ok(self.by_age(true, file))
    }

    pub(super) async fn retire_file(&self, file: &Listed) -> Result<bool, StepError> {
        let provider = self.scope.provider_type.as_str();
        let mut tx = self.scope.write().await?;
        let retired = intents::retire_file(&mut tx, provider, &file.id).await?;
        tx.commit().await?;
        if retired {
            tracing::warn!(external_file_id = file.id, "an orphaned file will be deleted");
        }
        Ok(retired)
    }

    pub(super) async fn made(&self, kind: Kind, listed: &[Listed]) -> Result<HashSet<String>, StepError> {
        let mut made = HashSet::new();
        let mut db = self.scope.context.pool.acquire().await?;
        for portion in listed.chunks(PORTION) {
            let ids: Vec<&str> = portion.iter().map(|item| item.id.as_str()).collect();
            made.extend(ownership::list_made(&mut db, &self.scope.provider_type, kind, &ids).await?);
        }
        Ok(made)
    }

    fn by_age(&self, is_ours: bool, item: &Listed) -> Verdict {
        if !is_ours {
            return Verdict::Unproven;
        }
        match item.created_at {
            Some(at) if at + self.min_age < self.began => Verdict::Orphan,
            // Without a time it is not known whether it is in flight.
            _ => Verdict::Young,
        }
    }
}
