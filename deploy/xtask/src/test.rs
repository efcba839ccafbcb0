//! `cargo xtask test`: all tests against a MariaDB that has just been started, with the programs built for those tests
//! that start them. What they printed is searched for the secrets that they made up.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use crate::failure::{Failure, Result, Trying};
use crate::run::Run;
use crate::{cargo, mariadb};

/// Below this, the test databases live on disk: hundreds of them exist at the same time.
const MEMORY_BYTES: u64 = 2 << 30;
/// What tests connect to; each makes databases of its own beside it.
const DATABASE: &str = "rag_test";
/// In every secret that tests make up (`rag-canary`).
const MARK: &str = "c4n4ry";

/// `variables`: of the environment, for the tests.
pub(crate) fn run(
    choice: mariadb::Choice,
    runner_args: &[String],
    variables: &[(&str, String)],
) -> Result<ExitCode> {
    let source = mariadb::Source::find(choice)?;
    let programs = source.programs_for_tests()?;
    let run = Run::start()?;
    // Binaries and tests in one build: apart, their dependencies would be built twice where features differ.
    let binaries = cargo::build(&run, &["--workspace", "--lib", "--bins", "--tests"], &[])?;
    let data = run.fast_folder(MEMORY_BYTES).join("mariadb");
    let database = source.open(&run, DATABASE, &data, &binaries)?;

    let for_tests = |mut command: Command| {
        command
            .env("DATABASE_URL", &database.uri)
            .env(mariadb::VARIABLE, &database.uri)
            .env("RAG_BIN_DIR", &binaries)
            .envs(programs.iter().map(|(name, value)| (name, value)))
            .envs(variables.iter().map(|(name, value)| (name, value)));
        command
    };
    let mut runner = for_tests(cargo::command(&run));
    let printed = cargo::has_nextest(&run).then(|| output_file(&binaries));
    if let Some(printed) = &printed {
        forget(printed)?;
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
    if let Some(printed) = &printed {
        let whole = runner_args.is_empty() && status.success();
        refuse_secrets(printed, whole)?;
    }
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

/// Where nextest's default profile puts the tests' output (`.config/nextest.toml`).
fn output_file(binaries: &Path) -> PathBuf {
    let target = binaries.parent().unwrap_or(binaries);
    target.join("nextest/default/junit.xml")
}

/// What an earlier run printed is none of this one's.
fn forget(printed: &Path) -> Result<()> {
    match fs::remove_file(printed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).trying(|| format!("remove {}", printed.display()))
        }
        _ => Ok(()),
    }
}

/// Whatever a test or a program that it shows has printed. `whole`: everything ran, so there must be something to search.
fn refuse_secrets(printed: &Path, whole: bool) -> Result<()> {
    let output = match fs::read(printed) {
        Ok(output) => String::from_utf8_lossy(&output).into_owned(),
        Err(_) if !whole => return Ok(()),
        Err(error) => return Err(error).trying(|| format!("read {}", printed.display())),
    };
    match leaky_test(&output) {
        None => Ok(()),
        Some(test) => Err(Failure::new(format!("a secret is in the output of {test}"))),
    }
}

/// The test case that the first secret is in.
fn leaky_test(output: &str) -> Option<&str> {
    let (before, _) = output.split_once(MARK)?;
    let named = before.rsplit("<testcase name=\"").next()?;
    named.split('"').next()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_tests_output_is_found() {
        let junit = |output: &str| {
            format!(
                "<testcase name=\"one\"><system-out>fine</system-out></testcase>\
                 <testcase name=\"a::two\" classname=\"it\"><system-out>{output}</system-out></testcase>"
            )
        };
        assert_eq!(leaky_test(&junit("fine")), None);
        assert_eq!(leaky_test(&junit("key sk-c4n4ry-1")), Some("a::two"));
    }
}
