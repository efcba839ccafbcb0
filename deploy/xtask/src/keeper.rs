//! The keeper: this program started a second time, in a process group of its own, to clean up when the first one ends,
//! however it ends. It waits for the end of its standard input, whose other end only the first process holds; so Ctrl-C,
//! SIGTERM and SIGKILL all come down to the same end of file. Then it ends every process of the run and removes the
//! run's folders. It starts nothing and knows no ports.
//!
//! Processes are found by a mark in their environment, not by parentage or process group: test runners put their
//! children into groups of their own, and the children of a killed process belong to init.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The environment variable that every process of a run carries; its value is the run's id.
pub(crate) const MARK: &str = "RAG_XTASK_RUN";

/// How long programs may take to stop by themselves, so that a worker can hand its jobs back.
const GRACE: Duration = Duration::from_secs(5);
/// How long killed processes may take to vanish.
const REAPING: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Waits for the end of standard input, then cleans up.
pub(crate) fn wait_and_clean(run_id: &str, folders: &[PathBuf]) {
    let mut nothing = Vec::new();
    // An error is an end, too.
    let _ = std::io::stdin().read_to_end(&mut nothing);
    clean(run_id, folders);
}

/// Ends all processes of the run and removes its folders. Safe to repeat, also at the same time.
pub(crate) fn clean(run_id: &str, folders: &[PathBuf]) {
    signal("TERM", &polite(run_id));
    let asked = Instant::now();
    while asked.elapsed() < GRACE && !polite(run_id).is_empty() {
        sleep(LOOK_EVERY);
    }
    let asked = Instant::now();
    let mut empty_looks = 0;
    // A process that was being started has its mark only after exec: one empty look is not enough.
    while empty_looks < 2 && asked.elapsed() < REAPING {
        let rest = marked(run_id);
        empty_looks = if rest.is_empty() { empty_looks + 1 } else { 0 };
        signal("KILL", &rest);
        sleep(LOOK_EVERY);
    }
    for folder in folders {
        if let Err(error) = fs::remove_dir_all(folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("xtask: cannot remove {}: {error}", folder.display());
        }
    }
}

/// Those that get a chance to stop. The private MariaDB gets none: the programs need it until they have stopped, and its
/// data goes away with it.
fn polite(run_id: &str) -> Vec<u32> {
    let mut pids = marked(run_id);
    pids.retain(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() != "mariadbd")
    });
    pids
}

/// Every process that carries the run's mark, this one excluded. Other users' processes cannot be read and are skipped.
fn marked(run_id: &str) -> Vec<u32> {
    let mark = format!("{MARK}={run_id}").into_bytes();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark))
        })
        .collect()
}

fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    // The shell's own `kill`: small images have no kill program. Errors mean that a process was faster.
    let _ = Command::new("sh")
        .args(["-c", "kill -s \"$@\"", "sh", name])
        .args(pids.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
