//! What an index is to hold, what is attached to its store, and the difference: read from rows, and indexed for who asks often.

use std::collections::{HashMap, HashSet};

use rag_db::attachments::Attachment;
use rag_db::builds::Progress;
use rag_db::composition::Member;
use rag_domain::{AttachmentId, BuildPlan, FileId, PresentFile};

/// What is wanted, what is there, and the difference.
#[derive(Debug)]
pub(super) struct BuildSnapshot {
    pub(super) members: Vec<Member>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) plan: BuildPlan,
    by_file: HashMap<FileId, usize>,
    to_upload: HashSet<FileId>,
    kept: HashSet<AttachmentId>,
}

impl BuildSnapshot {
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

    pub(super) fn member(&self, id: FileId) -> Option<&Member> {
        self.by_file.get(&id).and_then(|at| self.members.get(*at))
    }

    /// Is attached to the store as wanted.
    pub(super) fn is_kept(&self, row: &Attachment) -> bool {
        self.kept.contains(&row.id)
    }

    /// The file's copy at the provider, if it is the current one.
    pub(super) fn current_copy(&self, id: FileId) -> Option<&str> {
        if self.to_upload.contains(&id) {
            return None;
        }
        let upload = self.member(id)?.desired.upload.as_ref()?;
        upload.external_file_id.as_deref()
    }

    pub(super) fn progress(&self) -> Progress {
        let plan = &self.plan;
        let size = |member: &Member| member.desired.size_bytes;
        let waiting: u64 = plan
            .upload
            .iter()
            .filter_map(|id| self.member(*id))
            .map(size)
            .sum();
        let bytes_total: u64 = self.members.iter().map(size).sum();
        let files_total = count(self.members.len());
        let accepted = self
            .attachments
            .iter()
            .filter(|row| self.is_kept(row) && row.attached_at.is_some());
        Progress {
            files_total,
            files_uploaded: files_total - count(plan.upload.len() + plan.upload_failed.len()),
            files_attached: count(accepted.count()),
            files_completed: count(plan.counts.completed),
            files_failed: count(plan.counts.failed + plan.counts.cancelled),
            bytes_total,
            bytes_uploaded: bytes_total - waiting,
        }
    }
}

fn count(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rag_domain::DesiredFile;

    use super::*;

    fn member() -> Member {
        Member {
            desired: DesiredFile {
                file_id: FileId::new(),
                file_name: "a.md".to_owned(),
                content_sha256: "a".to_owned(),
                size_bytes: 2,
                strategy: None,
                upload: None,
            },
            file_name: "a.md".to_owned(),
            file_type: "text/markdown".to_owned(),
            local_path: "d/a".to_owned(),
            external_file_id: None,
            upload_error: None,
            upload_error_code: None,
        }
    }

    /// Progress is computed again and again while ten thousand files go up.
    #[test]
    fn what_it_costs_grows_with_the_files_and_not_with_their_square() {
        let members: Vec<_> = (0..20_000).map(|_| member()).collect();
        let ids: Vec<_> = members.iter().map(|member| member.desired.file_id).collect();
        let began = Instant::now();
        let snapshot = BuildSnapshot::new(members, Vec::new());
        let progress = snapshot.progress();
        assert_eq!((progress.files_total, progress.bytes_total), (20_000, 40_000));
        assert_eq!((progress.files_uploaded, progress.bytes_uploaded), (0, 0));
        assert!(ids.iter().all(|id| snapshot.current_copy(*id).is_none()));
        assert!(ids.iter().all(|id| snapshot.member(*id).is_some()));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
