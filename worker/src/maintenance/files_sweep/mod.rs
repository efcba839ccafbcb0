//! The sweep of FILES_ROOT: what lies there and no row names goes, what rows name and does not lie there is told.
//!
//! A process that is killed between publishing contents and its commit, or between its commit and the unlink, leaves contents
//! that no row leads to, but the disk shows; one that is killed amid an upload leaves a part of it.
//!
//! Reads rows of files and the folder, in pages. Writes the folder, its marker, and `rag_files_sweep`. Calls no provider. Safe
//! to repeat because every removal is decided anew from the row and the disk as they are then.
//!
//! What keeps it from removing what somebody needs:
//! - The folder shows the marker of this installation (`FileStore::check_root`), as whatever reads files asks.
//! - `owner`: the folder's marker names this database and no other, and says what this database wrote there last. So a
//!   second database, a copy of this one, an older state of it or of the folder, and a mount that is missing are noticed. Who
//!   finds the folder to be another's says so in the marker, even if it sweeps nothing itself: then none does.
//! - Nothing younger than FILES_SWEEP_MIN_AGE_SECONDS counts: an upload's row comes after its bytes. Row and age are
//!   checked again right before each removal.
//! - Only regular files in places and with names that this program makes are removed, and folders that are empty.
//! - A round counts first. If too large a share would go, nothing does: somebody may be putting a backup back.

mod disk;
mod owner;
mod report;
mod rows;

use std::time::Duration;

use rag_db::{files_sweep, schedules};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::maintenance::recurring_log::RecurringLog;
use crate::step_error::StepError;
use owner::Entered;
use report::{Report, Verdict};

pub(crate) use report::measure;

/// How late a round may be.
const TICK: Duration = Duration::from_secs(2);
/// How often the marker is renewed where nothing is swept.
const WATCH_EVERY: Duration = Duration::from_mins(10);
const CHANGED: &str = "the marker of FILES_ROOT was changed, or has gone, during the sweep";

/// Runs until it is cancelled. Errors are logged, and the next round tries again.
pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let sweeping = async {
        greet(&context).await;
        let mut log = RecurringLog::new("sweep FILES_ROOT");
        loop {
            tick().await;
            log.note(match context.files_settings.sweep_every {
                Some(every) => run_if_due(&context, every).await,
                None => watch_if_due(&context).await,
            });
        }
    };
    tokio::select! {
        () = sweeping => {}
        // A round that is cut off leaves nothing half done: each removal is one call.
        () = stop.cancelled() => {}
    }
}

async fn tick() {
    tokio::time::sleep(TICK.mul_f64(rand::random_range(0.8..1.2))).await;
}

/// Says that this database uses the folder, as soon as it is there.
async fn greet(context: &Context) {
    let mut said = String::new();
    while let Err(error) = owner::greet(context).await {
        let reason = error.to_string();
        if reason != said {
            tracing::warn!(
                reason,
                "the marker of FILES_ROOT could not be checked, it will be tried again"
            );
            said = reason;
        }
        tick().await;
    }
}

/// Where nothing is swept the marker is renewed all the same: a copy of this database must not take the folder for its own.
async fn watch_if_due(context: &Context) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    let is_due = schedules::take_turn(&mut db, "files_sweep_watch", WATCH_EVERY).await?;
    drop(db);
    if !is_due || context.files.check_root().await.is_err() {
        return Ok(());
    }
    if let Entered::Refused(refusal) = owner::enter(context).await? {
        tracing::error!(%refusal, "FILES_ROOT is not this database's alone");
    }
    Ok(())
}

async fn run_if_due(context: &Context, every: Duration) -> Result<(), StepError> {
    let mut db = context.pool.acquire().await?;
    let is_due = schedules::take_turn(&mut db, "files_sweep", every).await?;
    drop(db);
    if !is_due {
        return Ok(());
    }
    let report = sweep(context).await?;
    report.log();
    report.count();
    let mut db = context.pool.acquire().await?;
    Ok(files_sweep::set_report(&mut db, &report.to_json()).await?)
}

/// One round.
async fn sweep(context: &Context) -> Result<Report, StepError> {
    let settings = &context.files_settings;
    let mut report = Report::default();
    let stamp = match owner::enter(context).await? {
        Entered::Ours(stamp) => Some(stamp),
        Entered::JustClaimed => None,
        Entered::Refused(refusal) => {
            report.verdict = Verdict::Refused(refusal.to_string());
            return Ok(report);
        }
    };
    disk::count(context, &mut report).await?;
    report.verdict = match stamp.as_ref().filter(|_| settings.sweep_deletes) {
        None => Verdict::Reported,
        Some(_) if report.exceeds_threshold(settings.sweep_deletion_threshold_percent) => {
            Verdict::OverThreshold
        }
        Some(_) if !report.has_leftovers() => Verdict::Swept,
        Some(stamp) => {
            if disk::remove(context, stamp, &mut report).await? {
                Verdict::Swept
            } else {
                Verdict::Refused(CHANGED.to_owned())
            }
        }
    };
    rows::count_missing(context, &mut report).await?;
    // In a folder that has gone from under us everything is missing.
    if let Some(stamp) = &stamp
        && !owner::is_still_ours(context, stamp).await?
    {
        report.doubt_missing();
        report.verdict = Verdict::Refused(CHANGED.to_owned());
    }
    Ok(report)
}
