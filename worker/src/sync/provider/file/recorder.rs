//! Files come one by one, from several stores at once; what has come by the time of a transaction is written by it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::fetch::Fetched;
use super::record::{self, Arrival};
use crate::step_error::StepError;
use crate::sync::provider::run::Sync;
use rag_domain::DomainId;

/// The first that comes waits so long for others. Its worker may be killed meanwhile, and it is downloaded again.
const GATHER: Duration = Duration::from_millis(50);

/// Whoever finds nobody writing writes for all.
#[derive(Default)]
pub(super) struct Recorder {
    arrived: Mutex<Vec<(Arrival, oneshot::Sender<()>)>>,
    leading: tokio::sync::Mutex<()>,
}

impl Recorder {
    /// Returns when the file is written down.
    pub(super) async fn record(
        &self,
        sync: &Sync<'_>,
        domain: &DomainId,
        fetched: Fetched,
    ) -> Result<(), StepError> {
        let (written, mut told) = oneshot::channel();
        let arrival = Arrival {
            domain: domain.clone(),
            fetched,
        };
        self.arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((arrival, written));
        let _leading = tokio::select! {
            biased;
            told = &mut told => return told.map_err(|_| not_written()),
            leading = self.leading.lock() => leading,
        };
        match told.try_recv() {
            Ok(()) => return Ok(()),
            Err(oneshot::error::TryRecvError::Closed) => return Err(not_written()),
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        tokio::time::sleep(GATHER).await;
        let mut tx = sync.write().await?;
        let arrived = std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner));
        let (arrivals, waiting): (Vec<_>, Vec<_>) = arrived.into_iter().unzip();
        record::all(sync, &mut tx, arrivals).await?;
        tx.commit().await?;
        for written in waiting {
            // Who has gone away does not ask.
            let _ = written.send(());
        }
        Ok(())
    }
}

/// Whoever wrote for it says why.
fn not_written() -> StepError {
    StepError::snooze(Duration::ZERO, "what has come could not be written down")
}
