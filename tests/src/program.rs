//! A running program of ours, killed when dropped; its log goes to a file that is shown if the test fails.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

/// A started program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `binary` with exactly this environment.
    pub fn start(binary: &str, args: &[&str], env: &[(String, String)], log: PathBuf) -> Self {
        Self::spawn(binary, Command::new(path(binary)), args, env, log)
    }

    /// As [`Program::start`], after these commands of a shell: `ulimit -n 200`.
    pub fn start_after(
        commands: &str,
        binary: &str,
        args: &[&str],
        env: &[(String, String)],
        log: PathBuf,
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("{commands} && exec \"$0\" \"$@\"")])
            .arg(path(binary));
        Self::spawn(binary, command, args, env, log)
    }

    fn spawn(
        binary: &str,
        mut command: Command,
        args: &[&str],
        env: &[(String, String)],
        log: PathBuf,
    ) -> Self {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command
            .args(args)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {binary}: {error} (is it built?)"));
        Self {
            name: binary.to_owned(),
            child,
            log,
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory that it has had, as far as the system tells.
    pub fn peak_memory_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -SIGNAL`.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("the program runs").to_string();
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status()
            .await
            .unwrap();
        assert!(status.success(), "kill -{signal} {}", self.name);
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for the program to end by itself.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} still runs after {limit:?}", self.name));
        ended.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, self.log());
        }
    }
}

/// How a program has ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `binary` to its end with exactly this environment. One that goes on for a minute is killed.
pub async fn run(binary: &str, args: &[&str], env: &[(String, String)]) -> Ended {
    let output = Command::new(path(binary))
        .args(args)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(1), output)
        .await
        .unwrap_or_else(|_| panic!("{binary} {args:?} still runs after a minute"))
        .unwrap_or_else(|error| panic!("cannot start {binary}: {error} (is it built?)"));
    Ended {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `binary` to its end and answers its standard output; panics if it fails.
pub(crate) async fn output(binary: &str, args: &[&str], env: &[(String, String)]) -> String {
    let ended = run(binary, args, env).await;
    assert!(ended.status.success(), "{binary} {args:?}: {}", ended.stderr);
    ended.stdout.trim().to_owned()
}

fn path(binary: &str) -> PathBuf {
    let folder = std::env::var_os("RAG_BIN_DIR").map_or_else(beside_the_test, PathBuf::from);
    folder.join(binary)
}

/// Tests run from `target/<profile>/deps`, programs are one up.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}
