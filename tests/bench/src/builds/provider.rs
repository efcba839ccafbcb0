//! The emulator, as a program of its own for each run: what a call and what indexing takes there, and which calls came.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use rag_bench::programs::program;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Those of a build or sync; whatever else comes counts as `other`.
const OPERATIONS: [&str; 13] = [
    "files.content",
    "files.create",
    "files.list",
    "files.retrieve",
    "vector_stores.create",
    "vector_stores.retrieve",
    "vector_stores.list",
    "vector_stores.files.create",
    "vector_stores.files.list",
    "vector_stores.files.retrieve",
    "vector_stores.file_batches.create",
    "vector_stores.file_batches.retrieve",
    "vector_stores.file_batches.list_files",
];

/// How fast the provider is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Of every call.
    pub(crate) latency_ms: u64,
    /// Of every file, and how many are indexed at the same time.
    pub(crate) indexing_ms: u64,
    pub(crate) indexing_at_once: usize,
}

impl Pace {
    /// Indexing that is no matter.
    pub(crate) fn quick(latency_ms: u64) -> Self {
        Self {
            latency_ms,
            indexing_ms: 5,
            indexing_at_once: 64,
        }
    }
}

pub(crate) struct Provider {
    /// What a client is given.
    pub(crate) url: String,
    origin: String,
    http: reqwest::Client,
    _program: Child,
}

/// How often each operation was called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(BTreeMap<String, u64>);

#[derive(Deserialize)]
struct RuleState {
    rule: Value,
    matched: u64,
}

#[derive(Deserialize)]
struct Entry {
    at: DateTime<Utc>,
    operation: String,
}

impl Provider {
    pub(crate) async fn start(pace: Pace) -> Result<Self> {
        let mut program = Command::new(program("rag-emulator")?)
            .args(["--indexing-ms-per-kb", "0"])
            .arg("--allow-content")
            .args(["--indexing-ms-base", &pace.indexing_ms.to_string()])
            .args(["--indexing-parallelism", &pace.indexing_at_once.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = program.stdout.take().context("the emulator's output")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let line = line.context("the emulator says where it listens")?;
        let url = line.rsplit(' ').next().unwrap_or_default().to_owned();
        let provider = Self {
            origin: url.trim_end_matches("/v1").to_owned(),
            url,
            http: reqwest::Client::new(),
            _program: program,
        };
        provider.delay_and_count(pace.latency_ms).await?;
        Ok(provider)
    }

    /// One rule for each operation, for a rule counts what it meets.
    async fn delay_and_count(&self, ms: u64) -> Result<()> {
        let times = (ms == 0).then_some(0);
        let rule = |operation: &str| json!({"when": {"operation": operation, "times": times}, "then": {"action": "delay", "ms": ms}});
        let mut rules: Vec<Value> = OPERATIONS.map(rule).to_vec();
        rules.push(json!({"when": {"times": times}, "then": {"action": "delay", "ms": ms}}));
        let answer = self.http.post(self.control("faults")).json(&rules).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Fills it as if somebody had used it long ago.
    pub(crate) async fn seed(&self, stores: usize, files_per_store: usize) -> Result<()> {
        let seed = json!({"stores": stores, "files_per_store": files_per_store});
        let answer = self.http.post(self.control("seed")).json(&seed).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    fn control(&self, what: &str) -> String {
        format!("{}/_emulator/{what}", self.origin)
    }

    /// All since the start.
    pub(crate) async fn calls(&self) -> Result<Calls> {
        let rules: Vec<RuleState> = self.http.get(self.control("faults")).send().await?.json().await?;
        let rates: Value = self.http.get(self.control("rate")).send().await?.json().await?;
        let mut calls = BTreeMap::new();
        for state in rules {
            if let Some(operation) = state.rule["when"]["operation"].as_str() {
                calls.insert(operation.to_owned(), state.matched);
            }
        }
        let all = rates["prefixes"]["*"]["total"].as_u64().unwrap_or(0);
        calls.insert("other".to_owned(), all.saturating_sub(calls.values().sum()));
        Ok(Calls(calls))
    }

    /// When the last store was made.
    pub(crate) async fn last_store_made_at(&self) -> Result<DateTime<Utc>> {
        let query = self.control("ledger?operation=vector_stores.create");
        let entries: Vec<Entry> = self.http.get(query).send().await?.json().await?;
        let last = entries
            .into_iter()
            .rfind(|entry| entry.operation == "vector_stores.create");
        Ok(last.context("no store was made")?.at)
    }
}

impl Calls {
    pub(crate) fn since(&self, before: &Self) -> Self {
        let difference = self.0.iter().map(|(operation, now)| {
            let then = before.0.get(operation).copied().unwrap_or(0);
            (operation.clone(), now - then)
        });
        Self(difference.collect())
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn of(&self, operation: &str) -> u64 {
        self.0.get(operation).copied().unwrap_or(0)
    }

    /// In words.
    pub(crate) fn list(&self) -> String {
        let some = self.0.iter().filter(|(_, count)| **count > 0);
        let words: Vec<String> = some
            .map(|(operation, count)| format!("{operation} {count}"))
            .collect();
        words.join(", ")
    }
}
