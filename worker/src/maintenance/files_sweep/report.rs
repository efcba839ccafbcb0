//! What a round has found: one line in the log, a row for all workers, and the gauges that each of them shows.

use chrono::Utc;
use rag_db::files_sweep;
use rag_domain::FileId;
use rag_files::{Entry, FilesError, What};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::step_error::{StepError, chain};

/// So few leftovers are no mistake, whatever their share.
const ALWAYS_ALLOWED: u64 = 100;
/// Paths that the log names of each kind.
const EXAMPLES: usize = 5;

/// What an entry on disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Contents that a row names.
    Named,
    /// Without a row, and too young to tell.
    Young,
    /// Without a row.
    Leftover,
    /// Not ours.
    Strange,
}

/// How a round has ended.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "reason", rename_all = "snake_case")]
pub(super) enum Verdict {
    #[default]
    Reported,
    Swept,
    /// Too much would have gone.
    OverThreshold,
    Refused(String),
}

/// What a round has found and done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) verdict: Verdict,
    /// Contents of files, with and without rows.
    contents: u64,
    /// Contents without a row, old enough to go.
    unnamed: u64,
    unnamed_bytes: u64,
    /// Uploads that never arrived completely.
    uploads: u64,
    empty_folders: u64,
    strange: u64,
    missing: u64,
    removed: u64,
    removed_bytes: u64,
    failed: u64,
    #[serde(skip)]
    examples: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, entry: &Entry, kind: Kind) {
        if let What::Contents(_) = entry.what {
            self.contents += u64::from(kind != Kind::Strange);
        }
        match (kind, entry.what) {
            (Kind::Strange, _) => {
                if self.strange < EXAMPLES as u64 {
                    self.examples.push(format!("strange: {}", entry.relative_path));
                }
                self.strange += 1;
            }
            (Kind::Leftover, What::Contents(_)) => {
                if self.unnamed < EXAMPLES as u64 {
                    self.examples
                        .push(format!("without a row: {}", entry.relative_path));
                }
                self.unnamed += 1;
                self.unnamed_bytes += entry.size_bytes;
            }
            (Kind::Leftover, What::Upload) => self.uploads += 1,
            (Kind::Leftover, _) => self.empty_folders += 1,
            (Kind::Named | Kind::Young, _) => {}
        }
    }

    pub(super) fn missing(&mut self, id: FileId, path: &str) {
        if self.missing < EXAMPLES as u64 {
            self.examples.push(format!("no contents of file {id}: {path}"));
        }
        self.missing += 1;
    }

    /// What was found missing may only not be seen.
    pub(super) fn doubt_missing(&mut self) {
        self.missing = 0;
    }

    pub(super) fn removed(&mut self, entry: &Entry) {
        self.removed += 1;
        self.removed_bytes += entry.size_bytes;
    }

    pub(super) fn fail(&mut self, entry: &Entry, error: &FilesError) {
        if self.failed < EXAMPLES as u64 {
            self.examples
                .push(format!("not removed: {}: {}", entry.relative_path, chain(error)));
        }
        self.failed += 1;
    }

    pub(super) fn has_leftovers(&self) -> bool {
        self.unnamed + self.uploads + self.empty_folders > 0
    }

    /// Too large a share of the contents has no row.
    pub(super) fn exceeds_threshold(&self, percent: u64) -> bool {
        self.unnamed > ALWAYS_ALLOWED && self.unnamed * 100 > self.contents * percent
    }

    /// One line.
    pub(super) fn log(&self) {
        let report = serde_json::to_string(self).unwrap_or_default();
        let is_clean = matches!(self.verdict, Verdict::Reported | Verdict::Swept)
            && self.missing + self.strange + self.failed == 0;
        if is_clean {
            tracing::info!(report, "swept FILES_ROOT");
        } else {
            tracing::warn!(
                report,
                examples = ?self.examples,
                "swept FILES_ROOT: something is not as it should be"
            );
        }
    }

    /// For this process's counters.
    pub(super) fn count(&self) {
        metrics::counter!("rag_files_removed_total").increment(self.removed);
        metrics::counter!("rag_files_removed_bytes_total").increment(self.removed_bytes);
    }

    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The last round's findings, as gauges: every worker shows the same.
pub(crate) async fn measure(context: &Context) -> Result<(), StepError> {
    let root = files_sweep::get(&mut *context.pool.acquire().await?).await?;
    let (Some(at), Some(report)) = (root.swept_at, root.report) else {
        return Ok(());
    };
    // Of another version of this program: the next round writes it anew.
    let Ok(report) = serde_json::from_value::<Report>(report) else {
        return Ok(());
    };
    #[expect(clippy::cast_precision_loss, reason = "gauges; nobody counts to 2^52 files")]
    let gauges = [
        ("rag_files_contents", report.contents as f64),
        ("rag_files_unnamed", (report.unnamed + report.uploads) as f64),
        ("rag_files_strange", report.strange as f64),
        ("rag_files_missing", report.missing as f64),
        (
            "rag_files_sweep_age_seconds",
            (Utc::now() - at).num_seconds().max(0) as f64,
        ),
    ];
    for (name, value) in gauges {
        metrics::gauge!(name).set(value);
    }
    let refused = matches!(report.verdict, Verdict::Refused(_) | Verdict::OverThreshold);
    metrics::gauge!("rag_files_sweep_refused").set(f64::from(u8::from(refused)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(contents: u64, unnamed: u64) -> Report {
        Report {
            contents,
            unnamed,
            ..Report::default()
        }
    }

    #[test]
    fn too_large_a_share_is_taken_for_a_mistake() {
        assert!(!report(100, 100).exceeds_threshold(20), "few are none");
        assert!(report(101, 101).exceeds_threshold(20));
        assert!(report(504, 101).exceeds_threshold(20));
        assert!(!report(505, 101).exceeds_threshold(20));
        assert!(report(1_000_000, 101).exceeds_threshold(0));
        assert!(!report(101, 101).exceeds_threshold(100));
    }

    #[test]
    fn a_report_comes_back_from_its_row() {
        for verdict in [Verdict::Swept, Verdict::Refused("why".to_owned())] {
            let mut report = report(7, 3);
            report.verdict = verdict.clone();
            let back: Report = serde_json::from_value(report.to_json()).unwrap();
            assert_eq!((back.verdict, back.contents, back.unnamed), (verdict, 7, 3));
        }
    }
}
