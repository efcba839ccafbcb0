//! The schema's version: applied by one command, checked by every program at its start.

use std::sync::LazyLock;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{Connection as _, MySqlPool};

/// All migrations, embedded: the queue's and ours, in the order of their versions. They are never edited once landed;
/// `tests/schema.rs` has their hashes.
pub static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let queue = sqlx::migrate!("../queue/migrations");
    let ours = sqlx::migrate!("../../migrations");
    let mut migrator = Migrator::with_migrations(queue.iter().chain(ours.iter()).cloned().collect());
    // The lock is `migrate`'s: sqlx asks for `GET_LOCK(…, -1)`, which MariaDB does not take for "wait".
    migrator.set_locking(false);
    migrator
});

const LOCK_WAIT_SECONDS: u32 = 300;

/// The database and this program do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the database has no schema yet: run `rag-api migrate` first")]
    Empty,
    #[error("the database lacks {0} migration(s) of this version: run `rag-api migrate` first")]
    Behind(usize),
    #[error(
        "the database was migrated by a newer version (migration {0} is unknown here): upgrade this program"
    )]
    Ahead(i64),
    #[error(
        "the database was made before the first release (by migration {0}), and no release can take it over: create a new, empty database and run `rag-api migrate` on that one"
    )]
    BeforeFirstRelease(i64),
    #[error("migration {0} in the database differs from the one in this program")]
    Changed(i64),
    #[error("another migration has held the lock for {LOCK_WAIT_SECONDS} seconds")]
    Locked,
    #[error("the schema could not be read or applied")]
    Migrate(#[source] MigrateError),
    #[error("the database failed")]
    Sqlx(#[from] sqlx::Error),
}

impl From<MigrateError> for SchemaError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::unknown(version),
            // It failed half-way, but it is none of ours.
            MigrateError::Dirty(version) if is_before_first_release(version) => {
                Self::BeforeFirstRelease(version)
            }
            MigrateError::VersionMismatch(version) => Self::Changed(version),
            error => Self::Migrate(error),
        }
    }
}

impl SchemaError {
    /// The database has a migration that this program does not.
    fn unknown(version: i64) -> Self {
        if is_before_first_release(version) {
            Self::BeforeFirstRelease(version)
        } else {
            Self::Ahead(version)
        }
    }
}

/// Development before the first release had a longer list of migrations, all of them with older versions.
fn is_before_first_release(version: i64) -> bool {
    MIGRATOR
        .iter()
        .next()
        .is_some_and(|first| version < first.version)
}

/// Brings the schema to this program's version. Safe to run from several places at once.
pub async fn migrate(pool: &MySqlPool) -> Result<(), SchemaError> {
    // A connection of its own, closed at the end: that gives the lock back however this ends.
    let mut holder = pool.acquire().await?.detach();
    let lock: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(CONCAT('rag-indexer migrate ', DATABASE()), ?)")
            .bind(LOCK_WAIT_SECONDS)
            .fetch_one(&mut holder)
            .await?;
    if lock != Some(1) {
        return Err(SchemaError::Locked);
    }
    let result = MIGRATOR.run(pool).await;
    // How this connection ends says nothing about the migration: the server gives the lock back either way.
    let _closed = holder.close().await;
    Ok(result?)
}

/// Errors unless the schema is exactly the one that this program was built for.
pub async fn check_schema(pool: &MySqlPool) -> Result<(), SchemaError> {
    let mut connection = pool.acquire().await?;
    let table: Option<String> = sqlx::query_scalar(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'",
    )
    .fetch_optional(&mut *connection)
    .await?;
    if table.is_none() {
        return Err(SchemaError::Empty);
    }
    let applied = connection.list_applied_migrations(&MIGRATOR.table_name).await?;
    for migration in &applied {
        match MIGRATOR.iter().find(|known| known.version == migration.version) {
            None => return Err(SchemaError::unknown(migration.version)),
            Some(known) if known.checksum != migration.checksum => {
                return Err(SchemaError::Changed(migration.version));
            }
            Some(_) => {}
        }
    }
    match MIGRATOR.iter().count().saturating_sub(applied.len()) {
        0 => Ok(()),
        missing => Err(SchemaError::Behind(missing)),
    }
}
