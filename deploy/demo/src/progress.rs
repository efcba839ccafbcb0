//! A build's progress on the terminal: bars, or lines where standard output is not a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::api::{Counts, Job};

/// Lines come at most so often, except the last.
const LINE_EVERY: Duration = Duration::from_millis(500);
const STAGES: [&str; 3] = ["uploaded", "attached", "indexed"];

#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    files: u64,
    last: Option<(String, Counts)>,
    last_error: Option<String>,
    view: View,
}

#[derive(Debug)]
enum View {
    Bars {
        all: MultiProgress,
        bars: [ProgressBar; 3],
    },
    Lines {
        printed_at: Option<Instant>,
        printed: String,
    },
}

impl Progress {
    pub(crate) fn new(files: u64) -> Self {
        let view = if std::io::stdout().is_terminal() {
            bars(files)
        } else {
            lines()
        };
        Self {
            started: Instant::now(),
            files,
            last: None,
            last_error: None,
            view,
        }
    }

    /// Shows the job as it is now; answers whether it moved.
    pub(crate) fn show(&mut self, job: &Job) -> bool {
        let counts = job.progress.unwrap_or(Counts {
            files_total: self.files,
            ..Counts::default()
        });
        let total = counts.files_total.max(1);
        let done = [
            counts.files_uploaded,
            counts.files_attached,
            counts.files_completed,
        ];
        let failed = counts.files_failed;
        let now = (job.state.clone(), counts);
        let has_moved = self.last.as_ref() != Some(&now);
        self.last = Some(now);
        self.show_error(job);

        match &mut self.view {
            View::Bars { bars, .. } => {
                for (bar, value) in bars.iter().zip(done) {
                    bar.set_length(total);
                    bar.set_position(value);
                }
                let note = if failed > 0 {
                    format!("{failed} failed")
                } else {
                    job.state.clone()
                };
                bars[2].set_message(note);
            }
            View::Lines { printed_at, printed } => {
                let text = line(&job.state, total, done, failed);
                let is_due = printed_at.is_none_or(|at| at.elapsed() >= LINE_EVERY);
                if text != *printed && (is_due || job.has_ended()) {
                    println!("{:6.1} s  {text}", self.started.elapsed().as_secs_f32());
                    *printed = text;
                    *printed_at = Some(Instant::now());
                }
            }
        }
        has_moved
    }

    /// A failed attempt is news, though another one follows.
    fn show_error(&mut self, job: &Job) {
        if job.has_ended() || job.last_error.is_none() || self.last_error == job.last_error {
            return;
        }
        self.last_error.clone_from(&job.last_error);
        let text = job.last_error.as_deref().unwrap_or_default();
        let message = format!("attempt {} failed and will be repeated: {text}", job.attempts);
        match &self.view {
            // Above the bars.
            View::Bars { all, .. } => drop(all.println(message)),
            View::Lines { .. } => println!("          {message}"),
        }
    }

    pub(crate) fn finish(&self) {
        if let View::Bars { bars, .. } = &self.view {
            for bar in bars {
                bar.abandon();
            }
        }
    }
}

fn bars(files: u64) -> View {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    let style = ProgressStyle::with_template("{prefix:>9} [{bar:40}] {pos}/{len} {msg}");
    let style = style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let bars = STAGES.map(|stage| {
        all.add(ProgressBar::new(files))
            .with_style(style.clone())
            .with_prefix(stage)
    });
    View::Bars { all, bars }
}

fn lines() -> View {
    View::Lines {
        printed_at: None,
        printed: String::new(),
    }
}

fn line(state: &str, total: u64, done: [u64; 3], failed: u64) -> String {
    let [uploaded, attached, indexed] = done;
    let failures = if failed > 0 {
        format!("  failed {failed}")
    } else {
        String::new()
    };
    format!(
        "uploaded {uploaded}/{total}  attached {attached}/{total}  indexed {indexed}/{total}{failures}  ({state})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: &str, completed: u64) -> Job {
        let progress = Counts {
            files_total: 2,
            files_completed: completed,
            ..Counts::default()
        };
        Job {
            id: "j".into(),
            state: state.into(),
            attempts: 0,
            last_error: None,
            progress: Some(progress),
        }
    }

    #[test]
    fn only_changes_count_as_moves() {
        let mut progress = Progress {
            started: Instant::now(),
            files: 2,
            last: None,
            last_error: None,
            view: lines(),
        };
        assert!(progress.show(&job("running", 0)));
        assert!(!progress.show(&job("running", 0)));
        assert!(progress.show(&job("running", 1)));
        assert!(progress.show(&job("done", 1)));
    }

    #[test]
    fn failures_are_shown_when_there_are_some() {
        assert_eq!(
            line("running", 3, [3, 2, 1], 0),
            "uploaded 3/3  attached 2/3  indexed 1/3  (running)"
        );
        assert!(line("running", 3, [3, 3, 1], 2).contains("failed 2"));
    }
}
