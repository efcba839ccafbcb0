//! A job's position: how many go before a job that waits. Never counts far: what matters to whoever waits is whether it is soon.

use crate::error::QueueError;
use crate::job::Job;
use crate::queue::Queue;
use crate::state::State;

/// Further ahead than this is far.
const FAR: i64 = 1000;

impl Queue {
    /// Jobs that will be taken before this one, as it was read: for a ready job those of its kind, for a blocked one those
    /// that get the concurrency key first, the holder included. `None`: it is in no line, or more than 1000 are ahead.
    pub async fn count_ahead(&self, job: &Job) -> Result<Option<u32>, QueueError> {
        let ahead = match job.state {
            State::Ready => self.ready_ahead(job).await?,
            State::Blocked => self.blocked_ahead(job).await?,
            _ => None,
        };
        Ok(ahead
            .filter(|ahead| *ahead <= FAR)
            .and_then(|ahead| u32::try_from(ahead).ok()))
    }

    async fn ready_ahead(&self, job: &Job) -> Result<Option<i64>, QueueError> {
        let position: Option<i64> =
            sqlx::query_scalar("SELECT order_us FROM queue_jobs WHERE id = ? AND state = 'ready'")
                .bind(job.id)
                .fetch_optional(self.pool())
                .await?;
        let Some(order_us) = position else { return Ok(None) };
        let ahead = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
             WHERE state = 'ready' AND kind = ? AND (order_us < ? OR (order_us = ? AND id < ?)) LIMIT ?) AS ahead",
        )
        .bind(&job.kind)
        .bind(order_us)
        .bind(order_us)
        .bind(job.id)
        .bind(FAR + 1)
        .fetch_one(self.pool())
        .await?;
        Ok(Some(ahead))
    }

    async fn blocked_ahead(&self, job: &Job) -> Result<Option<i64>, QueueError> {
        let rank: Option<i64> =
            sqlx::query_scalar("SELECT rank_us FROM queue_blocked WHERE concurrency_key = ? AND job_id = ?")
                .bind(&job.concurrency_key)
                .bind(job.id)
                .fetch_optional(self.pool())
                .await?;
        let Some(rank_us) = rank else { return Ok(None) };
        let in_line: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 FROM queue_blocked \
             WHERE concurrency_key = ? AND (rank_us < ? OR (rank_us = ? AND job_id < ?)) LIMIT ?) AS ahead",
        )
        .bind(&job.concurrency_key)
        .bind(rank_us)
        .bind(rank_us)
        .bind(job.id)
        .bind(FAR)
        .fetch_one(self.pool())
        .await?;
        Ok(Some(in_line + 1))
    }
}
