//! What is printed: tables, and the bars with what was measured. Everything is on standard output at once, so that a
//! long run shows what it has; and kept, for a README.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

#[derive(Default)]
pub(crate) struct Report {
    text: String,
    bars: Vec<String>,
}

impl Report {
    pub(crate) fn line(&mut self, line: &str) {
        println!("{line}");
        let _ = writeln!(self.text, "{line}");
    }

    pub(crate) fn table(&mut self, title: &str, columns: &[&str]) {
        self.line("");
        self.line(&format!("**{title}**"));
        self.line("");
        self.row(columns);
        self.line(&format!("|{}", "---|".repeat(columns.len())));
    }

    pub(crate) fn row(&mut self, cells: &[impl AsRef<str>]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    pub(crate) fn server(&mut self, server: &str) {
        self.line(server);
    }

    pub(crate) fn bar(&mut self, met: bool, what: &str, measured: &str) {
        let verdict = if met { "MET" } else { "NOT MET" };
        self.bars.push(format!("- {verdict}: {what} ({measured})"));
    }

    pub(crate) fn finish(&mut self) {
        self.line("");
        self.line("**Bars**");
        self.line("");
        for bar in std::mem::take(&mut self.bars) {
            self.line(&bar);
        }
    }

    /// Puts everything between the marks in a file.
    pub(crate) fn write_into(&self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let marks = || format!("{} has the marks `{BEGIN}` and `{END}`", file.display());
        let (head, rest) = text.split_once(BEGIN).with_context(marks)?;
        let (_, tail) = rest.split_once(END).with_context(marks)?;
        std::fs::write(file, format!("{head}{BEGIN}\n{}\n{END}{tail}", self.text.trim()))?;
        Ok(())
    }
}
