//! What a build has to do: the difference between the wanted composition and what is attached to the store.
//!
//! One pure function serves the build (which recomputes it at every step, so that a crash or a changed composition
//! needs no special case), the end of a build (nothing left to do?) and the dry run.

use std::collections::HashMap;

use crate::{AttachmentId, AttachmentState, ChunkingStrategy, FileCounts, FileId, UploadStatus};

/// A file that belongs in the index, as `rag_index_files` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredFile {
    pub file_id: FileId,
    /// Part of what a copy is: providers go by its extension.
    pub file_name: String,
    /// Of the bytes that we hold now: 64 hex digits.
    pub content_sha256: String,
    pub size_bytes: u64,
    /// The effective strategy; `None` leaves it to the provider.
    pub strategy: Option<ChunkingStrategy>,
    /// Its copy at the provider, if there ever was one.
    pub upload: Option<UploadedFile>,
}

/// The row of `rag_provider_file_uploads` of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedFile {
    pub status: UploadStatus,
    /// Of the bytes that were (or failed to be) uploaded.
    pub content_sha256: String,
    /// As it was sent, whatever the provider made of it; `None`: not known, and taken for the right one.
    pub file_name: Option<String>,
    pub external_file_id: Option<String>,
}

impl UploadedFile {
    /// Whether the copy was sent under this name.
    pub fn is_named(&self, file_name: &str) -> bool {
        self.file_name.as_deref().is_none_or(|own| own == file_name)
    }
}

/// A row of `rag_index_attachments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentFile {
    pub attachment_id: AttachmentId,
    pub file_id: FileId,
    pub external_file_id: String,
    pub content_sha256: String,
    pub strategy: Option<ChunkingStrategy>,
    pub state: AttachmentState,
}

/// Why a file leaves the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DetachReason {
    /// No longer part of the index.
    Unlinked,
    /// Its bytes changed; the new version takes its place.
    ContentChanged,
    /// It has another name; the copy under the new one takes its place.
    Renamed,
    /// It is to be chunked otherwise.
    StrategyChanged,
    /// Uploaded anew on request.
    UploadedAgain,
}

/// What is left to do, in the order of the composition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildPlan {
    /// Files without a current copy at the provider.
    pub upload: Vec<FileId>,
    /// Files that are not attached to the store, or not as wanted; those in `upload` are among them.
    pub attach: Vec<FileId>,
    /// What is to be detached. A changed file's old version leaves after the new one is in.
    pub detach: Vec<(AttachmentId, DetachReason)>,
    /// Old versions that stay in place because their replacement failed: an old answer is better than none.
    pub held: Vec<AttachmentId>,
    /// Files that are attached to the store as wanted, whatever their state.
    pub keep: Vec<AttachmentId>,
    /// Files whose upload failed for good; a build gives earlier failures another try before it plans.
    pub upload_failed: Vec<FileId>,
    /// The states of all desired files: what the index's status follows from.
    pub counts: FileCounts,
}

impl BuildPlan {
    /// Compares what is wanted with what is there. A row that is already `detaching` counts as gone.
    pub fn new(desired: &[DesiredFile], present: &[PresentFile]) -> Self {
        let mut rows: HashMap<FileId, Vec<&PresentFile>> = HashMap::new();
        for row in present
            .iter()
            .filter(|row| row.state != AttachmentState::Detaching)
        {
            rows.entry(row.file_id).or_default().push(row);
        }
        let mut plan = Self::default();
        for file in desired {
            plan.add(file, &rows.remove(&file.file_id).unwrap_or_default());
        }
        let mut unlinked: Vec<_> = rows
            .into_values()
            .flatten()
            .map(|row| row.attachment_id)
            .collect();
        unlinked.sort_unstable();
        plan.detach
            .extend(unlinked.into_iter().map(|id| (id, DetachReason::Unlinked)));
        plan
    }

    /// Nothing to upload, attach or detach.
    pub fn is_complete(&self) -> bool {
        self.upload.is_empty() && self.attach.is_empty() && self.detach.is_empty()
    }

    fn add(&mut self, file: &DesiredFile, rows: &[&PresentFile]) {
        let copy = CopyState::of(file);
        let as_wanted = rows
            .iter()
            .find(|row| file.is_met_by(row))
            .filter(|_| copy == CopyState::Current);
        match (copy, as_wanted) {
            (CopyState::Failed, _) => {
                self.upload_failed.push(file.file_id);
                self.counts.failed += 1;
            }
            (CopyState::Missing, _) => {
                self.upload.push(file.file_id);
                self.attach.push(file.file_id);
                self.counts.in_progress += 1;
            }
            (CopyState::Current, None) => {
                self.attach.push(file.file_id);
                self.counts.in_progress += 1;
            }
            (CopyState::Current, Some(row)) => {
                self.keep.push(row.attachment_id);
                match row.state {
                    AttachmentState::Completed => self.counts.completed += 1,
                    AttachmentState::Failed => self.counts.failed += 1,
                    AttachmentState::Cancelled => self.counts.cancelled += 1,
                    _ => self.counts.in_progress += 1,
                }
            }
        }
        let replacement_failed = copy == CopyState::Failed
            || as_wanted
                .is_some_and(|row| matches!(row.state, AttachmentState::Failed | AttachmentState::Cancelled));
        for row in rows
            .iter()
            .filter(|row| as_wanted.is_none_or(|kept| kept.attachment_id != row.attachment_id))
        {
            if replacement_failed {
                self.held.push(row.attachment_id);
            } else {
                self.detach.push((row.attachment_id, file.reason_against(row)));
            }
        }
    }
}

/// The copy of a file at the provider, against the bytes that we hold now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CopyState {
    Current,
    Missing,
    Failed,
}

impl CopyState {
    fn of(file: &DesiredFile) -> Self {
        match &file.upload {
            Some(upload)
                if upload.content_sha256 == file.content_sha256 && upload.is_named(&file.file_name) =>
            {
                match upload.status {
                    UploadStatus::Uploaded if upload.external_file_id.is_some() => Self::Current,
                    UploadStatus::Failed => Self::Failed,
                    _ => Self::Missing,
                }
            }
            _ => Self::Missing,
        }
    }
}

impl DesiredFile {
    fn is_met_by(&self, row: &PresentFile) -> bool {
        row.content_sha256 == self.content_sha256
            && row.strategy == self.strategy
            && self
                .upload
                .as_ref()
                .and_then(|upload| upload.external_file_id.as_deref())
                == Some(row.external_file_id.as_str())
    }

    fn reason_against(&self, row: &PresentFile) -> DetachReason {
        if row.content_sha256 != self.content_sha256 {
            DetachReason::ContentChanged
        } else if self
            .upload
            .as_ref()
            .is_some_and(|upload| !upload.is_named(&self.file_name))
        {
            DetachReason::Renamed
        } else if row.strategy != self.strategy {
            DetachReason::StrategyChanged
        } else {
            DetachReason::UploadedAgain
        }
    }
}

#[cfg(test)]
mod tests;
