//! What a probe makes at the provider, so that it ends with the probe, or soon after it was killed.

use rag_db::intents;
use rag_db::ownership::{self, Kind};
use rag_domain::IntentId;
use rag_providers::ProviderError;

use super::timed_call::{TimedCall, timed};
use crate::lease::Scope;
use crate::step_error::StepError;

/// Workers delete then what a probe has not deleted itself.
const DUE_SECONDS: u32 = 15 * 60;
const AT_ONCE: u32 = 0;

/// Of one probe.
pub(super) struct Resources<'a> {
    scope: &'a Scope<'a>,
    /// Newest last: a store is made after its files, and goes before them.
    made: Vec<(Kind, String)>,
}

impl<'a> Resources<'a> {
    pub(super) fn new(scope: &'a Scope<'a>) -> Self {
        Self {
            scope,
            made: Vec::new(),
        }
    }

    /// The tag of a store that is about to be made: whatever becomes of the call, the store is known to be ours.
    pub(super) async fn new_store_tag(&self) -> Result<IntentId, StepError> {
        let tag = IntentId::new();
        let mut tx = self.scope.write().await?;
        ownership::insert_store(&mut tx, &self.scope.provider_type, tag).await?;
        tx.commit().await?;
        Ok(tag)
    }

    /// Something was made: it is ours, and its deletion is due in time.
    pub(super) async fn add(
        &mut self,
        kind: Kind,
        tag: IntentId,
        external_id: &str,
    ) -> Result<(), StepError> {
        let provider = &self.scope.provider_type;
        let mut tx = self.scope.write().await?;
        ownership::confirm(&mut tx, provider, kind, tag, external_id).await?;
        retire(&mut tx, provider, kind, external_id).await?;
        intents::postpone_deletion_of(&mut tx, provider, operation(kind), external_id, DUE_SECONDS).await?;
        tx.commit().await?;
        self.made.push((kind, external_id.to_owned()));
        Ok(())
    }

    /// Deletes it. Answers what the call came to, which a check may report.
    pub(super) async fn delete(&mut self, kind: Kind, external_id: &str) -> Result<TimedCall<()>, StepError> {
        let provider = self.scope.provider.as_ref();
        let tried = timed!(async {
            match kind {
                Kind::VectorStore => provider.delete_vector_store(external_id).await?,
                Kind::File => provider.delete_file(external_id).await?,
            };
            Ok::<_, ProviderError>(())
        });
        if tried.result.is_ok() {
            let provider = &self.scope.provider_type;
            let mut tx = self.scope.write().await?;
            ownership::mark_deleted(&mut tx, provider, kind, external_id).await?;
            intents::resolve_deletion_of(&mut tx, provider, operation(kind), external_id).await?;
            tx.commit().await?;
            self.made.retain(|(_, id)| id != external_id);
        }
        Ok(tried)
    }

    /// Deletes the rest. What can't be deleted now is due at once for any worker, and is named.
    pub(super) async fn delete_all(&mut self) -> Result<Vec<String>, StepError> {
        let mut left = Vec::new();
        for (kind, id) in self.made.clone().into_iter().rev() {
            match self.delete(kind, &id).await?.result {
                Ok(()) => {}
                Err(error) => {
                    let provider = &self.scope.provider_type;
                    let mut tx = self.scope.write().await?;
                    let operation = operation(kind);
                    intents::postpone_deletion_of(&mut tx, provider, operation, &id, AT_ONCE).await?;
                    tx.commit().await?;
                    tracing::warn!(kind = kind.as_str(), id, %error, "a probe could not delete what it made");
                    left.push(format!("{} {id}", kind.as_str()));
                }
            }
        }
        Ok(left)
    }
}

const fn operation(kind: Kind) -> intents::Operation {
    match kind {
        Kind::VectorStore => intents::Operation::DeleteVectorStore,
        Kind::File => intents::Operation::DeleteFile,
    }
}

async fn retire(
    db: &mut sqlx::MySqlConnection,
    provider: &str,
    kind: Kind,
    external_id: &str,
) -> Result<(), StepError> {
    match kind {
        Kind::VectorStore => intents::retire_store(db, provider, None, external_id).await?,
        Kind::File => {
            intents::retire_file(db, provider, external_id).await?;
        }
    }
    Ok(())
}
