//! Faults: which requests they meet and what they do to them. Rules are data, given through the control API or the
//! library; what they do to a request is in `fault_layer`, what they do to indexing in `indexing`.

mod rule;

pub use rule::{Action, Loss, RetryAfter, Rule, RuleError, RuleState, When};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use regex::Regex;
use std::collections::BTreeSet;

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
    /// Gates of `hold` rules that nobody has opened yet.
    closed_gates: BTreeSet<String>,
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
        if let Action::Hold { gate } | Action::HoldIndexing { gate } = &rule.then {
            self.closed_gates.insert(gate.clone());
        }
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
        self.closed_gates.clear();
    }

    /// What waits at the gate goes on, and whatever comes to it later passes.
    pub(crate) fn open(&mut self, gate: &str) {
        self.closed_gates.remove(gate);
    }

    pub(crate) fn is_closed(&self, gate: &str) -> bool {
        self.closed_gates.contains(gate)
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
