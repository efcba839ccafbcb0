//! Everything that can be chosen about one emulator, shared by the command line and the library builder.

use crate::deviations::Deviations;
use std::path::PathBuf;

/// Whose dialect of the protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Profile {
    /// OpenAI itself.
    #[default]
    Openai,
    /// Yandex AI Studio: other ids, limits, errors and a handful of quirks; see `yandex.rs`.
    Yandex,
    /// A plain OpenAI-compatible engine; the same protocol as `Openai`.
    Sentralix,
    /// OGX 1.5.0, once Llama Stack: a server of its own that deviates in many places; see `deviations`.
    Ogx,
    /// The LiteLLM proxy 1.108.7 in front of such an OGX.
    Litellm,
}

/// Settings of one emulator. `Options::default()` is what the binary does without arguments.
#[derive(Debug, Clone, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of a command line, not a state"
)]
pub struct Options {
    /// Dialect of the protocol.
    #[arg(long, value_enum, default_value_t = Profile::Openai)]
    pub profile: Profile,

    /// Further switches than those of the profile.
    #[command(flatten)]
    pub deviations: Deviations,

    /// The only key that is let in; without it any non-empty key is.
    #[arg(long)]
    pub api_key: Option<String>,

    /// Give out the bytes of files with purpose `assistants`, which OpenAI refuses.
    #[arg(long)]
    pub allow_content: bool,

    /// Follow the OpenAPI document to the letter where real servers do not: leave out null `description`,
    /// `expires_after` and `name`, and answer empty `first_id`/`last_id` as "" instead of null.
    #[arg(long)]
    pub spec_strict: bool,

    /// Deleting a File leaves it in the stores it is attached to, as OpenAI has been seen to do.
    #[arg(long)]
    pub keep_attached_on_delete: bool,

    /// Detaching a file from one store takes it out of all, as OpenAI has been seen to do.
    #[arg(long)]
    pub detach_everywhere: bool,

    /// Record reads in the ledger too, not only writes.
    #[arg(long)]
    pub ledger_reads: bool,

    /// Milliseconds that indexing a file takes at least.
    #[arg(long, default_value_t = 50)]
    pub indexing_ms_base: u64,

    /// Further milliseconds for every KiB of the file.
    #[arg(long, default_value_t = 1.0)]
    pub indexing_ms_per_kb: f64,

    /// Files indexed at the same time; the others wait in status `in_progress`.
    #[arg(long, default_value_t = 16)]
    pub indexing_parallelism: usize,

    /// Take longer over texts that say so: `slow embedding N` adds N milliseconds.
    #[arg(long)]
    pub embedding_delays: bool,

    /// Largest file of one upload, in bytes (default: 512 MiB, yandex 128 MiB).
    #[arg(long)]
    pub max_file_bytes: Option<u64>,

    /// Send `openai-poll-after-ms` with files and batches that are `in_progress`.
    #[arg(long)]
    pub poll_after_ms: Option<u64>,

    /// Requests let through in any one second; more are answered 429 with `Retry-After: 1`.
    #[arg(long)]
    pub requests_per_second: Option<usize>,

    /// Yandex only: attach calls accept `chunking_strategy` instead of answering 500.
    #[arg(long)]
    pub yandex_accepts_strategy: bool,

    /// Yandex only: a file goes by another id in a store than in the Files API, which is told as `file_id`.
    #[arg(long)]
    pub yandex_store_file_ids: bool,

    /// Yandex only: PEM file with the public key (SubjectPublicKeyInfo) of the service account. With it, the
    /// token endpoint issues tokens and the API accepts only those (or `--api-key`).
    #[arg(long)]
    pub iam_public_key: Option<PathBuf>,

    /// Yandex only: the key id (`kid`) the JWT must name.
    #[arg(long)]
    pub iam_key_id: Option<String>,

    /// Yandex only: the service account (`iss`) the JWT must name.
    #[arg(long)]
    pub iam_service_account_id: Option<String>,

    /// Yandex only: seconds an issued token lives.
    #[arg(long, default_value_t = 43_200)]
    pub iam_token_seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Openai,
            deviations: Deviations::default(),
            api_key: None,
            allow_content: false,
            spec_strict: false,
            keep_attached_on_delete: false,
            detach_everywhere: false,
            ledger_reads: false,
            indexing_ms_base: 50,
            indexing_ms_per_kb: 1.0,
            indexing_parallelism: 16,
            embedding_delays: false,
            max_file_bytes: None,
            poll_after_ms: None,
            requests_per_second: None,
            yandex_accepts_strategy: false,
            yandex_store_file_ids: false,
            iam_public_key: None,
            iam_key_id: None,
            iam_service_account_id: None,
            iam_token_seconds: 43_200,
        }
    }
}

impl Options {
    pub(crate) fn is_yandex(&self) -> bool {
        self.profile == Profile::Yandex
    }

    /// Whether ids of a wrong form are told from ids that name nothing.
    pub(crate) fn checks_ids(&self) -> bool {
        matches!(self.profile, Profile::Openai | Profile::Sentralix)
    }

    /// Those of the profile, and those that were switched on beside.
    pub(crate) fn deviations(&self) -> Deviations {
        let keep_deleted_files = self.keep_attached_on_delete;
        let chosen = Deviations {
            keep_deleted_files,
            ..Deviations::default()
        };
        self.profile.deviations().or(self.deviations).or(chosen)
    }

    pub(crate) fn max_file_bytes(&self) -> u64 {
        let default = if self.is_yandex() { 128 << 20 } else { 512 << 20 };
        self.max_file_bytes.unwrap_or(default)
    }
}
