//! A store whose creation was never answered, of an index whose store is deleted: it is known by its tag.
//!
//! Reads the creation's intent. Writes it, and deletion intents. Calls list of stores. Safe to repeat because the intent goes
//! in the transaction that retires what was found.

use std::time::Duration;

use chrono::Utc;
use rag_db::intents::{self, Intent, Operation};
use rag_domain::IndexId;
use sqlx::MySqlConnection;

use crate::lease::{Scope, is_held};
use crate::observe::tagged_stores;
use crate::step_error::StepError;

const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

/// What a creation has left: none, one, or, after several lost answers, more.
pub(super) struct UnconfirmedStore {
    intent: Intent,
    index_id: IndexId,
    stores: Vec<String>,
}

/// Looks for them. `None`: every creation of a store for this index was answered.
pub(super) async fn find(
    scope: &Scope<'_>,
    index_id: IndexId,
) -> Result<Option<UnconfirmedStore>, StepError> {
    let (provider_type, subject) = (&scope.provider_type, index_id.to_string());
    let mut tx = scope.write().await?;
    let operation = Operation::CreateVectorStore;
    let Some(intent) = intents::find_for_update(&mut tx, provider_type, operation, &subject).await? else {
        return Ok(None);
    };
    if is_held(&scope.context.queue, &mut tx, &intent).await? {
        return Err(StepError::snooze(
            NOT_VISIBLE_YET,
            "a build of the index is coming to its end",
        ));
    }
    tx.commit().await?;
    let found = tagged_stores::stores_of(scope.provider.as_ref(), &intent).await?;
    let grace = scope.provider.capabilities().settle_grace;
    let age = (Utc::now() - intent.updated_at).to_std().unwrap_or_default();
    if found.is_empty() && age < grace {
        let reason = "searches for a vector store that may have been made";
        return Err(StepError::snooze(NOT_VISIBLE_YET, reason));
    }
    Ok(Some(UnconfirmedStore {
        intent,
        index_id,
        stores: found.into_iter().map(|store| store.id).collect(),
    }))
}

impl UnconfirmedStore {
    /// Marks them for deletion, in a transaction that may write what the deletion stands for.
    pub(super) async fn retire(self, tx: &mut MySqlConnection, provider_type: &str) -> Result<(), StepError> {
        for store in &self.stores {
            intents::retire_store(tx, provider_type, Some(self.index_id), store).await?;
        }
        intents::give_up(tx, self.intent.id, self.intent.claim_token.as_deref()).await?;
        Ok(())
    }
}
