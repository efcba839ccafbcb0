//! Where indexes stand, for the many who ask.
//!
//! Looks at the database are shared, and counts of files, which take as long as there are files, are kept for [`FRESH`]:
//! as long as nothing else of the index differs. What callers change, and that a build begins or ends, is in an answer at
//! once; what workers do to single files meanwhile may be missing for so long.

use std::time::Duration;

use apalis_mariadb::JobKind as _;
use moka::sync::Cache;
use rag_db::status::{self, Counted, Counts, JobsOfIndexes, Standing};
use rag_domain::{BuildPlan, DomainId, IndexId};
use rag_jobs::IndexBuild;
use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlConnection, MySqlPool};

use crate::http::problem::Problem;
use crate::shared_looks::{Extent, Found, Look, SharedLooks};

/// How long counts may be kept.
const FRESH: Duration = Duration::from_secs(1);

/// Of how many indexes.
const MOST: u64 = 10_000;

/// Without files all indexes are alike, and a look at many takes hardly longer than one at a few.
const WITHOUT_FILES: Extent = Extent {
    at_once: 2,
    most_subjects: 16,
};

/// An index of many files takes its time, and others should not have to wait for it.
const WITH_FILES: Extent = Extent {
    at_once: 4,
    most_subjects: 4,
};

type Key = (DomainId, IndexId);

/// An index with its files.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) standing: Standing,
    pub(crate) counts: Counts,
}

/// What is asked and known of where indexes stand.
#[derive(Debug)]
pub(crate) struct Standings {
    db: MySqlPool,
    without_files: SharedLooks<Key, Standing>,
    with_files: SharedLooks<Key, Picture>,
    kept: Cache<Key, Picture>,
}

impl Standings {
    pub(crate) fn new(db: MySqlPool) -> Self {
        Self {
            db,
            without_files: SharedLooks::new(WITHOUT_FILES),
            with_files: SharedLooks::new(WITH_FILES),
            kept: Cache::builder().time_to_live(FRESH).max_capacity(MOST).build(),
        }
    }

    /// `None`: the domain has no such index.
    pub(crate) async fn get(&self, key: Key) -> Result<Option<Picture>, Problem> {
        let look = || DatabaseLook {
            db: self.db.clone(),
            kept: self.kept.clone(),
            connection: None,
        };
        if let Some(picture) = self.kept.get(&key) {
            match self.without_files.get(key.clone(), look()).await? {
                Some(standing) if standing.has_files_of(&picture.standing) => {
                    return Ok(Some(Picture { standing, ..picture }));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
        self.with_files.get(key, look()).await
    }
}

struct DatabaseLook {
    db: MySqlPool,
    kept: Cache<Key, Picture>,
    /// Kept from look to look: to fetch one and give it back takes as long as to read a row.
    connection: Option<PoolConnection<MySql>>,
}

impl Look<Key, Standing> for DatabaseLook {
    async fn look(&mut self, indexes: Vec<Key>) -> Result<Found<Key, Standing>, Problem> {
        let mut db = self.connect().await?;
        let prefix = IndexBuild::unique_key_prefix();
        let found = status::find_many(&mut db, &indexes, builds(&prefix)).await?;
        // Here and below: only one that has served well.
        self.connection = Some(db);
        Ok(found
            .into_iter()
            .map(|(key, standing)| (key, standing.map_err(Problem::from)))
            .collect())
    }
}

impl Look<Key, Picture> for DatabaseLook {
    async fn look(&mut self, indexes: Vec<Key>) -> Result<Found<Key, Picture>, Problem> {
        let mut db = self.connect().await?;
        let prefix = IndexBuild::unique_key_prefix();
        let mut found = Found::new();
        for (key, counted) in status::count_many(&mut db, &indexes, builds(&prefix)).await? {
            let picture = match counted {
                Ok(counted) => complete(&mut db, &key, counted).await,
                Err(error) => Err(error.into()),
            };
            if let Ok(picture) = &picture {
                self.kept.insert(key.clone(), picture.clone());
            }
            found.insert(key, picture);
        }
        self.connection = Some(db);
        Ok(found)
    }
}

fn builds(unique_key_prefix: &str) -> JobsOfIndexes<'_> {
    JobsOfIndexes {
        kind: IndexBuild::KIND,
        unique_key_prefix,
    }
}

impl DatabaseLook {
    async fn connect(&mut self) -> Result<PoolConnection<MySql>, Problem> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(self.db.acquire().await?),
        }
    }
}

async fn complete(db: &mut MySqlConnection, key: &Key, counted: Counted) -> Result<Picture, Problem> {
    let Counted { standing, counts } = counted;
    let counts = match counts {
        Some(counts) => counts,
        None => count(db, key).await?,
    };
    Ok(Picture { standing, counts })
}

/// By the plan of a build, file by file.
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
