//! The promise that nothing outlives a command, tried on the program itself: its input ends, as it does when the
//! process that holds the other end is killed.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const MARK: &str = "RAG_XTASK_RUN";

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("keeper-test-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn keeper(run_id: &str, folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["keeper", run_id])
        .arg(folder)
        .env_remove(MARK)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A marked shell that runs `script`, in which `$1` is the file to write process ids into, one per line.
fn marked(run_id: &str, folder: &Path, script: &str) -> Child {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(folder.join("pids"))
        .env(MARK, run_id)
        .stdin(Stdio::null());
    shell.spawn().unwrap()
}

/// The process ids that were written, when there are `count`.
fn pids(folder: &Path, count: usize) -> Vec<u32> {
    let started = Instant::now();
    loop {
        let text = fs::read_to_string(folder.join("pids")).unwrap_or_default();
        let found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if found.len() == count {
            return found;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the processes did not start"
        );
        sleep(Duration::from_millis(10));
    }
}

/// Gone, or a zombie that waits for its parent (this test) to look.
fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

#[test]
fn children_and_grandchildren_in_groups_of_their_own_end_and_the_folder_goes() {
    let run_id = format!("deep-{}", std::process::id());
    let folder = folder("deep");
    let mut keeper = keeper(&run_id, &folder);
    // The middle shell ends at once, so the sleeper belongs to init and sits in a session of its own.
    let script = "sh -c 'setsid sleep 600 & echo $! >>\"$1\"' sh \"$1\"; echo $$ >>\"$1\"; sleep 600; :";
    let mut child = marked(&run_id, &folder, script);
    let pids = pids(&folder, 2);
    assert!(
        pids.iter().all(|pid| !is_gone(*pid)),
        "they run while the input is open"
    );

    drop(keeper.stdin.take());
    assert!(keeper.wait().unwrap().success());
    for pid in pids {
        assert!(is_gone(pid), "process {pid} is still there");
    }
    child.wait().unwrap();
    assert!(!folder.exists());
}

#[test]
fn a_process_that_ignores_requests_is_killed_and_strangers_live() {
    let run_id = format!("deaf-{}", std::process::id());
    let folder = folder("deaf");
    let mut keeper = keeper(&run_id, &folder);
    let script = "trap '' TERM; echo $$ >\"$1\"; while :; do sleep 1; done";
    let mut deaf = marked(&run_id, &folder, script);
    let pids = pids(&folder, 1);
    let mut stranger = Command::new("sleep")
        .arg("30")
        .env(MARK, format!("{run_id}-other"))
        .spawn()
        .unwrap();

    drop(keeper.stdin.take());
    assert!(keeper.wait().unwrap().success());
    assert!(is_gone(pids[0]));
    deaf.wait().unwrap();
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "another run's process was ended"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
