//! `cargo xtask demo`: the whole system on this machine for as long as it is looked at. This file has the order of
//! events; `programs` has how the programs are started, `rag-demo` (in deploy/demo) is the client that indexes.

mod programs;
mod secret;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::arguments::{DemoOptions, Provider};
use crate::failure::{Failure, Result, Trying};
use crate::run::{Run, repository};
use crate::{cargo, mariadb};
use programs::System;

/// Below this the demo's database lives on disk.
const MEMORY_BYTES: u64 = 1 << 30;
const DATABASE: &str = "rag_demo";
/// Not only the programs needed: with `--workspace` the dependencies get the same features as in the build of the
/// tests, and are not built again for the other command.
const BUILD: [&str; 2] = ["--workspace", "--bins"];
const BINARIES: [&str; 4] = ["rag-api", "rag-worker", "rag-emulator", "rag-demo"];
/// The domain that the demo's index lives in.
const DOMAIN: &str = "demo";

/// What a demo leaves in the checkout: the logs of the last one, and the key of provider credentials. With a given
/// database also the files that its rows refer to.
#[derive(Debug)]
struct Home {
    logs: PathBuf,
    files: PathBuf,
    secrets_key: PathBuf,
    _lock: File,
}

pub(crate) fn run(options: &DemoOptions) -> Result<ExitCode> {
    let started = Instant::now();
    let folder = documents(options)?;
    let account = match options.provider {
        Provider::Emulator => None,
        Provider::OpenAi => Some(openai_account()?),
    };
    let source = mariadb::Source::find(options.database)?;
    let mut home = Home::open()?;
    let run = Run::start()?;
    let binaries = cargo::build(&run, &BUILD, &BINARIES)?;

    if source.is_private() {
        home.files = run.disk_folder().join("files");
    }
    // A kept demo may run for long, and memory is for programs.
    let data = if options.keep {
        run.disk_folder()
    } else {
        run.fast_folder(MEMORY_BYTES)
    };
    let mut database = source.open(&run, DATABASE, &data.join("mariadb"), &binaries)?;
    let mut system = System::start(&run, &binaries, &home, &database.uri, account)?;
    println!(
        "Programs: API, worker and provider answer ({:.1} s since the start)\n",
        started.elapsed().as_secs_f32()
    );

    let mut client = system.client(&run, &binaries);
    if let Some(query) = &options.query {
        client.args(["--query", query]);
    }
    let status = client
        .arg(&folder)
        .status()
        .trying(|| "start rag-demo".to_owned())?;
    if !status.success() {
        eprintln!("\nThe programs' logs are in {}", home.logs.display());
        return Ok(ExitCode::FAILURE);
    }
    if !options.keep {
        println!("\nStopped everything; the logs are in {}", home.logs.display());
        return Ok(ExitCode::SUCCESS);
    }
    println!("\n{}", system.how_to_try(&home.logs));
    loop {
        sleep(Duration::from_secs(1));
        let ended = system
            .ended()
            .or_else(|| database.server.as_mut().and_then(crate::ready::Program::ended));
        if let Some(failure) = ended {
            return Err(failure);
        }
    }
}

/// The folder to index.
fn documents(options: &DemoOptions) -> Result<PathBuf> {
    let folder = options.folder.clone().unwrap_or_else(repository);
    let folder = folder
        .canonicalize()
        .trying(|| format!("open the folder {}", folder.display()))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Failure::new(format!("{} is not a folder", folder.display())))
}

fn openai_account() -> Result<programs::Account> {
    let key = std::env::var("OPENAI_API_KEY").unwrap_or_default();
    if key.is_empty() {
        return Err(Failure::new(
            "--provider openai needs an account's key in OPENAI_API_KEY",
        ));
    }
    let url = std::env::var("OPENAI_BASE_URL").unwrap_or_default();
    let url = if url.is_empty() {
        "https://api.openai.com/v1".to_owned()
    } else {
        url
    };
    Ok(programs::Account { url, key })
}

impl Home {
    /// Fails while another demo runs in this checkout.
    fn open() -> Result<Self> {
        let folder = repository().join(".local/demo");
        let logs = folder.join("logs");
        fs::create_dir_all(&logs).trying(|| format!("create {}", logs.display()))?;
        let lock = File::create(folder.join("lock")).trying(|| format!("write into {}", folder.display()))?;
        if lock.try_lock().is_err() {
            return Err(Failure::new("another demo runs in this checkout; stop it first"));
        }
        let [files, secrets_key] = ["files", "provider-secrets-key"].map(|name| folder.join(name));
        Ok(Self {
            logs,
            files,
            secrets_key,
            _lock: lock,
        })
    }
}
