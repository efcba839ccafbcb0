//! Proof that a file at a provider is what an upload of ours left there, although its answer was lost.
//!
//! Name, size and time prove nothing: other installations and people have files like ours. What does prove it is that an admin
//! says nobody else works on the account ([`connections::is_exclusive`]), that the bytes are the same, and that no other
//! upload of ours can have brought them: one of another file, or of another domain, with the same contents.
//!
//! No provider takes a mark on a file that its users would not see, so bytes are all there is. Where a provider does not hand
//! them out, nothing is proven.

use futures::StreamExt as _;
use rag_db::connections;
use rag_db::intents::{self, Intent};
use rag_db::ownership::{self, Kind};
use rag_providers::{Order, Provider, ProviderError, ProviderFile};
use sha2::{Digest as _, Sha256};
use sqlx::MySqlConnection;

use super::listing::{CLOCK_SKEW, Pages};
use crate::lease::Scope;
use crate::step_error::StepError;

/// Files whose bytes are compared for one upload.
const MAX_COMPARED: usize = 4;

/// The file that an interrupted upload of exactly this content left at the provider, if there is one that no row references.
/// What [`may_adopt`] says has to be asked in the transaction that takes it.
pub(crate) async fn find_copy(scope: &Scope<'_>, intent: &Intent) -> Result<Option<ProviderFile>, StepError> {
    let (Some(name), Some(size_bytes), Some(sha256)) =
        (&intent.file_name, intent.size_bytes, &intent.content_sha256)
    else {
        return Ok(None);
    };
    let provider_type = &scope.provider_type;
    let mut db = scope.context.pool.acquire().await?;
    let is_exclusive = connections::is_exclusive(&mut db, provider_type).await?;
    drop(db);
    if !is_exclusive {
        return Ok(None);
    }
    let mut alike = Pages::of_files(scope.provider.as_ref(), Order::Descending)
        .since(intent.created_at - CLOCK_SKEW, |file| file.created_at)
        .await?;
    // Files of unknown age are none of an upload whose time is known.
    alike
        .retain(|file| file.created_at.is_some() && file.file_name == *name && file.size_bytes == size_bytes);
    let mut compared = 0;
    for file in alike {
        scope.check_running()?;
        let mut db = scope.context.pool.acquire().await?;
        let known = !is_free(&mut db, provider_type, &file.id).await?;
        drop(db);
        if known {
            continue;
        }
        let found = sha256_of(scope.provider.as_ref(), &file.id, size_bytes).await;
        if found.as_ref() == Some(sha256) {
            return Ok(Some(file));
        }
        compared += 1;
        if compared == MAX_COMPARED {
            break;
        }
    }
    Ok(None)
}

/// Whether a copy that [`find_copy`] found has no owner yet, and can only be this intent's. Rivals are asked for first: one
/// that is recorded between the two questions is seen by the second.
pub(crate) async fn may_adopt(
    db: &mut MySqlConnection,
    intent: &Intent,
    external_file_id: &str,
) -> Result<bool, StepError> {
    let Some(sha256) = &intent.content_sha256 else {
        return Ok(false);
    };
    let provider = &intent.provider_id;
    if intents::is_content_uploading(db, provider, sha256, Some(intent.id)).await?
        || ownership::has_rival(db, provider, &intent.subject, sha256).await?
    {
        return Ok(false);
    }
    is_free(db, provider, external_file_id).await
}

/// No row references the file, and the provider has not said that it is gone.
async fn is_free(
    db: &mut MySqlConnection,
    provider: &str,
    external_file_id: &str,
) -> Result<bool, StepError> {
    Ok(
        !intents::is_file_referenced(db, provider, external_file_id).await?
            && !ownership::is_known(db, provider, Kind::File, external_file_id).await?,
    )
}

/// Of the bytes that the provider hands out for the file, if it does, and they are so many. Whatever goes wrong, nothing is
/// proven.
pub(crate) async fn sha256_of(
    provider: &dyn Provider,
    external_file_id: &str,
    size_bytes: u64,
) -> Option<String> {
    let found = hash(provider, external_file_id, size_bytes).await;
    found.unwrap_or_else(|error| {
        tracing::info!(external_file_id, %error, "the bytes of a file could not be compared");
        None
    })
}

/// `None`: there are more bytes than that, or fewer.
async fn hash(
    provider: &dyn Provider,
    external_file_id: &str,
    size_bytes: u64,
) -> Result<Option<String>, ProviderError> {
    let mut content = provider.file_content(external_file_id).await?;
    let (mut hasher, mut received) = (Sha256::new(), 0);
    while let Some(piece) = content.stream.next().await {
        let piece = piece?;
        received += piece.len() as u64;
        if received > size_bytes {
            return Ok(None);
        }
        hasher.update(&piece);
    }
    Ok((received == size_bytes).then(|| hex::encode(hasher.finalize())))
}
