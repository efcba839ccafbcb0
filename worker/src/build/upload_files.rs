//! Step 2: every file of the composition has a current copy at the provider, and what has arrived is attached meanwhile.
//!
//! Two stages run side by side. The uploads (`uploads`) walk the composition page by page, and write down in one transaction
//! what has arrived, that it is to be attached, and what goes up next. The attaches (`attach_files`) are fed by those rows: a
//! batch leaves when it is full, or half a second old. Between the stages there are rows and nothing else, so a crash loses
//! neither.
//!
//! Reads composition, copies and attachments. Writes copies, intents and attachments. Calls create of files, and what
//! `attach_files` calls. Safe to repeat because each file has an intent of its own.

use std::time::Duration;

use super::signals::Signals;
use super::state::Build;
use super::step::Step;
use super::{attach_files, uploads};
use crate::step_error::StepError;

const BUSY_PAUSE: Duration = Duration::from_secs(1);
pub(crate) async fn run(build: &mut Build<'_>) -> Result<Step, StepError> {
    build.report().await?;
    let this = &*build;
    let signals = Signals::default();
    let uploads = async {
        let result = uploads::run(this, &signals).await;
        signals.end_uploads();
        result
    };
    let (uploaded, attached) = tokio::join!(uploads, attach_files::alongside(this, &signals));
    if uploaded.is_err()
        && let Err(error @ (StepError::Stopped | StepError::Database { .. })) = attached
    {
        return Err(error);
    }
    // Uploads that have to wait are the reason that is told: why what has gone up could not be attached is the next claim's matter.
    let uploaded = uploaded?;
    attached?;
    build.report().await?;
    if uploaded.busy {
        return Err(StepError::snooze(
            BUSY_PAUSE,
            "another job uploads some of the files",
        ));
    }
    build.leaving = uploaded.leaving;
    Ok(if uploaded.come_again {
        Step::AttachFiles
    } else {
        Step::AwaitIndexing
    })
}
