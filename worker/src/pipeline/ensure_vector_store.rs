//! Step 1: the index has exactly one store at the provider, with the settings that the index is to have (`store_settings`).
//!
//! Reads the index and its creation intent. Writes the intent, then the index's `external_id`, and whether the store was seen
//! expired. Calls get, list and create of vector stores. Safe to repeat because a store carries its intent's id as a tag: a store that was made
//! without our hearing of it is found by that tag and adopted.

use std::time::Duration;

use apalis_mariadb::{ClaimToken, Queue};
use chrono::Utc;
use rag_db::intents::{self, Declared, Intent, NewIntent, Operation};
use rag_db::ownership::{self, Kind};
use rag_db::{DbError, indexes};
use rag_domain::{STORE_TAGS, StoreSettings};
use rag_providers::{
    Effect, ExpiresAfter, Metadata, NewVectorStore, ProviderError, VectorStore, VectorStoreStatus,
};

use super::{Build, Scope, Step, adopt, deletions, store_settings, verify};
use crate::halt::{Halt, chain};
use crate::observe::presence::{self, Presence};
use crate::observe::{age, is_absent};

/// The metadata keys by which a store is known as ours.
pub(crate) const TAG_INTENT: &str = STORE_TAGS[0];
pub(crate) const TAG_INDEX: &str = STORE_TAGS[1];

const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, Halt> {
    let is_new = match build.index.external_id {
        Some(_) => false,
        None => create(build).await?,
    };
    // One that was made just now has what it was made with.
    if !is_new {
        let store = check(build, build.store_id()?).await?;
        store_settings::push(build, &store).await?;
    }
    verify::finds_stores(build, build.store_id()?).await?;
    Ok(Step::UploadFiles)
}

/// A store that is gone, or has expired, is not made again unless asked for.
pub(crate) async fn check(build: &Build<'_>, store: &str) -> Result<VectorStore, Halt> {
    let found = find(build, store).await?;
    let expired = found.status == VectorStoreStatus::Expired;
    if expired || build.index.store_expired_at.is_some() {
        let (mut tx, index) = build.write_index().await?;
        indexes::set_store_expired(&mut tx, index.id, store, expired).await?;
        tx.commit().await?;
    }
    if expired {
        let error = format!(
            "vector store {store} has expired at the provider; build the index with recreate=true to make a new one"
        );
        return Err(Halt::Fail { error });
    }
    Ok(found)
}

async fn find(build: &Build<'_>, store: &str) -> Result<VectorStore, Halt> {
    if is_new(build) {
        return match build.provider.get_vector_store(store).await {
            Ok(found) => Ok(found),
            Err(error) if is_absent(&error) => Err(Halt::snooze(
                NOT_VISIBLE_YET,
                "the provider does not show the new vector store yet",
            )),
            Err(error) => Err(error.into()),
        };
    }
    // Since when it is missed may have been written since this claim began.
    let mut db = build.context.pool.acquire().await?;
    let index = indexes::get(&mut db, &build.domain_id, build.index.id).await?;
    drop(db);
    match presence::of_store(&build.observer(), &index, store, None).await? {
        Presence::There(found) => Ok(*found),
        Presence::LookAgain(after) => Err(Halt::snooze(
            after,
            format!("the provider did not find vector store {store}: a second look decides"),
        )),
        Presence::Unknown(doubt) => Err(Halt::Retry {
            error: format!("it is not known whether vector store {store} still exists: {doubt}"),
            after: None,
        }),
        Presence::Gone => {
            let error = format!(
                "vector store {store} no longer exists at the provider; sync the index, or build it with recreate=true"
            );
            Err(Halt::Fail { error })
        }
    }
}

/// A call about the store, or about what is in it, found it absent: not visible yet, gone, or something else is absent.
pub(crate) async fn missing(build: &Build<'_>, store: &str, error: ProviderError) -> Halt {
    if let Err(halt) = check(build, store).await {
        return halt;
    }
    // It is there for one call and absent for another.
    Halt::Retry {
        error: format!(
            "the provider finds the vector store for one call and not for another: {}",
            chain(&error)
        ),
        after: None,
    }
}

fn is_new(build: &Build<'_>) -> bool {
    age(build.index.updated_at) < build.provider.capabilities().settle_grace
        && build.index.store_missed_at.is_none()
}

/// `true`: the store is new; `false`: an earlier attempt made it, with whatever settings the index had then.
async fn create(build: &mut Build<'_>) -> Result<bool, Halt> {
    let (intent, fresh) = declare(build).await?;
    let adopted = if fresh {
        None
    } else {
        adopt::store(build, &intent).await?
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
        Err(Halt::Stopped) => {
            deletions::disown_store(build, &intent, &store).await?;
            return Err(Halt::Stopped);
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
) -> Result<(), Halt> {
    let (mut tx, index) = build.write_index().await?;
    if intents::is_store_retired(&mut tx, &index.provider_type, store).await? {
        return Err(Halt::snooze(
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
async fn declare(build: &Build<'_>) -> Result<(Intent, bool), Halt> {
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
            return Err(Halt::snooze(
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

/// Takes an intent from a claim that is no longer live; waits for one that is.
pub(crate) async fn take_over(
    scope: &Scope<'_>,
    db: &mut sqlx::MySqlConnection,
    intent: &Intent,
) -> Result<(), Halt> {
    let holder = intent.claim_token.as_deref();
    if holder == Some(scope.token.as_str()) {
        return Ok(());
    }
    if is_held(&scope.context.queue, db, intent).await? {
        return Err(Halt::snooze(
            Duration::from_secs(1),
            format!("another job works on {}", intent.subject),
        ));
    }
    Ok(intents::take_over(db, intent.id, holder, &scope.token).await?)
}

/// Whether the claim that declared the intent, or took it over, is live.
pub(crate) async fn is_held(
    queue: &Queue,
    db: &mut sqlx::MySqlConnection,
    intent: &Intent,
) -> Result<bool, Halt> {
    let holder = intent.claim_token.as_deref();
    match holder.and_then(|token| token.parse::<ClaimToken>().ok()) {
        Some(token) => Ok(queue.is_live(db, token).await?),
        None => Ok(false),
    }
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
        chunking_strategy: index.chunking_strategy,
        metadata,
        file_ids: Vec::new(),
    }
}
