//! What is printed, and may go into a document: each bar with what was measured, and what each run took.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use rag_bench::figures::write_between;

use crate::usage::Usage;

#[derive(Default)]
pub(crate) struct Report {
    head: Vec<String>,
    bars: Vec<String>,
    runs: Vec<String>,
}

impl Report {
    /// A sentence above the tables.
    pub(crate) fn head(&mut self, line: &str) {
        self.head.push(line.to_owned());
    }

    /// A bar that `measured` must not exceed.
    pub(crate) fn at_most(&mut self, work: &str, bar: &str, limit: f64, measured: f64, detail: &str) {
        self.bar(work, bar, measured <= limit, detail);
    }

    pub(crate) fn bar(&mut self, work: &str, bar: &str, met: bool, measured: &str) {
        let verdict = if met { "met" } else { "**NOT MET**" };
        let row = format!("| {work} | {bar} | {measured} | {verdict} |");
        eprintln!("{row}");
        self.bars.push(row);
    }

    /// `files`: what statements and commits are divided by; `None`: not ours.
    pub(crate) fn run(&mut self, work: &str, program: &str, files: Option<f64>, usage: &Usage) {
        let each = |count: f64| {
            files
                .map(|files| format!("{:.2}", count / files))
                .unwrap_or_default()
        };
        let row = format!(
            "| {work} | {program} | {:.2} s | {:.2} s | {:.0} MiB | {} | {} | {} |",
            usage.wall,
            usage.cpu,
            usage.peak_mib,
            each(usage.statements),
            each(usage.commits),
            usage.calls.list(),
        );
        eprintln!("{row}");
        self.runs.push(row);
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.head.join(" ");
        table(&mut text, &["work", "bar", "measured", ""], &self.bars);
        let columns = [
            "work",
            "program",
            "wall",
            "CPU",
            "most memory",
            "statements a file",
            "commits a file",
            "calls at the provider",
        ];
        table(&mut text, &columns, &self.runs);
        text
    }

    pub(crate) fn write_into(&self, file: &Path) -> Result<()> {
        write_between(file, "builds", "Builds", &self.text())
    }
}

fn table(text: &mut String, columns: &[&str], rows: &[String]) {
    let _ = write!(
        text,
        "\n\n| {} |\n|{}",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for row in rows {
        let _ = write!(text, "\n{row}");
    }
}
