//! What a search for orphans answers: counts of everything, and the first findings one by one.

use chrono::{DateTime, Utc};
use rag_jobs::OrphanMode;
use serde::Serialize;

use super::listed::Listed;

/// Findings in the report; their numbers count all.
const NAMED: usize = 1000;

/// What a search found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    mode: &'static str,
    stores: Counts,
    files: Counts,
    /// What was found, as far as it fits; the counts are complete.
    items: Vec<Item>,
    items_total: usize,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    /// At the provider.
    listed: usize,
    /// That rows of ours reference.
    referenced: usize,
    /// That we made, and that no row references, for so long that it is no work in flight.
    orphans: usize,
    /// Orphans of too little age.
    young: usize,
    /// Orphans that wait to be deleted already.
    waiting: usize,
    /// Stores that carry a tag like ours, and files like an upload that was never answered, of which nothing proves that they
    /// are ours: another installation's, or of before a backup. Deleted only if an admin confirms them.
    unproven: usize,
    /// Orphans that were deleted, or will be.
    deleted: usize,
}

#[derive(Debug, Serialize)]
struct Item {
    kind: &'static str,
    id: String,
    name: Option<String>,
    created_at: Option<DateTime<Utc>>,
    /// made: we know its id; tag: it carries a tag that we gave out; bytes: the account is exclusively ours, and it has the
    /// bytes of an upload whose answer was lost; confirmed: an admin says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'static str>,
    /// orphan | young | unproven | deleted
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    /// Uploads whose copy it may be: same name, same size, and a time that fits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    may_be_of: Vec<UnconfirmedUpload>,
}

/// An upload that was never answered.
#[derive(Debug, Serialize)]
pub(super) struct UnconfirmedUpload {
    pub(super) file_id: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) begun_at: DateTime<Utc>,
}

/// What is to be said of a store or file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Referenced,
    Waiting,
    Young,
    Unproven,
    Orphan,
}

/// A judged store or file.
#[derive(Debug)]
pub(super) struct Found {
    verdict: Verdict,
    /// Of everything but what is unproven.
    proof: &'static str,
    deleted: bool,
    may_be_of: Vec<UnconfirmedUpload>,
}

impl Found {
    pub(super) fn new(verdict: Verdict, proof: &'static str, deleted: bool) -> Self {
        Self {
            verdict,
            proof,
            deleted,
            may_be_of: Vec::new(),
        }
    }

    /// It may be the copy of one of these uploads.
    pub(super) fn of(self, may_be_of: Vec<UnconfirmedUpload>) -> Self {
        Self { may_be_of, ..self }
    }
}

impl Report {
    pub(super) fn new(mode: OrphanMode) -> Self {
        Self {
            mode: match mode {
                OrphanMode::Report => "report",
                OrphanMode::Delete => "delete",
            },
            stores: Counts::default(),
            files: Counts::default(),
            items: Vec::new(),
            items_total: 0,
        }
    }

    fn counts(&mut self, kind: &str) -> &mut Counts {
        match kind {
            "file" => &mut self.files,
            _ => &mut self.stores,
        }
    }

    /// The provider has so many of them.
    pub(super) fn listed(&mut self, kind: &'static str, number: usize) {
        self.counts(kind).listed = number;
    }

    /// Counts it, and names it if it is a finding and there is room.
    pub(super) fn note(&mut self, kind: &'static str, listed: &Listed, found: Found) {
        let counts = self.counts(kind);
        let word = match found.verdict {
            Verdict::Referenced => {
                counts.referenced += 1;
                return;
            }
            Verdict::Waiting => {
                counts.waiting += 1;
                return;
            }
            Verdict::Young => {
                counts.young += 1;
                "young"
            }
            Verdict::Unproven => {
                counts.unproven += 1;
                "unproven"
            }
            Verdict::Orphan => {
                counts.orphans += 1;
                counts.deleted += usize::from(found.deleted);
                if found.deleted { "deleted" } else { "orphan" }
            }
        };
        self.items_total += 1;
        if self.items.len() < NAMED {
            self.items.push(Item {
                kind,
                id: listed.id.clone(),
                name: Some(listed.name.clone()).filter(|name| !name.is_empty()),
                created_at: listed.created_at,
                proof: (found.verdict != Verdict::Unproven).then_some(found.proof),
                verdict: word,
                size_bytes: (kind == "file").then_some(listed.size_bytes),
                may_be_of: found.may_be_of,
            });
        }
    }
}
