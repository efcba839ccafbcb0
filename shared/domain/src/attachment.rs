//! Where a file stands inside a vector store, as far as we know.

use crate::status::status;

status! {
    /// `rag_index_attachments.state`.
    AttachmentState ("attachment state") {
        /// Uploaded and wanted in the store; nothing was asked of the provider yet.
        Pending = "pending",
        /// The provider is being asked, or was asked and we did not hear the answer.
        Attaching = "attaching",
        /// The provider accepted it and indexes.
        InProgress = "in_progress",
        /// Searchable.
        Completed = "completed",
        /// The provider could not index it; `error_code` and `last_error` say why.
        Failed = "failed",
        /// Cancelled at the provider.
        Cancelled = "cancelled",
        /// No longer wanted; the row goes once the provider confirms that the file is out.
        Detaching = "detaching",
    }
}

impl AttachmentState {
    /// The states from which a move to `self` is legal: the `WHERE` of each transition.
    pub const fn predecessors(self) -> &'static [Self] {
        match self {
            // Asked for in vain; or taken out to go in again.
            Self::Pending => &[Self::Attaching, Self::Detaching],
            Self::Attaching => &[Self::Pending],
            Self::InProgress | Self::Completed | Self::Failed | Self::Cancelled => {
                &[Self::Attaching, Self::InProgress]
            }
            Self::Detaching => &[
                Self::Pending,
                Self::Attaching,
                Self::InProgress,
                Self::Completed,
                Self::Failed,
                Self::Cancelled,
                Self::Detaching,
            ],
        }
    }

    /// The states that a look at the provider may correct to `self` while no build is at work: somebody else attached the
    /// file, or attached it anew, or the provider changed its mind. What we are taking out stays so.
    pub const fn corrected_from(self) -> &'static [Self] {
        match self {
            Self::InProgress | Self::Completed | Self::Failed | Self::Cancelled => &[
                Self::Pending,
                Self::Attaching,
                Self::InProgress,
                Self::Completed,
                Self::Failed,
                Self::Cancelled,
            ],
            Self::Pending | Self::Attaching | Self::Detaching => &[],
        }
    }

    /// A file in such a state is in the store, or on its way in: a complete listing should show it.
    pub const fn claims_presence(self) -> bool {
        matches!(self, Self::InProgress | Self::Completed)
    }

    /// The states from which a file that is proven to have left the store (or never to have come in) goes back to
    /// [`Pending`](Self::Pending), to be attached again; or, outside of builds, to [`Failed`](Self::Failed).
    pub const fn lost_from() -> &'static [Self] {
        &[Self::Attaching, Self::InProgress, Self::Completed]
    }

    /// Nothing more will happen by itself.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_file_only_leaves_through_detaching() {
        for settled in AttachmentState::ALL.iter().filter(|state| state.is_settled()) {
            for next in AttachmentState::ALL
                .iter()
                .filter(|next| next.predecessors().contains(settled))
            {
                assert_eq!(*next, AttachmentState::Detaching);
            }
        }
    }
}
