//! What an index is to hold, what is attached to its store, and the difference: read from rows page by page, so that no build
//! has all of its files in memory.

use std::collections::{HashMap, HashSet};

use rag_db::attachments::{self, Attachment};
use rag_db::builds::Progress;
use rag_db::composition::{self, Member, Position};
use rag_domain::{AttachmentId, AttachmentState, BuildPlan, DomainId, FileId, IndexId, PresentFile};
use sqlx::MySqlConnection;

use crate::step_error::StepError;

/// Files, or rows of attachments, of a page. Pages of 500 had the allocator keep 12 MiB more, and were hardly faster.
pub(super) const PAGE: u32 = 256;

/// What is wanted, what is there, and the difference, of some files.
#[derive(Debug)]
pub(super) struct BuildSnapshot {
    pub(super) members: Vec<Member>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) plan: BuildPlan,
    by_file: HashMap<FileId, usize>,
    pub(super) to_upload: HashSet<FileId>,
    kept: HashSet<AttachmentId>,
}

impl BuildSnapshot {
    /// Of all that there is of these files: other attachments are taken for those of files that do not belong in the index.
    pub(super) fn new(members: Vec<Member>, attachments: Vec<Attachment>) -> Self {
        let desired: Vec<_> = members.iter().map(|member| member.desired.clone()).collect();
        let present: Vec<_> = attachments.iter().map(PresentFile::from).collect();
        let plan = BuildPlan::new(&desired, &present);
        let ids = members.iter().map(|member| member.desired.file_id);
        Self {
            by_file: ids.enumerate().map(|(at, id)| (id, at)).collect(),
            to_upload: plan.upload.iter().copied().collect(),
            kept: plan.keep.iter().copied().collect(),
            members,
            attachments,
            plan,
        }
    }

    /// Of these files alone.
    pub(super) async fn of_files(
        db: &mut MySqlConnection,
        domain: &DomainId,
        index: IndexId,
        files: &[FileId],
    ) -> Result<Self, StepError> {
        let members = composition::list_some(db, domain, index, files).await?;
        let attachments = attachments::list_of_files(db, index, files).await?;
        Ok(Self::new(members, attachments))
    }

    pub(super) fn member(&self, id: FileId) -> Option<&Member> {
        self.by_file.get(&id).and_then(|at| self.members.get(*at))
    }

    /// Is attached to the store as wanted.
    pub(super) fn is_kept(&self, row: &Attachment) -> bool {
        self.kept.contains(&row.id)
    }

    /// Attachments that do not belong in the store, or are on their way out.
    pub(super) fn leaving(&self) -> Vec<&Attachment> {
        let leaving: HashSet<AttachmentId> = self.plan.detach.iter().map(|(id, _)| *id).collect();
        let leaves = |row: &&Attachment| row.state == AttachmentState::Detaching || leaving.contains(&row.id);
        self.attachments.iter().filter(leaves).collect()
    }

    /// The file's copy at the provider, if it is the current one.
    pub(super) fn current_copy(&self, id: FileId) -> Option<&str> {
        if self.to_upload.contains(&id) {
            return None;
        }
        let upload = self.member(id)?.desired.upload.as_ref()?;
        upload.external_file_id.as_deref()
    }

    /// Adds how far these files have come.
    pub(super) fn add_to(&self, progress: &mut Progress) {
        let plan = &self.plan;
        let size = |member: &Member| member.desired.size_bytes;
        let waiting: u64 = plan
            .upload
            .iter()
            .filter_map(|id| self.member(*id))
            .map(size)
            .sum();
        let bytes: u64 = self.members.iter().map(size).sum();
        let files = count(self.members.len());
        let accepted = self
            .attachments
            .iter()
            .filter(|row| self.is_kept(row) && row.attached_at.is_some());
        progress.files_total += files;
        progress.files_uploaded += files - count(plan.upload.len() + plan.upload_failed.len());
        progress.files_attached += count(accepted.count());
        progress.files_completed += count(plan.counts.completed);
        progress.files_failed += count(plan.counts.failed + plan.counts.cancelled);
        progress.bytes_total += bytes;
        progress.bytes_uploaded += bytes - waiting;
    }
}

fn count(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// All files of an index: those of its composition in its order, then what is attached without belonging there.
#[derive(Debug)]
pub(super) struct Pages {
    domain: DomainId,
    index: IndexId,
    state: PagesState,
}

#[derive(Debug, Clone, Copy)]
enum PagesState {
    Linked(Option<Position>),
    Unlinked(Option<AttachmentId>),
    Ended,
}

impl Pages {
    pub(super) fn new(domain: &DomainId, index: IndexId) -> Self {
        Self {
            domain: domain.clone(),
            index,
            state: PagesState::Linked(None),
        }
    }

    /// `None`: that was all.
    pub(super) async fn next(
        &mut self,
        db: &mut MySqlConnection,
    ) -> Result<Option<BuildSnapshot>, StepError> {
        if let PagesState::Linked(after) = self.state {
            let (members, next) = composition::list_page(db, &self.domain, self.index, after, PAGE).await?;
            self.state = next.map_or(PagesState::Unlinked(None), |next| PagesState::Linked(Some(next)));
            if !members.is_empty() {
                let files: Vec<FileId> = members.iter().map(|member| member.desired.file_id).collect();
                let attachments = attachments::list_of_files(db, self.index, &files).await?;
                return Ok(Some(BuildSnapshot::new(members, attachments)));
            }
        }
        if let PagesState::Unlinked(after) = self.state {
            let rows = attachments::list_unlinked(db, &self.domain, self.index, after, PAGE).await?;
            let last = rows.last().filter(|_| rows.len() >= PAGE as usize);
            self.state = last.map_or(PagesState::Ended, |row| PagesState::Unlinked(Some(row.id)));
            if !rows.is_empty() {
                return Ok(Some(BuildSnapshot::new(Vec::new(), rows)));
            }
        }
        Ok(None)
    }
}
