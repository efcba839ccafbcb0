//! Carrying out the deletions that wait at a provider: for the build that finds them, for maintenance, and for the jobs whose
//! own end waits for them.
//!
//! Writes deletion intents and the ownership ledger. Calls delete of stores and files. Safe to repeat, and to do from several places at
//! once, because a deletion of something absent is a success; a try moves the intent's due time on before it is made, so
//! that in practice one does it. One that fails keeps its intent, comes later and later, and holds up no younger one.

use std::time::Duration;

use rag_db::intents::{self, Intent, Operation, Owner};
use rag_db::ownership::{self, Kind};
use rag_db::uploads;
use rag_providers::{Deleted, Disposition, ErrorKind, Provider, ProviderError};
use sqlx::{MySqlConnection, MySqlPool};
use tokio_util::sync::CancellationToken;

use crate::lease::Scope;
use crate::step_error::{StepError, chain};

/// Per statement.
const PORTION: u32 = 500;
/// A try takes less than this; then it is anybody's again.
const HOLD_SECONDS: u32 = 120;
/// The first failure of a deletion waits this long, each further one twice as long, up to the longest.
const FIRST_PAUSE_SECONDS: u64 = 5;
const LONGEST_PAUSE_SECONDS: u64 = 3600;
/// After so many failures in a row something is wrong with the provider rather than with what is to be deleted.
const FAILURES_IN_A_ROW: u32 = 5;
const NOT_VISIBLE_YET: Duration = Duration::from_secs(2);

const OPERATIONS: [Operation; 2] = [Operation::DeleteVectorStore, Operation::DeleteFile];

/// A provider, and who works there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) pool: &'a MySqlPool,
    pub(crate) provider_type: &'a str,
    pub(crate) provider: &'a dyn Provider,
    /// Nothing new is begun once this has fired.
    pub(crate) stop: &'a CancellationToken,
}

impl<'a> From<&'a Scope<'_>> for Site<'a> {
    fn from(scope: &'a Scope<'_>) -> Self {
        Self {
            pool: &scope.context.pool,
            provider_type: &scope.provider_type,
            provider: scope.provider.as_ref(),
            stop: scope.claim.cancellation(),
        }
    }
}

/// What became of one try.
enum Tried {
    /// It is gone, or is not to be deleted after all.
    Over,
    /// The provider does not show it yet; it may all the same appear.
    NotYet,
    Failed(ProviderError),
}

/// Carries out what is due, at most `portions` of it. Failures are written down, and are no reason to hold up the build that
/// came across them.
pub(crate) async fn delete_retired(site: Site<'_>, portions: u32) -> Result<(), StepError> {
    for operation in OPERATIONS {
        let mut in_a_row = 0;
        for _ in 0..portions {
            let mut db = site.pool.acquire().await?;
            let due = intents::list_deletions(&mut db, site.provider_type, operation, PORTION).await?;
            if due.is_empty() {
                break;
            }
            for intent in due {
                if site.stop.is_cancelled() {
                    return Ok(());
                }
                if !intents::take_deletion(&mut db, &intent, HOLD_SECONDS).await? {
                    continue;
                }
                match carry_out(site, operation, &intent).await? {
                    Tried::Failed(error) if asks_to_back_off(&error) => return Ok(()),
                    Tried::Failed(_) if in_a_row + 1 == FAILURES_IN_A_ROW => return Ok(()),
                    Tried::Failed(_) => in_a_row += 1,
                    Tried::Over | Tried::NotYet => in_a_row = 0,
                }
            }
        }
    }
    Ok(())
}

/// Carries out what this owner's own deletion waits for, at this provider. `Ok`: nothing is left of it.
pub(crate) async fn delete_owned(
    site: Site<'_>,
    owner: Owner,
    operation: Operation,
) -> Result<(), StepError> {
    loop {
        let mut db = site.pool.acquire().await?;
        let mut waiting = intents::list_deletions_of(&mut db, owner, operation, PORTION).await?;
        waiting.retain(|intent| intent.provider_id == site.provider_type);
        if waiting.is_empty() {
            return Ok(());
        }
        let (mut first_error, mut in_a_row, mut over) = (None, 0, 0_usize);
        for intent in waiting {
            if site.stop.is_cancelled() {
                return Err(StepError::Stopped);
            }
            // The job's own backoff decides when; maintenance keeps off meanwhile.
            intents::postpone_deletion(&mut db, intent.id, HOLD_SECONDS, None).await?;
            match carry_out(site, operation, &intent).await? {
                Tried::Failed(error) => {
                    in_a_row += 1;
                    let enough = asks_to_back_off(&error) || in_a_row == FAILURES_IN_A_ROW;
                    first_error.get_or_insert(error);
                    if enough {
                        break;
                    }
                }
                Tried::Over => (in_a_row, over) = (0, over + 1),
                Tried::NotYet => in_a_row = 0,
            }
        }
        if let Some(error) = first_error {
            return Err(error.into());
        }
        if over == 0 {
            let reason = "the provider does not show yet what is to be deleted";
            return Err(StepError::snooze(NOT_VISIBLE_YET, reason));
        }
    }
}

async fn carry_out(site: Site<'_>, operation: Operation, intent: &Intent) -> Result<Tried, StepError> {
    let (provider_type, subject) = (site.provider_type, intent.subject.as_str());
    let mut db = site.pool.acquire().await?;
    if is_referenced(&mut db, provider_type, operation, subject).await? {
        // Somebody adopted it after all.
        intents::resolve_deletion(&mut db, intent.id).await?;
        return Ok(Tried::Over);
    }
    drop(db);
    let result = delete(site.provider, operation, subject).await;
    let kind = kind(operation);
    match result {
        Ok(deleted) => {
            let mut tx = site.pool.begin().await?;
            if !deleted.existed && is_young(&mut tx, site, kind, subject).await? {
                let seconds = u32::try_from(NOT_VISIBLE_YET.as_secs()).unwrap_or(1);
                intents::postpone_deletion(&mut tx, intent.id, seconds, None).await?;
                tx.commit().await?;
                return Ok(Tried::NotYet);
            }
            // Remembered for a while: an older listing still shows it.
            ownership::mark_deleted(&mut tx, provider_type, kind, subject).await?;
            if kind == Kind::File {
                uploads::confirm_deleted(&mut tx, provider_type, subject).await?;
            }
            intents::resolve_deletion(&mut tx, intent.id).await?;
            tx.commit().await?;
            Ok(Tried::Over)
        }
        Err(error) => {
            tracing::warn!(
                subject,
                tries = intent.tries + 1,
                error = chain(&error),
                "a deletion at the provider failed"
            );
            let mut db = site.pool.acquire().await?;
            let pause = pause_seconds(intent.tries, error.retry_after);
            intents::postpone_deletion(&mut db, intent.id, pause, Some(&chain(&error))).await?;
            if kind == Kind::File {
                uploads::set_deletion_error(&mut db, provider_type, subject, &chain(&error)).await?;
            }
            Ok(Tried::Failed(error))
        }
    }
}

/// "Absent" of something that we made a moment ago means "not visible yet".
async fn is_young(
    db: &mut MySqlConnection,
    site: Site<'_>,
    kind: Kind,
    subject: &str,
) -> Result<bool, StepError> {
    let age = ownership::find_age_seconds(db, site.provider_type, kind, subject).await?;
    let grace = site.provider.capabilities().settle_grace;
    Ok(age.is_some_and(|seconds| Duration::from_secs(seconds) < grace))
}

const fn kind(operation: Operation) -> Kind {
    match operation {
        Operation::DeleteVectorStore | Operation::CreateVectorStore => Kind::VectorStore,
        Operation::DeleteFile | Operation::UploadFile => Kind::File,
    }
}

/// The provider asks to be called less, or only an operator can help.
fn asks_to_back_off(error: &ProviderError) -> bool {
    error.retry_after.is_some()
        || error.kind == ErrorKind::RateLimited
        || error.disposition() == Disposition::WaitForOperator
}

fn pause_seconds(tries: u32, retry_after: Option<Duration>) -> u32 {
    let doubled = FIRST_PAUSE_SECONDS.saturating_mul(1 << tries.min(20));
    let asked_for = retry_after.map_or(0, |after| after.as_secs() + 1);
    u32::try_from(doubled.min(LONGEST_PAUSE_SECONDS).max(asked_for)).unwrap_or(u32::MAX)
}

async fn is_referenced(
    db: &mut MySqlConnection,
    provider_type: &str,
    operation: Operation,
    subject: &str,
) -> Result<bool, StepError> {
    Ok(match kind(operation) {
        Kind::VectorStore => intents::is_store_referenced(db, provider_type, subject).await?,
        Kind::File => intents::is_file_in_use(db, provider_type, subject).await?,
    })
}

async fn delete(
    provider: &dyn Provider,
    operation: Operation,
    subject: &str,
) -> Result<Deleted, ProviderError> {
    match kind(operation) {
        Kind::VectorStore => provider.delete_vector_store(subject).await,
        Kind::File => provider.delete_file(subject).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_honour_the_provider() {
        let pauses: Vec<_> = [0, 1, 3, 60].map(|tries| pause_seconds(tries, None)).into();
        assert_eq!(pauses, [5, 10, 40, 3600]);
        assert_eq!(pause_seconds(0, Some(Duration::from_secs(90))), 91);
    }
}
