//! The upload of one file by itself, for jobs without an index; builds upload in groups (`build::uploads`), by the same steps.
//!
//! A file goes up once for the same content, also when two workers want it at once; it goes up again for each answer
//! that was lost. Safe to repeat because the intent is written first and is removed by the transaction that records the outcome.

use rag_db::composition::Member;

use super::declare::{Declaration, declare};
use super::outcome::{Uploaded, record};
use super::send::{Ended, send, send_inherited};
use crate::delete::disown::disown_file;
use crate::lease::Scope;
use crate::step_error::StepError;

/// Makes sure that the provider has this file's present content.
pub(crate) async fn ensure(scope: &Scope<'_>, member: &Member) -> Result<Uploaded, StepError> {
    let mut tx = scope.write().await?;
    let declaration = declare(scope, &mut tx, &[member]).await?.into_iter().next();
    tx.commit().await?;
    let ended = match declaration {
        Some(Declaration::There) => return Ok(Uploaded::Yes),
        Some(Declaration::Busy) => return Ok(Uploaded::Busy),
        Some(Declaration::Gone) | None => return Ok(Uploaded::Skipped),
        Some(Declaration::Fresh(intent)) => send(scope, member.clone(), intent).await?,
        Some(Declaration::Inherited(intent)) => send_inherited(scope, member.clone(), intent).await?,
    };
    let sent = match ended {
        Ended::Written(uploaded) => return Ok(uploaded),
        Ended::Sent(sent) => sent,
    };
    let recorded = async {
        let mut tx = scope.write_progress().await?;
        record(scope, &mut tx, &[sent.arrival()]).await?;
        Ok(tx.commit().await?)
    };
    match recorded.await {
        Ok(()) => {
            tracing::info!(file.id = %member.desired.file_id, external_file_id = sent.file.id, "uploaded");
            Ok(Uploaded::Yes)
        }
        // The claim was lost while the upload was on the wire. Whoever has it now makes another one.
        Err(StepError::Stopped) => {
            disown_file(scope, member.desired.file_id, &sent.intent, &sent.file.id).await?;
            Err(StepError::Stopped)
        }
        Err(error) => Err(error),
    }
}
