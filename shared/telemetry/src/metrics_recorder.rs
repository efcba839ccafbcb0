//! The process's metrics: recorded through the `metrics` macros, served as Prometheus text.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;

/// Seconds, for every histogram whose name ends in `_seconds`: from a fast query to a long build.
const SECONDS_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0,
];

/// How often recorded samples are folded into histograms when they are not asked for.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
#[error("metrics could not be set up")]
pub struct MetricsError(#[from] BuildError);

/// Reads what was recorded. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Makes this the process's recorder and keeps it tidy in a background task. Once per process, within a runtime.
    pub fn install() -> Result<Self, MetricsError> {
        let handle = builder()?.install_recorder()?;
        let upkeep = handle.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP_EVERY);
            loop {
                ticks.tick().await;
                upkeep.run_upkeep();
            }
        });
        Ok(Self { handle })
    }

    /// A recorder that nothing records into: for tests of the route that serves it.
    pub fn detached() -> Result<Self, MetricsError> {
        Ok(Self {
            handle: builder()?.build_recorder().handle(),
        })
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_recorded_is_rendered() {
        let metrics = Metrics::install().unwrap();
        metrics::counter!("rag_test_total", "kind" => "a").increment(3);
        metrics::histogram!("rag_test_seconds").record(0.02);
        let text = metrics.render();
        assert!(text.contains("rag_test_total{kind=\"a\"} 3"), "{text}");
        assert!(text.contains("rag_test_seconds_bucket{le=\"0.025\"} 1"), "{text}");
        assert!(Metrics::install().is_err(), "a process has one recorder");
    }
}
