//! A database of the run's own, and jobs in bulk, made by the server itself.

use std::time::Duration;

use anyhow::{Context, Result};
use apalis_mariadb::{Queue, QueueConfig};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, MySqlPool};

const NOW_US: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";

pub(crate) struct Database {
    pub(crate) pool: MySqlPool,
    pub(crate) url: String,
    name: String,
}

impl Database {
    pub(crate) async fn create() -> Result<Self> {
        let server = std::env::var("DATABASE_URL").context("DATABASE_URL names the server to measure on")?;
        let name = format!("queue_bench_{}", std::process::id());
        let url = format!(
            "{}/{name}",
            server
                .rsplit_once('/')
                .context("DATABASE_URL names no database")?
                .0
        );
        let admin = MySqlPool::connect(&server).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&admin)
            .await?;
        let options: MySqlConnectOptions = url.parse()?;
        let pool = MySqlPoolOptions::new()
            .max_connections(32)
            .connect_with(options)
            .await?;
        sqlx::migrate!("../../migrations").run(&pool).await?;
        Ok(Self { pool, url, name })
    }

    pub(crate) async fn drop(&self) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {}", self.name)))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) fn queue(&self) -> Queue {
        Queue::new(self.pool.clone(), QueueConfig::default())
    }

    /// Jobs of the kind that does nothing, as if enqueued one a microsecond.
    pub(crate) async fn fill(&self, state: &str, jobs: u64) -> Result<()> {
        const CHUNK: u64 = 100_000;
        let mut left = jobs;
        while left > 0 {
            let rows = left.min(CHUNK);
            let insert = format!(
                "INSERT INTO queue_jobs (id, kind, state, order_us, rank_us, max_attempts, payload, created_at) \
                 SELECT UNHEX(CONCAT(LPAD(HEX({NOW_US} DIV 1000), 12, '0'), '7', LPAD(HEX(seq), 13, '0'), '000000')), \
                   'nothing', '{state}', {NOW_US} - 3600000000 + seq, {NOW_US} - 3600000000 + seq, 10, '{{}}', \
                   UTC_TIMESTAMP(6) FROM seq_1_to_{rows}"
            );
            sqlx::raw_sql(AssertSqlSafe(insert)).execute(&self.pool).await?;
            left -= rows;
        }
        Ok(())
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        for table in ["queue_jobs", "queue_workers"] {
            sqlx::raw_sql(AssertSqlSafe(format!("TRUNCATE TABLE {table}")))
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    /// The server's clock, microseconds.
    pub(crate) async fn now_us(&self) -> Result<i64> {
        Ok(sqlx::query_scalar(AssertSqlSafe(format!("SELECT {NOW_US}")))
            .fetch_one(&self.pool)
            .await?)
    }

    /// Jobs done since, and the microseconds from the first to the last of them.
    pub(crate) async fn done_since(&self, since_us: i64) -> Result<(i64, i64)> {
        let (jobs, first, last): (i64, Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT COUNT(*), MIN(order_us), MAX(order_us) FROM queue_jobs FORCE INDEX (ix_queue_jobs_order) \
             WHERE state = 'done' AND kind = 'nothing' AND order_us > ?",
        )
        .bind(since_us)
        .fetch_one(&self.pool)
        .await?;
        Ok((jobs, last.unwrap_or(0) - first.unwrap_or(0)))
    }

    /// Waits until InnoDB has cleared away what earlier measurements deleted.
    pub(crate) async fn settle(&self) -> Result<()> {
        for _ in 0..300 {
            let (_, length): (String, String) =
                sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'")
                    .fetch_one(&self.pool)
                    .await?;
            if length.parse::<u64>()? < 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}
