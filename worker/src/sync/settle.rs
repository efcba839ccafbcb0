//! A look against the rows of an index, while no build is at work on it: what hangs in the store and how it does, the
//! index's status and the provider's payload.
//!
//! The comparison is pure; the writing is one function for each of its parts, in the caller's transaction.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rag_db::attachments::{self, Attachment, Observation};
use rag_db::indexes::{self, Index, IndexChanges};
use rag_db::{composition, looks};
use rag_domain::{AttachmentState, ChunkingStrategy, FileCounts, IndexingStatus};
use rag_providers::ReportedStrategy;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::MySqlConnection;

use super::look::{Look, SeenFile};
use crate::halt::Halt;

/// The key of an index's metadata under which the provider's description of the store is kept.
pub(crate) const PAYLOAD: &str = "provider_payload";
/// Names of failed files in `last_error`; the rest is in the per-file view.
const NAMED_FAILURES: usize = 5;

/// What a look came to: `sync_report` of the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) external_id: String,
    /// The provider's own word; null where the store is gone.
    pub(crate) store_status: Option<String>,
    pub(crate) file_counts: FileCounts,
    pub(crate) indexing_status_before: IndexingStatus,
    pub(crate) indexing_status: IndexingStatus,
    /// Files whose state was another in our rows.
    pub(crate) files_changed: u64,
    /// Files that hung in the store by our rows, and no longer do: the next build attaches them again.
    pub(crate) files_missing: u64,
    /// Files that somebody else attached: a sync of the provider takes them over.
    pub(crate) files_unknown: u64,
    /// The store is gone.
    pub(crate) gone: bool,
    /// The index has given it up.
    pub(crate) detached: bool,
}

/// Rows of an index against a look.
#[derive(Debug)]
pub(crate) struct Difference<'a> {
    /// Rows that say otherwise than the provider.
    pub(crate) corrections: Vec<(&'a Attachment, &'a SeenFile)>,
    /// Rows of files that hung in the store, and no longer do.
    pub(crate) missing: Vec<&'a Attachment>,
    /// Files in the store without a row.
    pub(crate) unknown: Vec<&'a SeenFile>,
}

impl<'a> Difference<'a> {
    /// `grace`: so long a file that was attached may stay out of a listing.
    pub(crate) fn new(rows: &'a [Attachment], look: &'a Look, grace: Duration) -> Self {
        let store = look.store.id.as_str();
        if look.has_expired() {
            return Self {
                corrections: Vec::new(),
                missing: Vec::new(),
                unknown: Vec::new(),
            };
        }
        let mut unclaimed: HashMap<&str, &SeenFile> = HashMap::new();
        for file in &look.files {
            unclaimed.insert(&file.file_id, file);
        }
        let by_store_id: HashMap<&str, &SeenFile> = look
            .files
            .iter()
            .map(|file| (file.store_file_id.as_str(), file))
            .collect();
        let (mut corrections, mut missing) = (Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| row.external_store_id == store) {
            let found = unclaimed
                .get(row.external_file_id.as_str())
                .or_else(|| by_store_id.get(row.store_file_id()))
                .copied();
            match found {
                Some(file) => {
                    unclaimed.remove(file.file_id.as_str());
                    if row.state != AttachmentState::Detaching && differs(row, file) {
                        corrections.push((row, file));
                    }
                }
                None if has_left(row, look.begun_at, grace) => missing.push(row),
                None => {}
            }
        }
        let unknown = look
            .files
            .iter()
            .filter(|file| unclaimed.contains_key(file.file_id.as_str()))
            .collect();
        Self {
            corrections,
            missing,
            unknown,
        }
    }

    /// Writes the states of files into their rows.
    pub(crate) async fn write(&self, db: &mut MySqlConnection) -> Result<(), Halt> {
        for (row, file) in &self.corrections {
            let strategy = reported(file);
            attachments::correct(
                db,
                row.id,
                &observation(row.chunking_strategy, file, strategy.as_ref()),
            )
            .await?;
        }
        for row in &self.missing {
            attachments::delete_gone(db, row.id).await?;
        }
        Ok(())
    }
}

/// What the provider calls indexed, or on its way, was there once. What waits to be attached, or failed to be, was not.
fn has_left(row: &Attachment, begun_at: DateTime<Utc>, grace: Duration) -> bool {
    match row.state {
        AttachmentState::Completed => true,
        AttachmentState::InProgress => {
            let age = begun_at - row.attached_at.unwrap_or(row.created_at);
            age.to_std().is_ok_and(|age| age > grace)
        }
        _ => false,
    }
}

fn differs(row: &Attachment, file: &SeenFile) -> bool {
    let strategy = reported(file);
    row.state != file.state
        || (strategy.is_some() && row.reported_strategy != strategy)
        || row.usage_bytes != Some(file.usage_bytes)
        || row.error_code.as_deref() != file.last_error.as_ref().map(|error| error.code.as_str())
        || row.last_error.as_deref() != file.last_error.as_ref().map(|error| error.message.as_str())
        || file.other_store_id().is_some_and(|id| id != row.store_file_id())
}

/// The strategy in effect, as rows hold it.
pub(crate) fn reported(file: &SeenFile) -> Option<Value> {
    file.strategy.as_ref().map(ReportedStrategy::to_value)
}

/// What rows keep of a file in a store; `asked` is the strategy that it was to be attached with.
pub(crate) fn observation<'a>(
    asked: Option<ChunkingStrategy>,
    file: &'a SeenFile,
    reported: Option<&'a Value>,
) -> Observation<'a> {
    // What `auto` came to can't be compared.
    let asked = asked.filter(|asked| *asked != ChunkingStrategy::AUTO);
    let applied = asked
        .zip(file.strategy.as_ref())
        .map(|(asked, reported)| *reported == asked);
    let error = file.last_error.as_ref();
    Observation {
        state: file.state,
        external_store_file_id: file.other_store_id(),
        reported_strategy: reported,
        strategy_applied: applied,
        usage_bytes: Some(file.usage_bytes),
        error_code: error.map(|error| error.code.as_str()),
        last_error: error.map(|error| error.message.as_str()),
    }
}

/// Writes status and payload of the index, as far as they differ, and the report. The caller holds the index's lock and
/// has written the states of the files.
pub(crate) async fn settle_index(
    db: &mut MySqlConnection,
    index: &Index,
    look: &Look,
    difference: &Difference<'_>,
) -> Result<Report, Halt> {
    let counts = look.counts();
    // A store without files says nothing of the index, except that nothing is on its way.
    let status = match counts.aggregate() {
        Some(status) => status,
        None if index.indexing_status == IndexingStatus::InProgress => IndexingStatus::Done,
        None => index.indexing_status,
    };
    let expired = look.has_expired();
    let status = if expired { index.indexing_status } else { status };
    if !expired && (counts.total() > 0 || status != index.indexing_status) {
        let error = if status == IndexingStatus::Failed {
            Some(failures(db, index, look).await?)
        } else {
            None
        };
        let indexed_at = attempt_began(index, look, status);
        let same = status == index.indexing_status && error == index.last_error && indexed_at.is_none();
        if !same {
            indexes::mark_seen(db, index.id, status, error.as_deref(), indexed_at).await?;
        }
    }
    if let Some(metadata) = with_payload(index.metadata.as_ref(), &look.store.raw) {
        let changes = IndexChanges {
            metadata: Some(Some(metadata)),
            ..IndexChanges::default()
        };
        indexes::update(db, &index.domain_id, index.id, &changes).await?;
    }
    indexes::set_store_expired(db, index.id, &look.store.id, expired).await?;
    let report = Report {
        external_id: look.store.id.clone(),
        store_status: Some(look.store.status.to_string()),
        file_counts: counts,
        indexing_status_before: index.indexing_status,
        indexing_status: status,
        files_changed: difference
            .corrections
            .iter()
            .filter(|(row, file)| row.state != file.state)
            .count() as u64,
        files_missing: difference.missing.len() as u64,
        files_unknown: difference.unknown.len() as u64,
        gone: false,
        detached: false,
    };
    looks::record(db, index.id, &report).await?;
    Ok(report)
}

/// Start of the last indexing attempt, where a look tells more of it than we know: of an index that we never built, or whose
/// files somebody has the provider index again.
fn attempt_began(index: &Index, look: &Look, status: IndexingStatus) -> Option<DateTime<Utc>> {
    let again = status == IndexingStatus::InProgress && index.indexing_status != IndexingStatus::InProgress;
    if index.indexed_at.is_some() && !again {
        return None;
    }
    let latest = look.files.iter().filter_map(|file| file.created_at).max();
    Some(latest.or(look.store.created_at).unwrap_or(look.begun_at))
}

async fn failures(db: &mut MySqlConnection, index: &Index, look: &Look) -> Result<String, Halt> {
    let rows = attachments::list(db, index.id).await?;
    let members = composition::list(db, &index.domain_id, index.id).await?;
    let name = |file: &SeenFile| {
        let row = rows.iter().find(|row| row.external_file_id == file.file_id);
        let member = row.and_then(|row| {
            members
                .iter()
                .find(|member| member.desired.file_id == row.local_file_id)
        });
        member.map_or_else(|| file.file_id.clone(), |member| member.file_name.clone())
    };
    let failed: Vec<&SeenFile> = look
        .files
        .iter()
        .filter(|file| matches!(file.state, AttachmentState::Failed | AttachmentState::Cancelled))
        .collect();
    let mut texts: Vec<String> = failed
        .iter()
        .take(NAMED_FAILURES)
        .map(|file| match &file.last_error {
            Some(error) => format!("{}: {} ({})", name(file), error.message, error.code),
            None => format!("{}: {}", name(file), file.state),
        })
        .collect();
    if failed.len() > NAMED_FAILURES {
        texts.push(format!("and {} more", failed.len() - NAMED_FAILURES));
    }
    Ok(format!(
        "{} of {} files failed: {}",
        failed.len(),
        look.files.len(),
        texts.join("; ")
    ))
}

/// The caller's own metadata with the provider's description of the store beside it. `None`: it is there already.
pub(crate) fn with_payload(metadata: Option<&Value>, payload: &Value) -> Option<Value> {
    let mut own = match metadata {
        Some(Value::Object(own)) => own.clone(),
        _ => Map::new(),
    };
    let older = own.insert(PAYLOAD.to_owned(), payload.clone());
    (older.as_ref() != Some(payload)).then_some(Value::Object(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_payload_stands_beside_the_callers_own_keys() {
        let payload = json!({"id": "vs_1"});
        let own = json!({"team": "ops"});
        let both = json!({"team": "ops", PAYLOAD: {"id": "vs_1"}});
        assert_eq!(with_payload(Some(&own), &payload), Some(both.clone()));
        assert_eq!(with_payload(Some(&both), &payload), None, "nothing new");
        assert_eq!(
            with_payload(None, &payload),
            Some(json!({PAYLOAD: {"id": "vs_1"}}))
        );
    }
}
