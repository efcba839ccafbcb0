//! `cargo xtask providers`: the end-to-end cases at servers that others wrote. This file has the order of events;
//! `python` finds an interpreter, `install` makes the virtual environments, `servers` starts what is tested, `tables`
//! writes what was seen into `docs/providers.md`. The cases themselves are in `tests/it/provider_cases/`, the servers'
//! settings in `tests/real-servers/`.

mod install;
mod python;
mod servers;
mod tables;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::arguments::{ProvidersOptions, Server};
use crate::failure::{Result, Trying};
use crate::run::Run;
use crate::{cargo, mariadb};
use servers::Running;

/// Below this, the test databases live on disk.
const MEMORY_BYTES: u64 = 1 << 30;
const DATABASE: &str = "rag_providers";
/// The exit code where no Python is new enough: nothing was tried, which is neither success nor failure.
const NO_PYTHON: u8 = 3;

pub(crate) fn run(options: &ProvidersOptions) -> Result<ExitCode> {
    let Some(python) = python::find() else {
        eprintln!(
            "xtask: providers: no Python 3.12 or newer on PATH or in ~/.pyenv/versions; nothing was tried (exit code {NO_PYTHON})"
        );
        return Ok(ExitCode::from(NO_PYTHON));
    };
    let source = mariadb::Source::find(mariadb::Choice::default())?;
    let run = Run::start()?;
    let installed = install::install(&run, &python, options.server)?;
    let binaries = cargo::build(&run, &["--workspace", "--lib", "--bins", "--tests"], &[])?;
    let database = source.open(
        &run,
        DATABASE,
        &run.fast_folder(MEMORY_BYTES).join("mariadb"),
        &binaries,
    )?;

    let running = servers::start(&run, &installed, options.server)?;
    let results = run.disk_folder().join("results");
    std::fs::create_dir_all(&results).trying(|| format!("create {}", results.display()))?;
    let mut failed = Vec::new();
    for server in &running {
        let began = Instant::now();
        println!("\n=== {} at {}", server.title, server.url);
        let mut runner = runner(&run, &options.args);
        runner
            .env("DATABASE_URL", &database.uri)
            .env(mariadb::VARIABLE, &database.uri)
            .env("RAG_BIN_DIR", &binaries)
            .env("RAG_REAL_SERVER_RESULTS", &results)
            .envs(server.variables());
        let status = runner.status().trying(|| "start cargo".to_owned())?;
        println!(
            "=== {}: {} after {} s",
            server.title,
            if status.success() {
                "all that ran is green"
            } else {
                "cases FAILED"
            },
            began.elapsed().as_secs()
        );
        if !status.success() {
            failed.push(server.name);
        }
    }
    tables::write(&results, &running)?;
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    keep_logs(&running, &run);
    Ok(ExitCode::FAILURE)
}

/// One case at a time: they look at everything the server has. A case is never tried again by itself: at a real server,
/// failing now and then is a finding.
fn runner(run: &Run, args: &[String]) -> Command {
    let mut runner = cargo::command(run);
    if cargo::has_nextest(run) {
        runner
            .args([
                "nextest",
                "run",
                "--workspace",
                "--test",
                "it",
                "--run-ignored",
                "only",
            ])
            .args(["--test-threads", "1", "--retries", "0", "--no-tests", "fail"])
            .args([
                "-E",
                "package(rag-tests) & test(/^provider_cases::real_servers::/)",
            ])
            .args(args);
    } else {
        // `cargo test` takes names only; several of them select all tests that match one.
        let names = if args.is_empty() {
            vec!["provider_cases::real_servers::".to_owned()]
        } else {
            args.to_vec()
        };
        runner
            .args(["test", "-p", "rag-tests", "--test", "it", "--"])
            .args(["--ignored", "--test-threads", "1"])
            .args(names);
    }
    runner
}

/// The run's folders go with it; the servers' logs are worth more when something failed.
fn keep_logs(running: &[Running], run: &Run) {
    let folder = install::folder().join("logs");
    let copied = std::fs::create_dir_all(&folder).is_ok()
        && running
            .iter()
            .all(|server| copy(&server.log, &folder, server.name));
    if copied {
        println!("The servers' logs are in {}", folder.display());
    } else {
        println!(
            "The servers' logs could not be kept; they were in {}",
            run.disk_folder().display()
        );
    }
}

fn copy(log: &Path, folder: &Path, name: &str) -> bool {
    std::fs::copy(log, folder.join(format!("{name}.log"))).is_ok()
}

impl Server {
    /// LiteLLM stands in front of OGX, so OGX always runs; it is tested if it was asked for.
    fn tests(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Ogx => name == "ogx",
            Self::LiteLlm => name == "litellm",
        }
    }
}
