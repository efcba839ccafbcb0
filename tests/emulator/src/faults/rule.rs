//! Rules as data: when a fault comes down, and what it does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A fault to inject.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    pub when: When,
    pub then: Action,
}

impl Rule {
    /// Does this to every call of an operation.
    #[must_use]
    pub fn on(operation: &str, then: Action) -> Self {
        let when = When {
            operation: Some(operation.to_owned()),
            ..When::default()
        };
        Self { when, then }
    }

    /// Does this whenever it is about a file whose name has this part.
    #[must_use]
    pub fn on_file(part: &str, then: Action) -> Self {
        let when = When {
            filename: Some(part.to_owned()),
            ..When::default()
        };
        Self { when, then }
    }

    /// Fires at most so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.when.times = Some(times);
        self
    }

    /// Leaves the first `nth - 1` matches alone.
    #[must_use]
    pub fn from_nth(mut self, nth: u64) -> Self {
        self.when.nth = Some(nth);
        self
    }

    /// Takes every so many-th match.
    #[must_use]
    pub fn every(mut self, every: u64) -> Self {
        self.when.every = Some(every);
        self
    }
}

/// All given conditions must hold. Every matching request counts towards `nth`, also when another rule takes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// As in the ledger: `files.create`, `vector_stores.file_batches.create`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Regular expression, searched in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Part of the name of the file (or of one of the files) the request is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Leave the first `nth - 1` matches alone (default 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Of the matches, take every so many-th (default: each).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Fire at most so often (default: always).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Fire with this chance, 0..=1, by a generator seeded with `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    #[serde(default)]
    pub seed: u64,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// TCP reset.
    Reset,
    /// Closed in order, without an answer.
    Close,
    /// Left open, never answered: the client's timeout has to end it.
    Hang,
}

/// How `Retry-After` is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    Seconds(u64),
    /// An HTTP date so many seconds from now.
    HttpDate(u64),
    /// `retry-after-ms`.
    Milliseconds(u64),
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Answers so, without the effect (or after it: the answer of a broken gateway).
    Respond {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// A JSON body, or with `text` a plain one; without both an error in OpenAI's shape.
        #[serde(default)]
        body: Option<Value>,
        #[serde(default)]
        text: Option<String>,
        #[serde(default)]
        after_effect: bool,
    },
    /// 429 `rate_limit_exceeded`.
    RateLimit {
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// 429 `insufficient_quota`, without `Retry-After`.
    Quota,
    /// A gateway's HTML page instead of JSON.
    Html { status: u16 },
    /// A gRPC status, as Yandex answers.
    Grpc { status: u16, message: String },
    /// The request is lost before it takes effect.
    LoseRequest { how: Loss },
    /// The request takes effect, its answer is lost.
    LoseAnswer { how: Loss },
    /// Half of the answer, then a reset.
    ResetMidBody,
    /// A complete answer with half of its JSON.
    TruncateJson,
    /// Waits before the request takes effect.
    Delay { ms: u64 },
    /// Waits before the request takes effect, until the gate is opened (or all faults are cleared).
    Hold { gate: String },
    /// The answer in small pieces.
    SlowDrip { piece_bytes: usize, every_ms: u64 },
    /// Sets fields of a successful answer (a wrong `object`, an unknown `status`); null removes one.
    MergeJson { fields: Map<String, Value> },
    /// A list without items.
    EmptyPage { has_more: bool },
    /// A list that ignores `after` and always claims to have more.
    RepeatCursor,
    /// 404 for objects younger than this.
    HideNew { seconds: f64 },
    /// Answers, then closes the connection without having said so.
    CloseAfterAnswer,
    /// Indexing never ends.
    Stuck,
    /// Indexing fails.
    FailIndexing {
        code: String,
        #[serde(default)]
        message: String,
    },
    /// Indexing takes so much longer.
    DelayIndexing { ms: u64 },
    /// Indexing waits until the gate is opened (or all faults are cleared).
    HoldIndexing { gate: String },
}

impl Action {
    /// Answers with this status and an error in OpenAI's shape, without the effect.
    #[must_use]
    pub fn refuse(status: u16) -> Self {
        Self::Respond {
            status,
            headers: BTreeMap::new(),
            body: None,
            text: None,
            after_effect: false,
        }
    }

    /// Answers with this status and this JSON, without the effect.
    #[must_use]
    pub fn refuse_with(status: u16, body: Value) -> Self {
        Self::Respond {
            status,
            headers: BTreeMap::new(),
            body: Some(body),
            text: None,
            after_effect: false,
        }
    }

    pub(crate) fn is_about_indexing(&self) -> bool {
        matches!(
            self,
            Self::Stuck | Self::FailIndexing { .. } | Self::DelayIndexing { .. } | Self::HoldIndexing { .. }
        )
    }

    /// The request takes effect, and its sender does not hear so.
    pub(crate) fn loses_an_answer(&self) -> bool {
        matches!(
            self,
            Self::Respond {
                after_effect: true,
                ..
            } | Self::LoseAnswer {
                how: Loss::Reset | Loss::Close
            }
        )
    }

    /// Its name in JSON, for the ledger.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Respond { .. } => "respond",
            Self::RateLimit { .. } => "rate_limit",
            Self::Quota => "quota",
            Self::Html { .. } => "html",
            Self::Grpc { .. } => "grpc",
            Self::LoseRequest { .. } => "lose_request",
            Self::LoseAnswer { .. } => "lose_answer",
            Self::ResetMidBody => "reset_mid_body",
            Self::TruncateJson => "truncate_json",
            Self::Delay { .. } => "delay",
            Self::Hold { .. } => "hold",
            Self::SlowDrip { .. } => "slow_drip",
            Self::MergeJson { .. } => "merge_json",
            Self::EmptyPage { .. } => "empty_page",
            Self::RepeatCursor => "repeat_cursor",
            Self::HideNew { .. } => "hide_new",
            Self::CloseAfterAnswer => "close_after_answer",
            Self::Stuck => "stuck",
            Self::FailIndexing { .. } => "fail_indexing",
            Self::DelayIndexing { .. } => "delay_indexing",
            Self::HoldIndexing { .. } => "hold_indexing",
        }
    }
}

/// A rule that can't be.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error("`when.path` is no regular expression")]
    Path(#[from] regex::Error),
    #[error("unknown operation `{0}`")]
    Operation(String),
    #[error("`{0}` happens to the operation `indexing` and no other; leave `when.operation` out")]
    Indexing(&'static str),
    #[error("`{0}` must lie between {1} and {2}")]
    Range(&'static str, u64, u64),
}

/// A rule with its counters, as the control API lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleState {
    pub id: u64,
    pub rule: Rule,
    /// Requests that met all conditions but `nth`, `times` and `probability`.
    pub matched: u64,
    pub fired: u64,
}
