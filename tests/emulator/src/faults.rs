//! Faults: which requests they meet and what they do to them. Rules are data, given through the control API or the
//! library; what they do to a request is in `fault_layer`, what they do to indexing in `indexing`.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use regex::Regex;
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
}

impl Action {
    pub(crate) fn is_about_indexing(&self) -> bool {
        matches!(
            self,
            Self::Stuck | Self::FailIndexing { .. } | Self::DelayIndexing { .. }
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
            Self::SlowDrip { .. } => "slow_drip",
            Self::MergeJson { .. } => "merge_json",
            Self::EmptyPage { .. } => "empty_page",
            Self::RepeatCursor => "repeat_cursor",
            Self::HideNew { .. } => "hide_new",
            Self::CloseAfterAnswer => "close_after_answer",
            Self::Stuck => "stuck",
            Self::FailIndexing { .. } => "fail_indexing",
            Self::DelayIndexing { .. } => "delay_indexing",
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

/// A fault that has come down on something.
pub(crate) type Fired = Action;

/// What a rule is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub operation: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub filenames: Filenames<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Filenames<'a> {
    /// Not read from the body yet: rules that ask for a name wait for `Late`.
    Unknown,
    /// Known before the handler runs, from the path.
    Known(&'a [&'a str]),
    /// Now read from the body; rules that don't ask for a name have had their turn.
    Late(&'a [&'a str]),
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Armed>,
    last_id: u64,
}

#[derive(Debug)]
struct Armed {
    state: RuleState,
    path: Option<Regex>,
    rng: StdRng,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: Rule) -> Result<u64, RuleError> {
        let when = &rule.when;
        if let Some(operation) = &when.operation {
            if !crate::context::is_operation(operation) {
                return Err(RuleError::Operation(operation.clone()));
            }
            if rule.then.is_about_indexing() && operation != "indexing" {
                return Err(RuleError::Indexing(rule.then.name()));
            }
        }
        if when
            .probability
            .is_some_and(|chance| !(0.0..=1.0).contains(&chance))
        {
            return Err(RuleError::Range("when.probability", 0, 1));
        }
        if let Action::Respond { status, .. } | Action::Html { status } | Action::Grpc { status, .. } =
            &rule.then
            && !(200..=599).contains(status)
        {
            return Err(RuleError::Range("then.status", 200, 599));
        }
        let path = when.path.as_deref().map(Regex::new).transpose()?;
        let rng = StdRng::seed_from_u64(when.seed);
        self.last_id += 1;
        let state = RuleState {
            id: self.last_id,
            rule,
            matched: 0,
            fired: 0,
        };
        self.rules.push(Armed { state, path, rng });
        Ok(self.last_id)
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn list(&self) -> Vec<RuleState> {
        self.rules.iter().map(|armed| armed.state.clone()).collect()
    }

    /// Whether any rule could fire; lets the common case skip looking up names.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Counts the subject in every rule it matches; the first one due fires.
    pub(crate) fn pick(&mut self, subject: Subject<'_>) -> Option<Fired> {
        let mut fired = None;
        for armed in &mut self.rules {
            if !armed.matches(subject) {
                continue;
            }
            armed.state.matched += 1;
            if fired.is_none() && armed.is_due() {
                armed.state.fired += 1;
                fired = Some(armed.state.rule.then.clone());
            }
        }
        fired
    }
}

impl Armed {
    fn matches(&self, subject: Subject<'_>) -> bool {
        let Rule { when, then } = &self.state.rule;
        if then.is_about_indexing() != (subject.operation == "indexing") {
            return false;
        }
        let right_name = match (&when.filename, subject.filenames) {
            (None, Filenames::Late(_)) | (Some(_), Filenames::Unknown) => false,
            (None, _) => true,
            (Some(part), Filenames::Known(names) | Filenames::Late(names)) => {
                names.iter().any(|name| name.contains(part.as_str()))
            }
        };
        right_name
            && when
                .operation
                .as_ref()
                .is_none_or(|operation| operation == subject.operation)
            && when
                .method
                .as_ref()
                .is_none_or(|method| method.eq_ignore_ascii_case(subject.method))
            && self.path.as_ref().is_none_or(|path| path.is_match(subject.path))
    }

    fn is_due(&mut self) -> bool {
        let when = &self.state.rule.when;
        self.state.matched >= when.nth.unwrap_or(1)
            && when
                .every
                .is_none_or(|every| self.state.matched.is_multiple_of(every))
            && when.times.is_none_or(|times| self.state.fired < times)
            && when.probability.is_none_or(|chance| self.rng.random_bool(chance))
    }
}
