//! What a claim may do: transactions that are fenced by it, and intents that it takes over from claims that have ended.
//!
//! [`Scope`] is one claim's work at one provider, whatever the job is. Calls no provider.

use std::sync::Arc;
use std::time::Duration;

use apalis_mariadb::{Claim, ClaimToken, Queue};
use rag_db::intents::{self, Intent};
use rag_domain::DomainId;
use rag_providers::Provider;
use sqlx::{MySql, MySqlConnection, Transaction};

use crate::context::Context;
use crate::step_error::{OPERATOR_PAUSE, StepError};

/// One claim's work at one provider.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) context: &'a Context,
    pub(crate) claim: &'a Claim,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) provider_type: String,
    /// Whose files it may touch.
    pub(crate) domain_id: DomainId,
    /// The claim's, as intents hold it.
    pub(crate) token: String,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        context: &'a Context,
        claim: &'a Claim,
        provider: Arc<dyn Provider>,
        provider_type: &str,
        domain_id: &DomainId,
    ) -> Self {
        Self {
            context,
            claim,
            provider,
            provider_type: provider_type.to_owned(),
            domain_id: domain_id.clone(),
            token: claim.token().to_string(),
        }
    }

    /// For work that touches no domain's files.
    pub(crate) fn without_domain(
        context: &'a Context,
        claim: &'a Claim,
        provider: Arc<dyn Provider>,
        provider_type: &str,
    ) -> Result<Self, StepError> {
        let nobody =
            DomainId::try_from("-".to_owned()).map_err(|error| StepError::fail(error.to_string()))?;
        Ok(Self::new(context, claim, provider, provider_type, &nobody))
    }

    /// Stops between two provider calls rather than in one.
    pub(crate) fn check_running(&self) -> Result<(), StepError> {
        if self.claim.cancellation().is_cancelled() {
            Err(StepError::Stopped)
        } else {
            Ok(())
        }
    }

    /// A transaction that may write on the job's behalf, but not an index's row: that is locked before the job's.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, MySql>, StepError> {
        let mut tx = self.context.pool.begin().await?;
        self.claim.fence(&mut tx).await?;
        Ok(tx)
    }

    /// As [`write`](Self::write), for what brings the job closer to its end: however many workers die on the way, a job that
    /// gets on is not given up.
    pub(crate) async fn write_progress(&self) -> Result<Transaction<'static, MySql>, StepError> {
        let mut tx = self.context.pool.begin().await?;
        self.claim.progress(&mut tx).await?;
        Ok(tx)
    }
}

/// Takes an intent from a claim that is no longer live; waits for one that is.
pub(crate) async fn take_over(
    scope: &Scope<'_>,
    db: &mut MySqlConnection,
    intent: &Intent,
) -> Result<(), StepError> {
    let holder = intent.claim_token.as_deref();
    if holder == Some(scope.token.as_str()) {
        return Ok(());
    }
    if is_held(&scope.context.queue, db, intent).await? {
        return Err(StepError::snooze(
            Duration::from_secs(1),
            format!("another job works on {}", intent.subject),
        ));
    }
    Ok(intents::take_over(db, intent.id, holder, &scope.token).await?)
}

/// Whether the claim that declared the intent, or took it over, is live.
pub(crate) async fn is_held(
    queue: &Queue,
    db: &mut MySqlConnection,
    intent: &Intent,
) -> Result<bool, StepError> {
    let holder = intent.claim_token.as_deref();
    match holder.and_then(|token| token.parse::<ClaimToken>().ok()) {
        Some(token) => Ok(queue.is_live(db, token).await?),
        None => Ok(false),
    }
}

/// The account is exhausted, and the fleet's next try is not due: what brings something there waits, and sends nothing.
pub(crate) async fn wait_if_exhausted(
    db: &mut MySqlConnection,
    provider_type: &str,
) -> Result<(), StepError> {
    match rag_connections::find_exhausted(db, provider_type).await? {
        None => Ok(()),
        Some((state, left)) => Err(StepError::snooze(
            left.min(OPERATOR_PAUSE),
            format!("the account at provider `{provider_type}` is {state}"),
        )),
    }
}
