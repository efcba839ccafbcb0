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
    /// If the server runs on this machine.
    pub(crate) server_pid: Option<u32>,
    name: String,
}

impl Database {
    pub(crate) async fn create() -> Result<Self> {
        Self::create_named(format!("queue_bench_{}", std::process::id())).await
    }

    /// Another one on the same server.
    pub(crate) async fn create_beside(&self, suffix: &str) -> Result<Self> {
        Self::create_named(format!("{}_{suffix}", self.name)).await
    }

    async fn create_named(name: String) -> Result<Self> {
        let server = std::env::var("DATABASE_URL").context("DATABASE_URL names the server to measure on")?;
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
        sqlx::migrate!("../../shared/queue/migrations").run(&pool).await?;
        let server_pid = server_pid(&pool).await?;
        Ok(Self {
            pool,
            url,
            server_pid,
            name,
        })
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

    /// Jobs done between two moments, and the microseconds from the first moment to the last of the jobs.
    pub(crate) async fn done_between(&self, from_us: i64, until_us: i64) -> Result<(f64, f64)> {
        let (jobs, span_us): (f64, f64) = sqlx::query_as(
            "SELECT CAST(COUNT(*) AS DOUBLE), CAST(COALESCE(MAX(order_us), 0) - ? AS DOUBLE) FROM queue_jobs \
             FORCE INDEX (ix_queue_jobs_order) \
             WHERE state = 'done' AND kind = 'nothing' AND order_us > ? AND order_us <= ?",
        )
        .bind(from_us)
        .bind(from_us)
        .bind(until_us)
        .fetch_one(&self.pool)
        .await?;
        anyhow::ensure!(jobs > 0.0, "no job was done");
        Ok((jobs, span_us))
    }

    /// What it is measured on.
    pub(crate) async fn server(&self) -> Result<String> {
        let (version, buffer, flush): (String, u64, u64) = sqlx::query_as(
            "SELECT VERSION(), CAST(@@innodb_buffer_pool_size DIV 1048576 AS UNSIGNED), \
             CAST(@@innodb_flush_log_at_trx_commit AS UNSIGNED)",
        )
        .fetch_one(&self.pool)
        .await?;
        let cores = std::thread::available_parallelism()?;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?").to_owned();
        Ok(format!(
            "{version}, buffer pool {buffer} MiB, innodb_flush_log_at_trx_commit = {flush}; {cores} cores for server and \
             clients together, load before the run {load}."
        ))
    }

    /// For an hour.
    pub(crate) async fn put_off_counting(&self) -> Result<()> {
        let statement = format!("UPDATE queue_tasks SET due_us = {NOW_US} + 3600000000 WHERE task = 'count'");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How often InnoDB has ended a transaction because of a deadlock, since the server started.
    pub(crate) async fn deadlocks(&self) -> Result<u64> {
        let (_, count): (String, String) = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
            .fetch_one(&self.pool)
            .await?;
        Ok(count.parse()?)
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

/// By the server's own pid file, if it is there and names a server.
async fn server_pid(pool: &MySqlPool) -> Result<Option<u32>> {
    let file: String =
        sqlx::query_scalar("SELECT CONCAT(IF(@@pid_file LIKE '/%', '', @@datadir), @@pid_file)")
            .fetch_one(pool)
            .await?;
    let pid = std::fs::read_to_string(file)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    Ok(pid.filter(|pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        ["mariadbd", "mysqld"].contains(&name.trim())
    }))
}
