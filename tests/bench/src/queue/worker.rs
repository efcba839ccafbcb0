//! Worker processes under measurement.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::database::Database;

/// A worker process; killed when dropped.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) fn start(database: &Database, settings: &[(&str, usize)]) -> Result<Self> {
        Self::start_program(&Self::program()?, database, settings)
    }

    pub(crate) fn program() -> Result<PathBuf> {
        Ok(std::env::current_exe()?.with_file_name("queue-test-worker"))
    }

    pub(crate) fn start_program(
        program: &PathBuf,
        database: &Database,
        settings: &[(&str, usize)],
    ) -> Result<Self> {
        let mut command = Command::new(program);
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

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
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
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
