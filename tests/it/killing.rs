//! Workers that are killed one after the other while they work.

use std::time::{Duration, Instant};

use rag_tests::{Client, Stack};
use serde_json::Value;

pub(crate) struct Killing {
    /// That work at the same time.
    pub(crate) workers: usize,
    /// From one kill to the next.
    pub(crate) every: Duration,
    pub(crate) limit: Duration,
}

impl Killing {
    /// Kills one of the workers every now and then until the job at `path`, as this client sees it, is over: the job, how
    /// many were killed, and the most memory that one had.
    pub(crate) async fn until_over(&self, stack: &Stack, client: &Client, path: &str) -> (Value, usize, u64) {
        let begun = Instant::now();
        let (mut kills, mut peak_kib) = (0_usize, 0);
        let names = (0..self.workers).map(|n| format!("first-{n}"));
        let mut workers: Vec<_> = names.map(|name| stack.worker(&name)).collect();
        loop {
            let killing = Instant::now() + self.every;
            let mut over = None;
            while Instant::now() < killing && over.is_none() {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let job = client.get(path).await.expect(200);
                over = ["done", "failed", "cancelled"]
                    .contains(&job["state"].as_str().unwrap())
                    .then_some(job);
            }
            peak_kib = workers
                .iter()
                .filter_map(rag_tests::Program::peak_memory_kib)
                .fold(peak_kib, u64::max);
            if let Some(job) = over {
                return (job, kills, peak_kib);
            }
            assert!(
                begun.elapsed() < self.limit,
                "still at it: {}",
                client.get(path).await.body
            );
            // The one that has been there longest; another one goes on, or takes over.
            workers.remove(0).kill().await;
            workers.push(stack.worker(&format!("worker-{kills}")));
            kills += 1;
            if kills.is_multiple_of(10) {
                let job = client.get(path).await.expect(200);
                let progress = [&job["progress"], &job["sync_progress"]];
                eprintln!(
                    "{:?}: {kills} kills, {peak_kib} KiB at most, {progress:?}",
                    begun.elapsed()
                );
            }
        }
    }
}
