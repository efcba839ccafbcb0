//! The steps of a build, in their order, as `rag_index_builds.step` holds them.

/// Where a build stands; the text is what `rag_index_builds.step` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    EnsureVectorStore,
    UploadFiles,
    AttachFiles,
    AwaitIndexing,
    DetachFiles,
    Verify,
    Finish,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::EnsureVectorStore,
        Self::UploadFiles,
        Self::AttachFiles,
        Self::AwaitIndexing,
        Self::DetachFiles,
        Self::Verify,
        Self::Finish,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::EnsureVectorStore => "ensure_vector_store",
            Self::UploadFiles => "upload_files",
            Self::AttachFiles => "attach_files",
            Self::AwaitIndexing => "await_indexing",
            Self::DetachFiles => "detach_files",
            Self::Verify => "verify",
            Self::Finish => "finish",
        }
    }

    /// Whether the step sends what an exhausted account would not take. The others go on.
    pub(super) const fn brings_something(self) -> bool {
        matches!(
            self,
            Self::EnsureVectorStore | Self::UploadFiles | Self::AttachFiles
        )
    }

    /// An unknown step was written by another version: every step is safe to repeat, so begin with the first.
    pub(super) fn parse(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|step| step.as_str() == text)
            .unwrap_or(Self::EnsureVectorStore)
    }
}
