//! A database and a server of the run's own.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use rag_bench::programs::{free_address, program, until_it_listens};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, MySqlPool};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Of the rows that are made here.
pub(crate) const DOMAIN: &str = "bench";

pub(crate) struct Setting {
    pub(crate) pool: MySqlPool,
    pub(crate) uri: String,
    /// `host:port` of the API.
    pub(crate) api: String,
    pub(crate) key: String,
    folder: TempDir,
    name: String,
    _server: Child,
}

impl Setting {
    pub(crate) async fn create() -> Result<Self> {
        let server = std::env::var("DATABASE_URL").context("DATABASE_URL names the server to measure on")?;
        let name = format!("api_bench_{}", std::process::id());
        let (base, query) = server.split_once('?').unwrap_or((&server, ""));
        let (base, _) = base.rsplit_once('/').context("DATABASE_URL names no database")?;
        let uri = format!("{base}/{name}?{query}");
        let admin = MySqlPool::connect(&server).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&admin)
            .await?;
        let pool = MySqlPoolOptions::new().max_connections(4).connect(&uri).await?;
        let folder = tempfile::tempdir()?;
        let api = free_address()?;
        let command = |arguments: &[&str]| {
            let mut command = Command::new(program("rag-api").unwrap_or_default());
            command
                .args(arguments)
                .env("DATABASE_URI", &uri)
                .env("FILES_ROOT", folder.path())
                .env("API_LISTEN", &api)
                // All callers and listeners come from this machine.
                .env("API_MAX_CONNECTIONS_PER_ADDRESS", "20000")
                .kill_on_drop(true);
            command
        };
        let migrated = command(&["migrate"]).stderr(Stdio::null()).status().await?;
        ensure!(migrated.success(), "rag-api migrate failed");
        let made = command(&["keys", "create", "--name", "bench", "--all-domains"])
            .output()
            .await?;
        let key = String::from_utf8(made.stdout)?.trim().to_owned();
        // The log is written as usual, to a file.
        let log = std::fs::File::create(folder.path().join("api.log"))?;
        let server = command(&["serve"]).stderr(log).spawn()?;
        until_it_listens(&api).await?;
        Ok(Self {
            pool,
            uri,
            api,
            key,
            folder,
            name,
            _server: server,
        })
    }

    /// This program again, as the reference.
    pub(crate) async fn bare(&self) -> Result<(String, Child)> {
        let address = free_address()?;
        let server = Command::new(std::env::current_exe()?)
            .args(["bare", &address, &self.uri])
            .current_dir(self.folder.path())
            .kill_on_drop(true)
            .spawn()?;
        until_it_listens(&address).await?;
        Ok((address, server))
    }

    pub(crate) async fn sql(&self, statement: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn drop(&self) -> Result<()> {
        self.sql(&format!("DROP DATABASE {}", self.name)).await
    }
}
