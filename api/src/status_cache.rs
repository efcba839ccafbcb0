//! The status of indexes, which callers poll.
//!
//! Concurrent callers share reads of the database. Counting files takes time in proportion to the files, so counts are cached
//! for [`TTL`], as long as the index's own row, which every answer reads, has the same revision. A change by a caller, and the
//! beginning and end of a build, is in the next answer; what workers do to single files may be missing for that long.
//!
//! Measured with `tests/bench` (ratio to a bare select, the lowest and the highest of one index or one for each caller, at rest or
//! being built), when tasks of their own still read for the callers: with this cache and that of jobs 0.9 to 1.1 for 64 callers and
//! 1.6 to 2.3 for 8; without both 0.9 to 3.2 and 2.9 to 5.7.

use std::time::Duration;

use apalis_mariadb::JobKind as _;
use moka::sync::Cache;
use rag_db::status::{self, Counted, Counts, IndexState, JobsOfIndexes};
use rag_domain::{BuildPlan, DomainId, IndexId};
use rag_jobs::IndexBuild;
use sqlx::{MySqlConnection, MySqlPool};

use crate::batch_loader::{BatchLoader, Limits, Load, Loaded};
use crate::http::problem::Problem;
use crate::kept_connections::KeptConnections;

/// How long counts are cached.
const TTL: Duration = Duration::from_secs(1);

const MAX_CACHED: u64 = 10_000;

/// Without counts a batch of many indexes takes hardly longer than one of a few, so one after another is the least work.
const WITHOUT_FILES: Limits = Limits {
    max_concurrent: 1,
    max_batch: 32,
};

/// Counting a large index takes time, and few others should wait for it.
const WITH_FILES: Limits = Limits {
    max_concurrent: 4,
    max_batch: 4,
};

type Key = (DomainId, IndexId);

/// An index with its files.
#[derive(Debug, Clone)]
pub(crate) struct StatusSnapshot {
    pub(crate) state: IndexState,
    pub(crate) counts: Counts,
}

/// Reads the status of indexes, and caches their counts.
#[derive(Debug)]
pub(crate) struct StatusCache {
    connections: KeptConnections,
    without_files: BatchLoader<Key, IndexState>,
    with_files: BatchLoader<Key, StatusSnapshot>,
    cached: Cache<Key, StatusSnapshot>,
}

impl StatusCache {
    pub(crate) fn new(db: MySqlPool) -> Self {
        Self {
            connections: KeptConnections::new(db),
            without_files: BatchLoader::new(WITHOUT_FILES),
            with_files: BatchLoader::new(WITH_FILES),
            cached: Cache::builder()
                .time_to_live(TTL)
                .max_capacity(MAX_CACHED)
                .build(),
        }
    }

    /// `None`: the domain has no such index.
    pub(crate) async fn get(&self, key: Key) -> Result<Option<StatusSnapshot>, Problem> {
        if let Some(snapshot) = self.cached.get(&key) {
            match self.without_files.get(key.clone(), self).await? {
                Some(state) if state.same_revision_as(&snapshot.state) => {
                    return Ok(Some(StatusSnapshot { state, ..snapshot }));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
        self.with_files.get(key, self).await
    }
}

impl Load<Key, IndexState> for StatusCache {
    async fn load(&self, indexes: Vec<Key>) -> Result<Loaded<Key, IndexState>, Problem> {
        let mut db = self.connections.take().await?;
        let prefix = IndexBuild::unique_key_prefix();
        let found = status::find_many(&mut db, &indexes, builds(&prefix)).await?;
        // Here and below: a connection is kept only after it has worked.
        self.connections.keep(db);
        Ok(found
            .into_iter()
            .map(|(key, state)| (key, state.map_err(Problem::from)))
            .collect())
    }
}

impl Load<Key, StatusSnapshot> for StatusCache {
    async fn load(&self, indexes: Vec<Key>) -> Result<Loaded<Key, StatusSnapshot>, Problem> {
        let mut db = self.connections.take().await?;
        let prefix = IndexBuild::unique_key_prefix();
        let mut found = Loaded::new();
        for (key, counted) in status::count_many(&mut db, &indexes, builds(&prefix)).await? {
            let snapshot = match counted {
                Ok(counted) => complete(&mut db, &key, counted).await,
                Err(error) => Err(error.into()),
            };
            if let Ok(snapshot) = &snapshot {
                self.cached.insert(key.clone(), snapshot.clone());
            }
            found.insert(key, snapshot);
        }
        self.connections.keep(db);
        Ok(found)
    }
}

fn builds(unique_key_prefix: &str) -> JobsOfIndexes<'_> {
    JobsOfIndexes {
        kind: IndexBuild::KIND,
        unique_key_prefix,
    }
}

async fn complete(db: &mut MySqlConnection, key: &Key, counted: Counted) -> Result<StatusSnapshot, Problem> {
    let Counted { state, counts } = counted;
    let counts = match counts {
        Some(counts) => counts,
        None => count(db, key).await?,
    };
    Ok(StatusSnapshot { state, counts })
}

/// Counts by the plan of a build, file by file.
async fn count(db: &mut MySqlConnection, (domain, index): &Key) -> Result<Counts, Problem> {
    let (desired, present) = status::files(db, domain, *index).await?;
    let plan = BuildPlan::new(&desired, &present);
    let pending = plan.attach.len() as u64;
    Ok(Counts {
        pending,
        in_progress: plan.counts.in_progress.saturating_sub(pending),
        completed: plan.counts.completed,
        failed: plan.counts.failed,
        cancelled: plan.counts.cancelled,
    })
}
