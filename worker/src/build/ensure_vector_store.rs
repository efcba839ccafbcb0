//! Step 1: the index has exactly one store at the provider, with the settings that the index is to have (`store_settings`).
//!
//! Reads the index and its creation intent. Writes the intent, then the index's `external_id`, and whether the store was seen
//! expired. Calls get, list and create of vector stores. Safe to repeat because a store carries its intent's id as a tag: a store that was made
//! without our hearing of it is found by that tag and adopted.

use std::time::Duration;

use chrono::Utc;
use rag_db::intents::{self, Declared, Intent, NewIntent, Operation};
use rag_db::ownership::{self, Kind};
use rag_db::{DbError, indexes};
use rag_domain::{ChunkingStrategy, StoreSettings};
use rag_providers::{Effect, ExpiresAfter, Metadata, NewVectorStore};

use super::state::Build;
use super::step::Step;
use super::{adopt_store, store_check, store_settings};
use crate::delete::disown::disown_store;
use crate::lease::take_over;
use crate::observe::presence;
use crate::observe::tagged_stores::{TAG_INDEX, TAG_INTENT};
use crate::step_error::StepError;

const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    let is_new = match build.index.external_id {
        Some(_) => false,
        None => create(build).await?,
    };
    // One that was made just now has what it was made with.
    if !is_new {
        let store = store_check::check(build, build.store_id()?).await?;
        store_settings::push(build, &store).await?;
    }
    presence::finds_stores(&build.observer(), build.store_id()?).await?;
    Ok(Step::UploadFiles)
}

/// `true`: the store is new; `false`: an earlier attempt made it, with whatever settings the index had then.
async fn create(build: &mut Build<'_>) -> Result<bool, StepError> {
    let (intent, fresh) = declare(build).await?;
    let adopted = if fresh {
        None
    } else {
        adopt_store::find(build, &intent).await?
    };
    let is_new = adopted.is_none();
    let settings = build.index.store_settings();
    let store = match adopted {
        Some(store) => {
            tracing::info!(store, "adopted a vector store that an earlier attempt made");
            store
        }
        None => match build
            .provider
            .create_vector_store(new_store(build, &intent, &settings))
            .await
        {
            Ok(store) => store.id,
            Err(error) => {
                if error.effect == Effect::None {
                    let mut tx = build.write().await?;
                    intents::resolve(&mut tx, intent.id, &build.token).await?;
                    tx.commit().await?;
                }
                return Err(error.into());
            }
        },
    };
    let given = is_new.then_some(&settings);
    match record(build, &intent, &store, given).await {
        // The claim was lost while the provider was making the store, and somebody else builds the index now.
        Err(StepError::Stopped) => {
            disown_store(build, build.index.id, &intent, &store).await?;
            return Err(StepError::Stopped);
        }
        result => result?,
    }
    tracing::info!(store, "the index has its vector store");
    build.index.external_id = Some(store);
    build.index.pushed_settings = given.cloned();
    build.index.store_expired_at = None;
    build.index.updated_at = Utc::now();
    Ok(is_new)
}

async fn record(
    build: &Build<'_>,
    intent: &Intent,
    store: &str,
    given: Option<&StoreSettings>,
) -> Result<(), StepError> {
    let (mut tx, index) = build.write_index().await?;
    if intents::is_store_retired(&mut tx, &index.provider_type, store).await? {
        return Err(StepError::snooze(
            NOT_VISIBLE_YET,
            "the vector store that was found is about to be deleted",
        ));
    }
    indexes::set_external_id(&mut tx, index.id, store).await?;
    if given.is_some() {
        indexes::set_pushed_settings(&mut tx, index.id, given, None).await?;
    }
    ownership::confirm(&mut tx, &index.provider_type, Kind::VectorStore, intent.id, store).await?;
    intents::resolve(&mut tx, intent.id, &build.token).await?;
    Ok(tx.commit().await?)
}

/// The intent, and whether it is new: then nothing of it can be at the provider.
async fn declare(build: &Build<'_>) -> Result<(Intent, bool), StepError> {
    let mut tx = build.write().await?;
    let intent = NewIntent {
        provider_id: &build.index.provider_type,
        operation: Operation::CreateVectorStore,
        subject: &build.index.id.to_string(),
        index_id: Some(build.index.id),
        content: None,
        claim_token: &build.token,
    };
    let declared = match intents::declare(&mut tx, &intent).await {
        Err(DbError::Conflict { .. }) => {
            return Err(StepError::snooze(
                NOT_VISIBLE_YET,
                "another job works on the vector store",
            ));
        }
        declared => declared?,
    };
    let declared = match declared {
        Declared::New(intent) => {
            // Whatever comes of it, the store will be known as ours.
            ownership::insert_store(&mut tx, &intent.provider_id, intent.id).await?;
            (intent, true)
        }
        Declared::Existing(intent) => {
            take_over(build, &mut tx, &intent).await?;
            (intent, false)
        }
    };
    tx.commit().await?;
    Ok(declared)
}

fn new_store(build: &Build<'_>, intent: &Intent, settings: &StoreSettings) -> NewVectorStore {
    let index = &build.index;
    let mut metadata: Metadata = settings.metadata.clone();
    metadata.insert(TAG_INDEX.to_owned(), index.id.to_string());
    metadata.insert(TAG_INTENT.to_owned(), intent.id.to_string());
    NewVectorStore {
        name: Some(settings.name.clone()),
        description: index.description.clone(),
        expires_after: settings.expires_after_days.map(ExpiresAfter::days_after_last_use),
        chunking_strategy: index.chunking_strategy.map(ChunkingStrategy::sent),
        metadata,
        file_ids: Vec::new(),
    }
}
