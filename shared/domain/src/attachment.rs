//! The state of a file in a vector store, as far as we know it, and its legal moves.

use crate::Transition;
use crate::status::status;
use crate::transition::transitions;

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

transitions! {
    AttachmentState {
        /// The provider is about to be asked to attach it.
        ATTACH: Pending => Attaching,
        /// The provider accepted it, or reports that it indexes.
        ACCEPT: Attaching | InProgress => InProgress,
        /// The provider reports that it is indexed.
        COMPLETE: Attaching | InProgress => Completed,
        /// The provider reports that it failed.
        FAIL: Attaching | InProgress => Failed,
        /// The provider reports that it was cancelled.
        CANCEL: Attaching | InProgress => Cancelled,
        /// The build was cancelled, and the provider told to stop the batch.
        CANCEL_BATCH: InProgress => Cancelled,
        /// The request had no effect.
        RELEASE: Attaching | Detaching => Pending,
        /// It was taken out because it was not indexed in time, and is attached again.
        REATTACH: Detaching => Pending,
        /// It is proven not to be in the store, and a build attaches it again.
        LOSE: Attaching | InProgress | Completed => Pending,
        /// It is proven to have left the store while no build was at work.
        LEAVE: InProgress | Completed => Failed,
        /// The build ended before it asked for this file.
        GIVE_UP: Pending => Failed,
        /// The provider is about to be asked to detach it.
        DETACH: Pending | Attaching | InProgress | Completed | Failed | Cancelled | Detaching => Detaching,
        /// A build takes out what failed before, to attach it again.
        RETRY: Failed | Cancelled => Detaching,
        /// A sync finds it being indexed, whatever we knew.
        CORRECT_IN_PROGRESS: Pending | Attaching | InProgress | Completed | Failed | Cancelled => InProgress,
        /// A sync finds it indexed, whatever we knew.
        CORRECT_COMPLETED: Pending | Attaching | InProgress | Completed | Failed | Cancelled => Completed,
        /// A sync finds it failed, whatever we knew.
        CORRECT_FAILED: Pending | Attaching | InProgress | Completed | Failed | Cancelled => Failed,
        /// A sync finds it cancelled, whatever we knew.
        CORRECT_CANCELLED: Pending | Attaching | InProgress | Completed | Failed | Cancelled => Cancelled,
    }
}

impl AttachmentState {
    /// The states of a file that a complete listing of the store should show.
    pub const PRESENT: &'static [Self] = &[Self::InProgress, Self::Completed];

    /// The states in which a file occupies one of the provider's indexing operations.
    pub const INDEXING: &'static [Self] = &[Self::Attaching, Self::InProgress];

    /// The only state in which the row goes once the provider confirms that the file is out.
    pub const REMOVABLE: &'static [Self] = &[Self::Detaching];

    /// The move that a sync makes when it finds a file in this state while no build is at work; `None`: no provider
    /// reports it. What we are taking out stays so.
    pub const fn correction(self) -> Option<Transition<Self>> {
        match self {
            Self::InProgress => Some(Self::CORRECT_IN_PROGRESS),
            Self::Completed => Some(Self::CORRECT_COMPLETED),
            Self::Failed => Some(Self::CORRECT_FAILED),
            Self::Cancelled => Some(Self::CORRECT_CANCELLED),
            Self::Pending | Self::Attaching | Self::Detaching => None,
        }
    }

    /// A complete listing should show a file in this state.
    pub const fn claims_presence(self) -> bool {
        matches!(self, Self::InProgress | Self::Completed)
    }

    /// Nothing more will happen by itself.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rag_db::attachments::observe_many` moves all of them in one statement.
    #[test]
    fn whatever_a_provider_reports_is_legal_from_the_same_states() {
        for reported in [
            AttachmentState::COMPLETE,
            AttachmentState::FAIL,
            AttachmentState::CANCEL,
        ] {
            assert_eq!(reported.from, AttachmentState::ACCEPT.from);
        }
    }

    #[test]
    fn present_states_claim_presence() {
        for state in AttachmentState::ALL {
            assert_eq!(AttachmentState::PRESENT.contains(state), state.claims_presence());
        }
    }
}
