//! `cargo xtask test`: all tests against a MariaDB that has just been started, with the programs built for those tests
//! that start them.

use std::process::{Command, ExitCode};

use crate::failure::{Result, Trying};
use crate::run::Run;
use crate::{cargo, mariadb};

/// Below this, the test databases live on disk: hundreds of them exist at the same time.
const MEMORY_BYTES: u64 = 2 << 30;
/// What tests connect to; each makes databases of its own beside it.
const DATABASE: &str = "rag_test";

pub(crate) fn run(runner_args: &[String]) -> Result<ExitCode> {
    let source = mariadb::Source::find()?;
    let programs = source.programs_for_tests()?;
    let run = Run::start()?;
    // Binaries and tests in one build: apart, their dependencies would be built twice where features differ.
    let binaries = cargo::build(&run, &["--workspace", "--lib", "--bins", "--tests"], &[])?;
    let database = source.open(&run, DATABASE, &run.fast_folder(MEMORY_BYTES).join("mariadb"))?;

    let for_tests = |mut command: Command| {
        command
            .env("DATABASE_URL", &database.uri)
            .env(mariadb::VARIABLE, &database.uri)
            .env("RAG_BIN_DIR", &binaries)
            .envs(programs.iter().map(|(name, value)| (name, value)));
        command
    };
    let mut runner = for_tests(cargo::command(&run));
    if cargo::has_nextest(&run) {
        runner.args(["nextest", "run"]);
    } else {
        runner.arg("test");
    }
    if !names_packages(runner_args) {
        runner.arg("--workspace");
    }
    let status = runner
        .args(runner_args)
        .status()
        .trying(|| "start cargo".to_owned())?;
    if !status.success() || !runner_args.is_empty() {
        return Ok(exit_code(status));
    }
    let mut doc_tests = for_tests(cargo::command(&run));
    doc_tests.args(["test", "--quiet", "--workspace", "--doc"]);
    doc_tests
        .status()
        .map(exit_code)
        .trying(|| "start cargo".to_owned())
}

/// With packages named, `--workspace` would run the others as well.
fn names_packages(args: &[String]) -> bool {
    args.iter()
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package") || arg == "--manifest-path")
}

/// The tests' own; a runner that was killed has none.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
