//! Reading jobs: one, a page, or until it is over.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{MySql, QueryBuilder, Row};
use tokio::time::Instant;

use crate::error::QueueError;
use crate::id::JobId;
use crate::job::{Job, UnreadableJob};
use crate::queue::Queue;
use crate::row::{COLUMNS, job_from_row};
use crate::sql::padded;
use crate::state::State;

const MAX_PAGE: u32 = 500;
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// Which jobs to list; nothing set: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub tenant: Option<String>,
    pub kind: Option<String>,
    pub state: Option<State>,
    /// Found by going through the tenant's jobs, newest first: name the tenant, too.
    pub concurrency_key: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most 500.
    pub limit: u32,
    /// [`JobPage::next`] of the page before.
    pub after: Option<PageCursor>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            limit: 50,
            after: None,
        }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPage {
    /// A row that cannot be read hides no others.
    pub items: Vec<Result<Job, UnreadableJob>>,
    /// Where the next page starts; `None`: this was the last.
    pub next: Option<PageCursor>,
}

/// A position in a list. Its text is opaque, and good for the same filter only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PageCursor {
    id: JobId,
    /// For lists in the order of one state.
    position: Option<(i64, String)>,
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            None => self.id.fmt(f),
            Some((order_us, kind)) => write!(f, "{}~{order_us}~{kind}", self.id),
        }
    }
}

/// The text is no cursor that this crate gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no page cursor")]
pub struct InvalidCursor;

impl FromStr for PageCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '~');
        let id = parts.next().and_then(|id| id.parse().ok()).ok_or(InvalidCursor)?;
        let position = match (parts.next(), parts.next()) {
            (None, None) => None,
            (Some(order_us), Some(kind)) => {
                Some((order_us.parse().map_err(|_| InvalidCursor)?, kind.to_owned()))
            }
            _ => return Err(InvalidCursor),
        };
        Ok(Self { id, position })
    }
}

impl From<PageCursor> for String {
    fn from(cursor: PageCursor) -> Self {
        cursor.to_string()
    }
}

impl TryFrom<String> for PageCursor {
    type Error = InvalidCursor;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Queue {
    pub async fn find_job(&self, id: JobId) -> Result<Option<Job>, QueueError> {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new("SELECT ");
        query
            .push(COLUMNS)
            .push(" FROM queue_jobs WHERE id = ")
            .push_bind(id);
        let row = query.build().fetch_optional(self.pool()).await?;
        row.as_ref().map(|row| Ok(job_from_row(row)??)).transpose()
    }

    /// Those of these jobs that there are, in one statement. One whose row can't be read has an error of its own.
    pub async fn find_jobs(
        &self,
        ids: &[JobId],
    ) -> Result<HashMap<JobId, Result<Job, QueueError>>, QueueError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query: QueryBuilder<MySql> = QueryBuilder::new("SELECT ");
        query.push(COLUMNS).push(" FROM queue_jobs WHERE id IN (");
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(id);
        }
        query.push(")");
        let rows = query.build().fetch_all(self.pool()).await?;
        let found = rows.iter().map(|row| {
            let job = job_from_row(row)?.map_err(QueueError::from);
            Ok((row.try_get("id")?, job))
        });
        found.collect()
    }

    /// Newest first. With a state, and neither a tenant nor a key: by kind, and within a kind the latest in that state first, so that a
    /// few failed jobs among a million others are found at once.
    pub async fn list_jobs(&self, filter: &JobFilter, page: &Page) -> Result<JobPage, QueueError> {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let by_key = filter.concurrency_key.is_some();
        let by_state = filter.state.is_some() && filter.tenant.is_none() && !by_key;
        let mut query: QueryBuilder<MySql> = QueryBuilder::new("SELECT ");
        query.push(COLUMNS).push(" FROM queue_jobs ");
        if by_state {
            query.push("FORCE INDEX (ix_queue_jobs_order) ");
        } else if by_key {
            query.push("FORCE INDEX (ix_queue_jobs_concurrency) ");
        }
        query.push("WHERE TRUE");
        if let Some(tenant) = &filter.tenant {
            query.push(" AND tenant = ").push_bind(tenant);
        }
        if let Some(kind) = &filter.kind {
            query.push(" AND kind = ").push_bind(kind);
        }
        if let Some(key) = &filter.concurrency_key {
            query.push(" AND concurrency_key = ").push_bind(key);
        }
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        match page.after.as_ref().map(|cursor| (cursor.id, &cursor.position)) {
            Some((id, Some((order_us, kind)))) if by_state => {
                query
                    .push(" AND (kind < ")
                    .push_bind(kind)
                    .push(" OR (kind = ")
                    .push_bind(kind);
                query
                    .push(" AND (order_us < ")
                    .push_bind(order_us)
                    .push(" OR (order_us = ")
                    .push_bind(order_us);
                query.push(" AND id < ").push_bind(id).push("))))");
            }
            Some((id, _)) => {
                query.push(" AND id < ").push_bind(id);
            }
            None => {}
        }
        query.push(if by_state {
            " ORDER BY kind DESC, order_us DESC, id DESC"
        } else {
            " ORDER BY id DESC"
        });
        query.push(" LIMIT ").push_bind(limit + 1);

        let mut rows = query.build().fetch_all(self.pool()).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = match rows.last() {
            Some(last) if more => {
                let position = by_state
                    .then(|| Ok::<_, sqlx::Error>((last.try_get("order_us")?, last.try_get("kind")?)));
                Some(PageCursor {
                    id: last.try_get("id")?,
                    position: position.transpose()?,
                })
            }
            _ => None,
        };
        let items = rows.iter().map(job_from_row).collect::<Result<_, _>>()?;
        Ok(JobPage { items, next })
    }

    /// Waits until the job is over, at most for `timeout`; answers the job as it is then.
    pub async fn wait_finished(&self, id: JobId, timeout: Duration) -> Result<Option<Job>, QueueError> {
        let deadline = Instant::now() + timeout;
        let mut pause = FIRST_LOOK;
        loop {
            let job = self.find_job(id).await?;
            let over = job.as_ref().is_none_or(|job| job.state.is_finished());
            let left = deadline.saturating_duration_since(Instant::now());
            if over || left.is_zero() {
                return Ok(job);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = pause.mul_f32(1.3).min(LONGEST_LOOK);
        }
    }
}

impl Queue {
    /// The active job of this kind that has this unique key; sees the caller's transaction.
    pub async fn find_active(
        &self,
        conn: &mut sqlx::MySqlConnection,
        kind: &str,
        unique_key: &str,
    ) -> Result<Option<JobId>, QueueError> {
        let id = sqlx::query_scalar("SELECT job_id FROM queue_unique_keys WHERE kind = ? AND unique_key = ?")
            .bind(kind)
            .bind(unique_key)
            .fetch_optional(conn)
            .await?;
        Ok(id)
    }
}

impl Queue {
    /// The job that has this concurrency key: one that is ready, runs, backs off or snoozes. Sees the caller's transaction.
    pub async fn find_key_holder(
        &self,
        conn: &mut sqlx::MySqlConnection,
        concurrency_key: &str,
    ) -> Result<Option<JobId>, QueueError> {
        let id = sqlx::query_scalar("SELECT job_id FROM queue_concurrency_keys WHERE concurrency_key = ?")
            .bind(concurrency_key)
            .fetch_optional(conn)
            .await?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_text() {
        let id = JobId::generate();
        for position in [None, Some((-7, "build:index-1".to_owned()))] {
            let cursor = PageCursor { id, position };
            assert_eq!(cursor.to_string().parse::<PageCursor>().unwrap(), cursor);
        }
        assert!("x~1~a".parse::<PageCursor>().is_err());
        assert!(format!("{id}~1").parse::<PageCursor>().is_err());
    }
}
