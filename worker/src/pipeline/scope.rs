//! What a step needs to work at a provider on a job's behalf, whatever the job is.

use std::sync::Arc;

use apalis_mariadb::Claim;
use rag_domain::DomainId;
use rag_providers::Provider;
use sqlx::{MySql, Transaction};

use crate::context::Context;
use crate::halt::Halt;

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

    /// Stops between two provider calls rather than in one.
    pub(crate) fn check_running(&self) -> Result<(), Halt> {
        if self.claim.cancellation().is_cancelled() {
            Err(Halt::Stopped)
        } else {
            Ok(())
        }
    }

    /// A transaction that may write on the job's behalf, but not an index's row: that is locked before the job's.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, MySql>, Halt> {
        let mut tx = self.context.pool.begin().await?;
        self.claim.fence(&mut tx).await?;
        Ok(tx)
    }

    /// As [`write`](Self::write), for what brings the job closer to its end: however many workers die on the way, a job that
    /// gets on is not given up.
    pub(crate) async fn write_progress(&self) -> Result<Transaction<'static, MySql>, Halt> {
        let mut tx = self.context.pool.begin().await?;
        self.claim.progress(&mut tx).await?;
        Ok(tx)
    }
}
