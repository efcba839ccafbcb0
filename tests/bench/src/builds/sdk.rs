//! The reference: the official Python SDK, from an environment that is made once under the target folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::provider::Provider;
use crate::usage::Usage;

/// As `pip` takes it.
pub(crate) const PACKAGE: &str = "openai==3.52.0";
const SCRIPT: &str = include_str!("sdk.py");

pub(crate) struct Sdk {
    python: PathBuf,
    script: PathBuf,
}

#[derive(Deserialize)]
struct Took {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
    completed: usize,
}

impl Sdk {
    pub(crate) async fn install() -> Result<Self> {
        let target = std::env::current_exe()?
            .parent()
            .and_then(Path::parent)
            .context("this program is in a target folder")?
            .join("sdk");
        let python = target.join(format!("{PACKAGE}/bin/python"));
        if !target.join(format!("{PACKAGE}/installed")).exists() {
            eprintln!("installing {PACKAGE} into {}", target.display());
            let folder = target.join(PACKAGE);
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE])).await?;
            std::fs::write(folder.join("installed"), "")?;
        }
        let script = target.join("sdk.py");
        std::fs::write(&script, SCRIPT)?;
        Ok(Self { python, script })
    }

    /// Of Python and the SDK.
    pub(crate) async fn version(&self) -> Result<String> {
        let output = Command::new(&self.python).arg("--version").output().await?;
        Ok(format!("{}, {PACKAGE}", String::from_utf8(output.stdout)?.trim()))
    }

    /// Brings all of a folder into a new store.
    pub(crate) async fn build(
        &self,
        provider: &Provider,
        folder: &Path,
        at_once: Option<usize>,
    ) -> Result<Usage> {
        let before = provider.calls().await?;
        let output = Command::new(&self.python)
            .arg(&self.script)
            .arg(&provider.url)
            .arg(folder)
            .args(at_once.map(|at_once| at_once.to_string()))
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(output.status.success(), "the SDK's script failed");
        let took: Took = serde_json::from_slice(&output.stdout)?;
        let files = std::fs::read_dir(folder)?.count();
        ensure!(
            took.completed == files,
            "the SDK indexed {} of {files} files",
            took.completed
        );
        Ok(Usage {
            wall: took.wall,
            cpu: took.cpu,
            peak_mib: took.peak_mib,
            calls: provider.calls().await?.since(&before),
            ..Usage::default()
        })
    }
}

async fn run(command: &mut Command) -> Result<()> {
    let status = command.status().await?;
    ensure!(status.success(), "{:?} failed", command.as_std());
    Ok(())
}
