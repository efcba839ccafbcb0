//! Calling cargo from a program that cargo started.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result, Trying};
use crate::run::{Run, repository};

/// cargo at the repository's root, without the variables that `cargo run` adds about this crate: build scripts that
/// watch them would run again at every change between the two.
pub(crate) fn command(run: &Run) -> Command {
    let mut command = run.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command.current_dir(repository()).stdin(Stdio::null());
    command
}

/// Builds and answers the folder of the binaries. It is the folder of this program, which the same cargo built with the
/// same settings.
pub(crate) fn build(run: &Run, targets: &[&str], needed: &[&str]) -> Result<PathBuf> {
    let status = command(run)
        .arg("build")
        .args(targets)
        .status()
        .trying(|| "start cargo".to_owned())?;
    if !status.success() {
        return Err(Failure::new("the build failed"));
    }
    let this_program = std::env::current_exe().trying(|| "find this program".to_owned())?;
    let folder = this_program.parent().map(PathBuf::from).unwrap_or_default();
    for name in needed {
        if !folder.join(name).is_file() {
            return Err(Failure::new(format!(
                "the build made no {}",
                folder.join(name).display()
            )));
        }
    }
    Ok(folder)
}

/// Whether `cargo nextest` is installed.
pub(crate) fn has_nextest(run: &Run) -> bool {
    let mut probe = command(run);
    probe
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
