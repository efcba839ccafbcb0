//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Throughput,
    /// A million waiting and a million finished, against none.
    Million,
    Enqueue,
    Latency,
    Idle,
}

pub(crate) struct Arguments {
    pub(crate) quick: bool,
    pub(crate) readme: Option<PathBuf>,
    /// Instead of everything else: how long to watch workers work.
    pub(crate) soak: Option<Duration>,
    parts: Vec<Part>,
}

const SOAK_MINUTES: u64 = 60;

impl Arguments {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            quick: false,
            readme: None,
            soak: None,
            parts: Vec::new(),
        };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--readme" => {
                    arguments.readme = Some(words.next().context("--readme needs a file")?.into());
                }
                "soak" => arguments.soak = Some(Duration::from_secs(SOAK_MINUTES * 60)),
                "--minutes" => {
                    let minutes: f64 = words.next().context("--minutes needs a number")?.parse()?;
                    arguments.soak = Some(Duration::from_secs_f64(minutes * 60.0));
                }
                "throughput" => arguments.parts.push(Part::Throughput),
                "million" => arguments.parts.push(Part::Million),
                "enqueue" => arguments.parts.push(Part::Enqueue),
                "latency" => arguments.parts.push(Part::Latency),
                "idle" => arguments.parts.push(Part::Idle),
                other => bail!("`{other}` is not understood; the head of main.rs says what is"),
            }
        }
        Ok(arguments)
    }

    pub(crate) fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}
