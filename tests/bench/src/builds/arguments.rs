//! The command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::work::NAMES;

#[derive(Default)]
pub(crate) struct Arguments {
    /// How often what is compared is run; what is compared with nothing runs once.
    pub(crate) pairs: usize,
    /// Also what takes many minutes.
    pub(crate) large: bool,
    /// Of the syncs without latency: stores, and files of each.
    pub(crate) stores: usize,
    pub(crate) files_per_store: usize,
    /// The document that gets the tables.
    pub(crate) write: Option<PathBuf>,
    only: Vec<String>,
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            pairs: 5,
            stores: 2000,
            files_per_store: 50,
            ..Self::default()
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--pairs" => arguments.pairs = value()?.parse()?,
                "--only" => arguments.only.push(value()?),
                "--write" => arguments.write = Some(value()?.into()),
                "--stores" => arguments.stores = value()?.parse()?,
                "--files" => arguments.files_per_store = value()?.parse()?,
                "--large" => arguments.large = true,
                other => anyhow::bail!("`{other}` is not understood; the head of main.rs says what is"),
            }
        }
        ensure!(arguments.pairs > 0, "--pairs is at least 1");
        for name in &arguments.only {
            ensure!(NAMES.contains(&name.as_str()), "--only is one of {NAMES:?}");
        }
        Ok(arguments)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
