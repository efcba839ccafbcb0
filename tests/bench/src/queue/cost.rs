//! What something cost: statements and commits by the server's own count, CPU time of the server and of the client
//! processes. Unlike times, these hardly depend on what else the machine does.

use anyhow::{Context, Result};
use rag_bench::programs::cpu_us;
use sqlx::Row;

use crate::database::Database;

/// Counters at some moment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reading {
    pub(crate) statements: f64,
    pub(crate) commits: f64,
    /// Microseconds; `None` if the server runs elsewhere.
    pub(crate) server_us: Option<f64>,
    pub(crate) client_us: f64,
}

impl Reading {
    /// Of the server, and of these processes.
    pub(crate) async fn take(database: &Database, clients: &[u32]) -> Result<Self> {
        let rows = sqlx::raw_sql("SHOW GLOBAL STATUS WHERE variable_name IN ('Questions', 'Handler_commit')")
            .fetch_all(&database.pool)
            .await?;
        let mut reading = Self::default();
        for row in rows {
            let value: f64 = row.try_get::<String, _>(1)?.parse()?;
            match row.try_get::<String, _>(0)?.as_str() {
                "Questions" => reading.statements = value,
                _ => reading.commits = value,
            }
        }
        reading.server_us = match database.server_pid {
            Some(pid) => Some(cpu_us(pid)?),
            None => None,
        };
        for pid in clients {
            reading.client_us += cpu_us(*pid)?;
        }
        Ok(reading)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            statements: self.statements - before.statements,
            commits: self.commits - before.commits,
            server_us: self.server_us.zip(before.server_us).map(|(now, then)| now - then),
            client_us: self.client_us - before.client_us,
        }
    }
}

/// Resident memory, KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    Ok(resident.trim().trim_end_matches(" kB").parse()?)
}
