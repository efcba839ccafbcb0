//! What rows claim of a store, held against what its listing shows, page by page.
//!
//! Pure and for everybody who lists a store: a build that waits, its verification, a sync. Memory grows with the rows, not
//! with what the store holds beside them.

use std::collections::HashMap;

use crate::{AttachmentId, AttachmentState};

/// What one row says of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedFile {
    pub attachment: AttachmentId,
    /// In the Files API.
    pub file_id: String,
    /// Within the store; often the same.
    pub store_file_id: String,
    pub state: AttachmentState,
}

/// Rows, and which of them were met.
#[derive(Debug)]
pub struct StoreDiff {
    claims: Vec<AttachedFile>,
    met: Vec<bool>,
    by_id: HashMap<String, usize>,
    others: usize,
}

impl StoreDiff {
    pub fn new(claims: impl IntoIterator<Item = AttachedFile>) -> Self {
        let claims: Vec<AttachedFile> = claims.into_iter().collect();
        let mut by_id = HashMap::with_capacity(claims.len());
        for (position, claim) in claims.iter().enumerate() {
            by_id.insert(claim.store_file_id.clone(), position);
            by_id.insert(claim.file_id.clone(), position);
        }
        Self {
            met: vec![false; claims.len()],
            claims,
            by_id,
            others: 0,
        }
    }

    /// A file of the listing, by both of its ids. Answers the row that claims it, or `None`: no row does.
    pub fn meet(&mut self, file_id: &str, store_file_id: &str) -> Option<AttachmentId> {
        let position = self
            .by_id
            .get(file_id)
            .or_else(|| self.by_id.get(store_file_id))
            .copied();
        let Some((position, claim)) =
            position.and_then(|position| Some((position, self.claims.get(position)?)))
        else {
            self.others += 1;
            return None;
        };
        if let Some(met) = self.met.get_mut(position) {
            *met = true;
        }
        Some(claim.attachment)
    }

    /// How many files of the listing no row claims.
    pub const fn others(&self) -> usize {
        self.others
    }

    /// How many files of the listing rows claim.
    pub fn met(&self) -> usize {
        self.met.iter().filter(|met| **met).count()
    }

    /// Rows of files that should have been in the listing, once all of it was met.
    pub fn missing(&self) -> Vec<AttachmentId> {
        let claims = self.claims.iter().zip(&self.met);
        claims
            .filter(|(claim, met)| !**met && claim.state.claims_presence())
            .map(|(claim, _)| claim.attachment)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(name: &str, state: AttachmentState) -> AttachedFile {
        AttachedFile {
            attachment: AttachmentId::new(),
            file_id: format!("file-{name}"),
            store_file_id: format!("vsf-{name}"),
            state,
        }
    }

    #[test]
    fn either_id_is_enough_and_what_was_refused_is_not_missed() {
        let rows = [
            claim("a", AttachmentState::Completed),
            claim("b", AttachmentState::InProgress),
            claim("c", AttachmentState::Failed),
            claim("d", AttachmentState::Pending),
        ];
        let mut diff = StoreDiff::new(rows.clone());
        assert_eq!(diff.meet("file-a", "other"), Some(rows[0].attachment));
        assert_eq!(diff.meet("stranger", "stranger"), None);
        assert_eq!(diff.missing(), [rows[1].attachment]);
        assert_eq!(diff.meet("other", "vsf-b"), Some(rows[1].attachment));
        assert_eq!((diff.missing().len(), diff.met(), diff.others()), (0, 2, 1));
    }

    proptest! {
        #[test]
        fn every_claimed_file_is_met_or_missing(there in prop::collection::vec(any::<bool>(), 0..40), strangers in 0_usize..5) {
            let rows: Vec<_> = (0..there.len()).map(|n| claim(&n.to_string(), AttachmentState::Completed)).collect();
            let mut diff = StoreDiff::new(rows.clone());
            for (row, _) in rows.iter().zip(&there).filter(|(_, there)| **there) {
                prop_assert_eq!(diff.meet(&row.file_id, &row.file_id), Some(row.attachment));
            }
            for n in 0..strangers {
                prop_assert_eq!(diff.meet(&format!("s{n}"), &format!("s{n}")), None);
            }
            let absent: Vec<_> = rows.iter().zip(&there).filter(|(_, there)| !**there).map(|(row, _)| row.attachment).collect();
            prop_assert_eq!(diff.missing(), absent);
            prop_assert_eq!(diff.others(), strangers);
        }
    }
}
