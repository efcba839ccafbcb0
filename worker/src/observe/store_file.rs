//! A file in a store as it was seen, and what rows keep of it.

use chrono::{DateTime, Utc};
use rag_db::attachments::{self, Attachment, Observation};
use rag_domain::{
    AttachedFile, AttachedRow, AttachmentState, ChunkingProof, ChunkingStrategy, FileReport, ListedFile,
};
use rag_providers::{LastError, ReportedStrategy, StoreFileStatus, VectorStoreFile};
use serde_json::Value;
use sqlx::MySqlConnection;

use crate::step_error::StepError;

/// A file in a store, without the provider's JSON: a store may have ten thousand of them.
#[derive(Debug, Clone)]
pub(crate) struct SeenFile {
    /// In the Files API.
    pub(crate) file_id: String,
    /// Within the store; often the same.
    pub(crate) store_file_id: String,
    pub(crate) state: AttachmentState,
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) usage_bytes: u64,
    pub(crate) strategy: Option<ReportedStrategy>,
    pub(crate) last_error: Option<LastError>,
}

impl From<VectorStoreFile> for SeenFile {
    fn from(file: VectorStoreFile) -> Self {
        Self {
            file_id: file.file_id().to_owned(),
            state: state(&file.status),
            store_file_id: file.id,
            created_at: file.created_at,
            usage_bytes: file.usage_bytes,
            strategy: file.chunking_strategy,
            last_error: file.last_error,
        }
    }
}

/// A status that we do not know is no end: a deadline decides.
fn state(status: &StoreFileStatus) -> AttachmentState {
    match status {
        StoreFileStatus::Completed => AttachmentState::Completed,
        StoreFileStatus::Failed => AttachmentState::Failed,
        StoreFileStatus::Cancelled => AttachmentState::Cancelled,
        StoreFileStatus::InProgress | StoreFileStatus::Other(_) => AttachmentState::InProgress,
    }
}

impl SeenFile {
    /// What the store calls the file, if it is not what the Files API calls it.
    pub(crate) fn other_store_id(&self) -> Option<&str> {
        (self.store_file_id != self.file_id).then_some(self.store_file_id.as_str())
    }

    /// The strategy in effect, as rows hold it.
    pub(crate) fn reported(&self) -> Option<Value> {
        self.strategy.as_ref().map(ReportedStrategy::to_value)
    }

    /// For comparisons.
    pub(crate) fn listed(&self) -> ListedFile<'_> {
        let error = self.last_error.as_ref();
        ListedFile {
            file_id: &self.file_id,
            store_file_id: &self.store_file_id,
            report: FileReport {
                state: self.state,
                strategy: self.reported(),
                usage_bytes: Some(self.usage_bytes),
                error_code: error.map(|error| error.code.as_str()),
                last_error: error.map(|error| error.message.as_str()),
            },
        }
    }

    /// What rows keep. `asked`: the strategy that it was to be attached with; `reported`: [`Self::reported`].
    pub(crate) fn observation<'a>(
        &'a self,
        asked: Option<ChunkingStrategy>,
        reported: Option<&'a Value>,
    ) -> Observation<'a> {
        let error = self.last_error.as_ref();
        Observation {
            state: self.state,
            external_store_file_id: self.other_store_id(),
            reported_strategy: reported,
            strategy_applied: ChunkingProof::of(asked, reported, None).matches(),
            usage_bytes: Some(self.usage_bytes),
            error_code: error.map(|error| error.code.as_str()),
            last_error: error.map(|error| error.message.as_str()),
        }
    }
}

/// A row, for comparisons.
pub(crate) fn attached(row: &Attachment) -> AttachedRow<'_> {
    AttachedRow {
        file: AttachedFile::from(row),
        report: FileReport {
            state: row.state,
            strategy: row.reported_strategy.clone(),
            usage_bytes: row.usage_bytes,
            error_code: row.error_code.as_deref(),
            last_error: row.last_error.as_deref(),
        },
        is_missed: row.missed_at.is_some(),
    }
}

/// Copies what was seen of these files into their rows.
pub(crate) async fn write_seen(
    db: &mut MySqlConnection,
    files: &[(&Attachment, &SeenFile)],
) -> Result<(), StepError> {
    let strategies: Vec<Option<Value>> = files.iter().map(|(_, file)| file.reported()).collect();
    let seen: Vec<_> = files
        .iter()
        .zip(&strategies)
        .map(|((row, file), reported)| {
            // A file that only our own rows call otherwise is known by what they call it.
            let mut seen = file.observation(row.chunking_strategy, reported.as_ref());
            seen.external_store_file_id =
                (file.store_file_id != row.external_file_id).then_some(file.store_file_id.as_str());
            (row.id, seen)
        })
        .collect();
    Ok(attachments::observe_many(db, &seen).await?)
}
