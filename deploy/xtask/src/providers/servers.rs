//! Starts the servers on loopback, on free ports, with their state in the run's folder. Each is kept running by a small
//! script, so that a case may kill it; all of it ends with the run.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::install::{Installed, sources};
use crate::arguments::Server;
use crate::failure::{Result, Trying};
use crate::ready::{accepts, free_address};
use crate::run::Run;

const START_WITHIN: Duration = Duration::from_mins(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The mark in them lets the cases find them wherever they should not be.
const OGX_KEY: &str = "sk-c4n4ry-ogx-7d1f0a";
const LITELLM_KEY: &str = "sk-c4n4ry-litellm-5be2";

/// A server that is tested.
#[derive(Debug)]
pub(crate) struct Running {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// With its version.
    pub(crate) title: &'static str,
    /// Its base URL.
    pub(crate) url: String,
    pub(crate) log: PathBuf,
    key: &'static str,
    pid_file: PathBuf,
}

impl Running {
    /// What the cases need to know.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("RAG_REAL_SERVER", self.name.to_owned()),
            ("RAG_REAL_SERVER_URL", self.url.clone()),
            ("RAG_REAL_SERVER_KEY", self.key.to_owned()),
            ("RAG_REAL_SERVER_PID_FILE", self.pid_file.display().to_string()),
        ]
    }
}

/// Starts everything that `server` needs; answers what is to be tested.
pub(crate) fn start(run: &Run, installed: &Installed, server: Server) -> Result<Vec<Running>> {
    let embeddings = start_embeddings(run, installed)?;
    let ogx = start_ogx(run, installed, embeddings)?;
    let litellm = match &installed.litellm {
        Some(environment) => Some(start_litellm(run, environment, &ogx)?),
        None => None,
    };
    let all = [Some(ogx), litellm].into_iter().flatten();
    Ok(all.filter(|running| server.tests(running.name)).collect())
}

fn start_embeddings(run: &Run, installed: &Installed) -> Result<SocketAddr> {
    let (address, log) = (free_address(0)?, run.disk_folder().join("embeddings.log"));
    let mut command = run.background(&installed.python, &log)?;
    command
        .arg(sources().join("embeddings.py"))
        .arg(address.port().to_string());
    let mut program = run.spawn("embeddings.py", command, &log)?;
    program.wait_until(START_WITHIN, || accepts(address))?;
    Ok(address)
}

fn start_ogx(run: &Run, installed: &Installed, embeddings: SocketAddr) -> Result<Running> {
    let (address, state) = (free_address(0)?, run.disk_folder().join("ogx"));
    fs::create_dir_all(&state).trying(|| format!("create {}", state.display()))?;
    let config = settings(
        "ogx.yaml",
        &state,
        &[
            ("EMBEDDINGS", &embeddings.to_string()),
            ("PORT", &address.port().to_string()),
            ("STATE", &state.display().to_string()),
            ("KEY", OGX_KEY),
        ],
    )?;
    let (log, pid_file) = (
        run.disk_folder().join("ogx.log"),
        run.disk_folder().join("ogx.pid"),
    );
    let mut command = run.background(sources().join("keep-running.sh"), &log)?;
    command
        .arg(&pid_file)
        .arg(installed.ogx.join("bin/ogx"))
        .arg("run")
        .arg(&config)
        .current_dir(&state)
        .env("OGX_LOGGING", "all=error")
        // Otherwise it draws each refusal's traceback while every other request waits, for seconds.
        .env("OGX_LOG_FORMAT", "json")
        .env("TIKTOKEN_CACHE_DIR", &installed.tiktoken);
    let running = Running {
        name: "ogx",
        title: "OGX 1.5.0",
        url: format!("http://{address}/v1"),
        log,
        key: OGX_KEY,
        pid_file,
    };
    wait_for(run, "ogx", command, address, &running)?;
    Ok(running)
}

fn start_litellm(run: &Run, environment: &Path, upstream: &Running) -> Result<Running> {
    let (address, state) = (free_address(0)?, run.disk_folder().join("litellm"));
    fs::create_dir_all(&state).trying(|| format!("create {}", state.display()))?;
    let config = settings(
        "litellm.yaml",
        &state,
        &[
            ("UPSTREAM_KEY", upstream.key),
            ("UPSTREAM", &upstream.url),
            ("KEY", LITELLM_KEY),
        ],
    )?;
    let (log, pid_file) = (
        run.disk_folder().join("litellm.log"),
        run.disk_folder().join("litellm.pid"),
    );
    let mut command = run.background(sources().join("keep-running.sh"), &log)?;
    command
        .arg(&pid_file)
        .arg(environment.join("bin/litellm"))
        .arg("--config")
        .arg(&config)
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            &address.port().to_string(),
            "--num_workers",
            "1",
        ])
        .current_dir(&state)
        // It asks the network for price lists and policies otherwise.
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("LITELLM_LOCAL_POLICY_TEMPLATES", "True")
        .env("LITELLM_TELEMETRY", "False")
        .env("OPENAI_API_KEY", upstream.key)
        .env("OPENAI_BASE_URL", &upstream.url)
        .env("OPENAI_API_BASE", &upstream.url);
    let running = Running {
        name: "litellm",
        title: "LiteLLM 1.108.7 in front of OGX 1.5.0",
        url: format!("http://{address}/v1"),
        log,
        key: LITELLM_KEY,
        pid_file,
    };
    wait_for(run, "litellm", command, address, &running)?;
    Ok(running)
}

fn wait_for(
    run: &Run,
    name: &'static str,
    command: std::process::Command,
    address: SocketAddr,
    running: &Running,
) -> Result<()> {
    let began = Instant::now();
    let mut program = run.spawn(name, command, &running.log)?;
    program.wait_until(START_WITHIN, || lists_stores(address, running.key))?;
    println!(
        "{} answers at {} ({} s)",
        running.title,
        running.url,
        began.elapsed().as_secs()
    );
    Ok(())
}

/// The settings of `tests/real-servers/` with what this run has chosen, in this folder.
fn settings(name: &str, folder: &Path, values: &[(&str, &str)]) -> Result<PathBuf> {
    let (source, target) = (sources().join(name), folder.join(name));
    let mut text = fs::read_to_string(&source).trying(|| format!("read {}", source.display()))?;
    for (key, value) in values {
        text = text.replace(&format!("@{key}@"), value);
    }
    fs::write(&target, text).trying(|| format!("write {}", target.display()))?;
    Ok(target)
}

/// Whether the server lets us in and lists vector stores.
fn lists_stores(address: SocketAddr, key: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        write!(
            stream,
            "GET /v1/vector_stores HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        )?;
        let mut status_line = [0; 12];
        stream.read_exact(&mut status_line)?;
        Ok(status_line.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}
