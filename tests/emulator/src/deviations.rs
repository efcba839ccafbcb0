//! Where servers of the protocol deviate from OpenAI: a switch for each, and the profiles as sets of them. What a switch
//! does stands where it matters; grep its name. Seen at OGX 1.5.0 and at the LiteLLM proxy 1.108.7 in November 2026;
//! `cargo xtask providers` holds the profiles against them. (Yandex has a dialect of its own: `yandex`.)

use crate::options::Profile;

/// Every switch is off at OpenAI. On the command line they add to those of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of a command line, not a state"
)]
pub struct Deviations {
    /// A batch accepts `files` and ignores it: `file_counts.total` is 0, nothing is attached.
    #[arg(long)]
    pub ignore_batch_files: bool,

    /// A batch accepts no files at all, `file_ids` beside `files`, and ids of files that do not exist: those fail.
    #[arg(long)]
    pub unchecked_batches: bool,

    /// Files that are being indexed are in no listing and no count of their store, which says `completed` meanwhile.
    #[arg(long)]
    pub hide_while_indexing: bool,

    /// Files of one batch that are indexed at the same time (0: as many as there are places).
    #[arg(long, default_value_t = 0)]
    pub batch_parallelism: usize,

    /// A single attach answers only once the file is indexed, or has failed.
    #[arg(long)]
    pub attach_answers_indexed: bool,

    /// Attaching a file that is there answers what is there, whatever its status and strategy.
    #[arg(long)]
    pub keep_on_reattach: bool,

    /// Unknown stores, attached files and batches are answered 400, unknown files 404.
    #[arg(long)]
    pub missing_is_400: bool,

    /// The connection is closed after such a 400, without a word of it.
    #[arg(long)]
    pub close_after_missing: bool,

    /// The store keeps settings of the server's own in `metadata`; an update that leaves them out makes attaches fail.
    #[arg(long)]
    pub own_metadata_keys: bool,

    /// Numbers of metadata, more than 16 pairs and long values are accepted.
    #[arg(long)]
    pub unchecked_metadata: bool,

    /// `expires_after` is shown and means nothing.
    #[arg(long)]
    pub ignore_expires_after: bool,

    /// Deleting a File leaves it in listings and search.
    #[arg(long)]
    pub keep_deleted_files: bool,

    /// Search calls files by ids of its own; the file's id is `attributes.file_id`.
    #[arg(long)]
    pub own_search_ids: bool,

    /// Scores have no upper bound, and are null for a text that equals the query.
    #[arg(long)]
    pub unbounded_scores: bool,

    /// Search refuses `rewrite_query: true`.
    #[arg(long)]
    pub no_query_rewriting: bool,

    /// Everything but ASCII letters, digits, dots and hyphens in a file's name becomes an underscore.
    #[arg(long)]
    pub mangle_names: bool,

    /// Files expire a year after their upload.
    #[arg(long)]
    pub files_expire: bool,

    /// Errors have a `message` and nothing else; those of batches, and unknown URLs, are `{"detail": "…"}`.
    #[arg(long)]
    pub bare_errors: bool,

    /// Files of a cancelled batch count as `in_progress` for ever.
    #[arg(long)]
    pub cancelled_stay_in_progress: bool,

    /// A cursor that names nothing is ignored, and so is `before`.
    #[arg(long)]
    pub ignore_unknown_cursors: bool,

    /// There are no `/uploads`.
    #[arg(long)]
    pub no_uploads: bool,

    /// There are no `file_batches`.
    #[arg(long)]
    pub no_file_batches: bool,

    /// The list of files ignores `limit` and `after`.
    #[arg(long)]
    pub unpaged_files: bool,

    /// Errors of the server behind are wrapped in a text of the gateway's, and 404 becomes 400.
    #[arg(long)]
    pub gateway_errors: bool,

    /// `Retry-After` is called `llm_provider-retry-after`, and is not there for files.
    #[arg(long)]
    pub rename_retry_after: bool,

    /// An upload whose answer was lost is sent again by the gateway: two files, of which the client hears of one.
    #[arg(long)]
    pub repeat_uploads: bool,

    /// Search needs `max_num_results` and `rewrite_query`: what is left out arrives as null and is refused.
    #[arg(long)]
    pub search_needs_all: bool,
}

impl Profile {
    pub(crate) fn deviations(self) -> Deviations {
        let ogx = Deviations {
            ignore_batch_files: true,
            unchecked_batches: true,
            hide_while_indexing: true,
            batch_parallelism: 3,
            attach_answers_indexed: true,
            keep_on_reattach: true,
            missing_is_400: true,
            close_after_missing: true,
            own_metadata_keys: true,
            unchecked_metadata: true,
            ignore_expires_after: true,
            keep_deleted_files: true,
            own_search_ids: true,
            unbounded_scores: true,
            no_query_rewriting: true,
            mangle_names: true,
            files_expire: true,
            bare_errors: true,
            cancelled_stay_in_progress: true,
            ignore_unknown_cursors: true,
            no_uploads: true,
            ..Deviations::default()
        };
        match self {
            Self::Openai | Self::Sentralix | Self::Yandex => Deviations::default(),
            Self::Ogx => ogx,
            Self::Litellm => Deviations {
                // The gateway has connections of its own to the server behind it.
                close_after_missing: false,
                no_file_batches: true,
                unpaged_files: true,
                gateway_errors: true,
                rename_retry_after: true,
                repeat_uploads: true,
                search_needs_all: true,
                ..ogx
            },
        }
    }
}

impl Deviations {
    /// Those of either.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            ignore_batch_files: self.ignore_batch_files || other.ignore_batch_files,
            unchecked_batches: self.unchecked_batches || other.unchecked_batches,
            hide_while_indexing: self.hide_while_indexing || other.hide_while_indexing,
            batch_parallelism: self.batch_parallelism.max(other.batch_parallelism),
            attach_answers_indexed: self.attach_answers_indexed || other.attach_answers_indexed,
            keep_on_reattach: self.keep_on_reattach || other.keep_on_reattach,
            missing_is_400: self.missing_is_400 || other.missing_is_400,
            close_after_missing: self.close_after_missing || other.close_after_missing,
            own_metadata_keys: self.own_metadata_keys || other.own_metadata_keys,
            unchecked_metadata: self.unchecked_metadata || other.unchecked_metadata,
            ignore_expires_after: self.ignore_expires_after || other.ignore_expires_after,
            keep_deleted_files: self.keep_deleted_files || other.keep_deleted_files,
            own_search_ids: self.own_search_ids || other.own_search_ids,
            unbounded_scores: self.unbounded_scores || other.unbounded_scores,
            no_query_rewriting: self.no_query_rewriting || other.no_query_rewriting,
            mangle_names: self.mangle_names || other.mangle_names,
            files_expire: self.files_expire || other.files_expire,
            bare_errors: self.bare_errors || other.bare_errors,
            cancelled_stay_in_progress: self.cancelled_stay_in_progress || other.cancelled_stay_in_progress,
            ignore_unknown_cursors: self.ignore_unknown_cursors || other.ignore_unknown_cursors,
            no_uploads: self.no_uploads || other.no_uploads,
            no_file_batches: self.no_file_batches || other.no_file_batches,
            unpaged_files: self.unpaged_files || other.unpaged_files,
            gateway_errors: self.gateway_errors || other.gateway_errors,
            rename_retry_after: self.rename_retry_after || other.rename_retry_after,
            repeat_uploads: self.repeat_uploads || other.repeat_uploads,
            search_needs_all: self.search_needs_all || other.search_needs_all,
        }
    }
}
