//! What one run took, and the middle of several.

use rag_bench::figures::median;

use crate::provider::Calls;

#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of the workers, or of the SDK's process.
    pub(crate) cpu: f64,
    /// Of the worker that had the most.
    pub(crate) peak_mib: f64,
    /// Ours alone, of all programs together.
    pub(crate) statements: f64,
    pub(crate) commits: f64,
    pub(crate) calls: Calls,
}

impl Usage {
    /// Each figure's median. Calls are those of the last run.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        Self {
            wall: of(|run| run.wall),
            cpu: of(|run| run.cpu),
            peak_mib: of(|run| run.peak_mib),
            statements: of(|run| run.statements),
            commits: of(|run| run.commits),
            calls: runs.last().map(|run| run.calls.clone()).unwrap_or_default(),
        }
    }
}
