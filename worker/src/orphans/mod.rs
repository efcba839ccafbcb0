//! What we made at a provider and no row of ours references: found, reported, and deleted if that is wanted.
//!
//! Reads the ownership ledger, copies, attachments, indexes and intents. Writes deletion intents in `delete` mode alone, and forgets lost
//! uploads that came to nothing. Calls list of stores and of files, on an exclusive account the content of files that may be
//! ours, then deletes. Safe to repeat because it decides from rows.
//!
//! Nothing is deleted that the ownership ledger does not prove to be ours (`rag_db::ownership`): a store by its id or its tag, a file by its
//! id. What unconfirmed uploads (those that were never answered) have left there is judged in `unconfirmed_uploads`. What is young is left alone, since it
//! may be work in flight. A listing that fails, or is not complete, ends the search before anything is decided.

mod listed;
mod report;
mod search;
mod unconfirmed_uploads;

use std::collections::HashSet;

use chrono::{TimeDelta, Utc};
use rag_db::connections;
use rag_jobs::OrphanMode;

use crate::delete::pending::{Site, delete_retired};
use crate::lease::Scope;
use crate::step_error::StepError;
use report::Report;
use search::Search;

/// Searches one provider. `confirmed`: ids of unproven files of which an admin says that they are ours; they are deleted.
pub(crate) async fn search(
    scope: &Scope<'_>,
    mode: OrphanMode,
    confirmed: &HashSet<String>,
) -> Result<Report, StepError> {
    let began = Utc::now();
    let mut db = scope.context.pool.acquire().await?;
    let is_exclusive = connections::is_exclusive(&mut db, &scope.provider_type).await?;
    drop(db);
    let stores = listed::list_stores(scope).await?;
    let files = listed::list_files(scope).await?;
    let mut search = Search {
        scope,
        mode,
        confirmed,
        began,
        is_exclusive,
        min_age: TimeDelta::from_std(scope.context.settings.orphans_min_age).unwrap_or(TimeDelta::MAX),
        report: Report::new(mode),
    };
    search.stores(&stores).await?;
    let strangers = search.files(&files).await?;
    unconfirmed_uploads::judge_all(&mut search, &strangers).await?;
    if mode == OrphanMode::Delete || !confirmed.is_empty() {
        delete_retired(Site::from(scope), 20).await?;
    }
    scope.check_running()?;
    Ok(search.report)
}
