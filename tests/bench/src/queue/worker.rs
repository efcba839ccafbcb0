//! Worker processes under measurement.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::database::Database;

/// A worker process; killed when dropped.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) fn start(database: &Database, settings: &[(&str, usize)]) -> Result<Self> {
        let program: PathBuf = std::env::current_exe()?.with_file_name("queue-test-worker");
        let mut command = Command::new(&program);
        command
            .env("DATABASE_URL", &database.url)
            .env("LEASE_MS", "30000")
            .stdin(Stdio::null());
        for (name, value) in settings {
            command.env(name, value.to_string());
        }
        let child = command
            .spawn()
            .with_context(|| format!("{} is built with apalis-mariadb", program.display()))?;
        Ok(Self(child))
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    pub(crate) fn terminate(&self) -> Result<()> {
        Command::new("kill")
            .arg("-TERM")
            .arg(self.0.id().to_string())
            .status()?;
        Ok(())
    }

    pub(crate) fn wait(mut self) -> Result<()> {
        self.0.wait()?;
        Ok(())
    }

    /// CPU time used so far, in clock ticks of a hundredth of a second; and resident memory in KiB.
    pub(crate) fn usage(&self) -> Result<(u64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("stat")?.1.split(' ').collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("VmRSS")?;
        Ok((ticks, resident.trim().trim_end_matches(" kB").parse()?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
