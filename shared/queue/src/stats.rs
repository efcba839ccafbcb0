//! Numbers for dashboards and metrics, without counting a million rows at every scrape.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::error::QueueError;
use crate::queue::Queue;
use crate::sql::now_us;
use crate::state::State;

/// The queue in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    pub kinds: BTreeMap<String, KindStats>,
}

/// One kind in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KindStats {
    /// Jobs per state, as of `counted_at`: a worker counts every 15 s, or more seldom if that takes long.
    pub jobs: BTreeMap<State, u64>,
    pub counted_at: Option<DateTime<Utc>>,
    /// How long the next job to be claimed has been claimable, in seconds; 0 if there is none. Live.
    pub oldest_ready_seconds: f64,
    /// Jobs that got done in the last minute. Live.
    pub done_last_minute: u64,
    pub paused: bool,
}

impl Queue {
    /// Counts are a worker's latest; ages and throughput are read now, from a few index entries each.
    pub async fn stats(&self) -> Result<Stats, QueueError> {
        let mut stats = Stats::default();
        let counts: Vec<(String, String, u64, DateTime<Utc>)> =
            sqlx::query_as("SELECT kind, CAST(state AS CHAR), jobs, counted_at FROM queue_counts")
                .fetch_all(self.pool())
                .await?;
        for (kind, state, jobs, counted_at) in counts {
            let kind = stats.kinds.entry(kind).or_default();
            kind.counted_at = Some(counted_at);
            if let Ok(state) = state.parse() {
                kind.jobs.insert(state, jobs);
            }
        }
        for kind in self.paused_kinds().await? {
            stats.kinds.entry(kind).or_default().paused = true;
        }
        for (kind, seconds) in self.oldest_ready().await? {
            stats.kinds.entry(kind).or_default().oldest_ready_seconds = seconds;
        }
        for (kind, kind_stats) in &mut stats.kinds {
            kind_stats.done_last_minute = self.done_last_minute(kind).await?;
        }
        Ok(stats)
    }

    async fn oldest_ready(&self) -> Result<Vec<(String, f64)>, QueueError> {
        // MIN over (state, kind) is a loose scan: one index entry per kind, however many wait.
        let select = format!(
            "SELECT first.kind, GREATEST(0, ({now} - jobs.rank_us - 60000000 * jobs.priority)) / 1e6 \
             FROM (SELECT kind, MIN(order_us) AS order_us FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
                   WHERE state = 'ready' GROUP BY kind) AS first \
             JOIN queue_jobs AS jobs FORCE INDEX (ix_queue_jobs_order) \
               ON jobs.state = 'ready' AND jobs.kind = first.kind AND jobs.order_us = first.order_us",
            now = now_us!()
        );
        let rows: Vec<(String, f64)> = sqlx::query_as(AssertSqlSafe(select))
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    async fn done_last_minute(&self, kind: &str) -> Result<u64, QueueError> {
        let select = format!(
            "SELECT COUNT(*) FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
             WHERE state = 'done' AND kind = ? AND order_us > {} - 60000000",
            now_us!()
        );
        let done: i64 = sqlx::query_scalar(AssertSqlSafe(select))
            .bind(kind)
            .fetch_one(self.pool())
            .await?;
        Ok(u64::try_from(done).unwrap_or(0))
    }
}
