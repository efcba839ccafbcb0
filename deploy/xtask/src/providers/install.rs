//! Virtual environments below `.local/providers`, from pinned lists of packages of the ordinary Python index. Made once:
//! a list that has changed, or an installation that was interrupted, is made anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::arguments::Server;
use crate::failure::{Failure, Result, Trying};
use crate::run::{Run, repository};

const UV: &str = "uv==0.13.9";

/// Where the servers' programs are.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) python: PathBuf,
    pub(crate) ogx: PathBuf,
    /// Absent if it is not to be tested.
    pub(crate) litellm: Option<PathBuf>,
    /// What tiktoken would otherwise download.
    pub(crate) tiktoken: PathBuf,
}

pub(crate) fn folder() -> PathBuf {
    repository().join(".local/providers")
}

/// The servers' settings and small programs.
pub(crate) fn sources() -> PathBuf {
    repository().join("tests/real-servers")
}

pub(crate) fn install(run: &Run, python: &Path, server: Server) -> Result<Installed> {
    let folder = folder();
    fs::create_dir_all(&folder).trying(|| format!("create {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).trying(|| format!("write into {}", folder.display()))?;
    lock.lock().trying(|| format!("lock {}", folder.display()))?;
    let ogx = environment(run, python, &folder, "ogx")?;
    let litellm = if server == Server::Ogx {
        None
    } else {
        Some(environment(run, python, &folder, "litellm")?)
    };
    let tiktoken = folder.join("tiktoken");
    let mut fetch = run.command(ogx.join("bin/python"));
    fetch.arg(sources().join("tiktoken_file.py")).arg(&tiktoken);
    succeed(fetch, "fetch tiktoken's file")?;
    Ok(Installed {
        python: python.to_path_buf(),
        ogx,
        litellm,
        tiktoken,
    })
}

/// The environment `name`, with exactly the packages of its list.
fn environment(run: &Run, python: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let list = sources().join(format!("{name}.requirements.txt"));
    let (environment, done) = (folder.join(name), folder.join(name).join("installed.txt"));
    let wanted = fs::read(&list).trying(|| format!("read {}", list.display()))?;
    if fs::read(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(environment);
    }
    println!("Installing {name} into {}", environment.display());
    let began = Instant::now();
    make_environment(run, python, &environment)?;
    let mut install = run.command(uv(run, python, folder)?);
    install
        .args([
            "pip",
            "install",
            "--quiet",
            "--no-config",
            "--compile-bytecode",
            "--python",
        ])
        .arg(environment.join("bin/python"))
        .arg("--requirement")
        .arg(&list);
    succeed(install, &format!("install {name}"))?;
    fs::write(&done, wanted).trying(|| format!("write {}", done.display()))?;
    println!("Installed {name} in {} s", began.elapsed().as_secs());
    Ok(environment)
}

/// Installs in seconds what takes pip minutes.
fn uv(run: &Run, python: &Path, folder: &Path) -> Result<PathBuf> {
    let environment = folder.join("uv");
    let program = environment.join("bin/uv");
    let done = environment.join("installed.txt");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == UV) {
        return Ok(program);
    }
    make_environment(run, python, &environment)?;
    let mut pip = run.command(environment.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        UV,
    ]);
    succeed(pip, "install uv")?;
    fs::write(&done, UV).trying(|| format!("write {}", done.display()))?;
    Ok(program)
}

fn make_environment(run: &Run, python: &Path, environment: &Path) -> Result<()> {
    let mut make = run.command(python);
    make.args(["-m", "venv", "--clear"]).arg(environment);
    succeed(
        make,
        &format!("make the virtual environment {}", environment.display()),
    )
}

fn succeed(mut command: Command, what: &str) -> Result<()> {
    let status = command.status().trying(|| what.to_owned())?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("cannot {what}: {status}")))
}
