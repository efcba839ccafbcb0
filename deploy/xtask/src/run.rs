//! One run of a command: its folders for short-lived things, and the guarantee that the run's processes and folders end
//! with it (see `keeper`). What a run starts is not decided here.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::failure::{Failure, Result, Trying};
use crate::keeper;
use crate::ready::Program;

/// Folders of runs are named so, directly below one of `bases()`.
const PREFIX: &str = "rag-xtask-";
/// Held locked by a living run inside its folder.
const LOCK: &str = "lock";
/// A folder without a lock file may belong to a run that is just starting.
const STARTING: Duration = Duration::from_mins(1);

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

#[derive(Debug)]
pub(crate) struct Run {
    id: String,
    short: PathBuf,
    disk: PathBuf,
    keeper: Child,
    children: RefCell<Vec<Rc<RefCell<Child>>>>,
    _locks: [File; 2],
}

impl Run {
    /// Clears what killed runs left, makes this run's folders and starts the keeper.
    pub(crate) fn start() -> Result<Self> {
        if !Path::new("/proc/self/environ").exists() {
            return Err(Failure::new(
                "this needs Linux: the processes of a run are found through /proc",
            ));
        }
        clear_leftovers();
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos());
        let id = format!("{}-{nanos:x}", std::process::id());
        let [memory, temporary, checkout] = bases();
        let (short, short_lock) = make_folder(&memory, &id).or_else(|_| make_folder(&temporary, &id))?;
        fs::create_dir_all(&checkout).trying(|| format!("create {}", checkout.display()))?;
        let (disk, disk_lock) = make_folder(&checkout, &id)?;
        let this_program = std::env::current_exe().trying(|| "find this program".to_owned())?;
        let keeper = Command::new(this_program)
            .arg("keeper")
            .arg(&id)
            .args([&short, &disk])
            .env_remove(keeper::MARK)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Its own group: Ctrl-C at the terminal must not reach it.
            .process_group(0)
            .spawn()
            .trying(|| "start the process that cleans up".to_owned())?;
        Ok(Self {
            id,
            short,
            disk,
            keeper,
            children: RefCell::default(),
            _locks: [short_lock, disk_lock],
        })
    }

    /// A folder for small things that only this user can enter. Its path is short enough for a Unix socket.
    pub(crate) fn short_folder(&self) -> &Path {
        &self.short
    }

    /// A folder for large things, in the checkout.
    pub(crate) fn disk_folder(&self) -> &Path {
        &self.disk
    }

    /// Where data that is written often should go: in memory if at least this much is free there, else on disk.
    pub(crate) fn fast_folder(&self, memory_bytes: u64) -> &Path {
        let is_in_memory = self.short.starts_with(MEMORY) && free_bytes(&self.short) >= memory_bytes;
        if is_in_memory { &self.short } else { &self.disk }
    }

    /// A command whose process, and all that it starts, ends with this run.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env(keeper::MARK, &self.id);
        command
    }

    /// The same for a program that runs beside this one: silent, and out of reach of the terminal's Ctrl-C, so that the
    /// keeper can stop programs before the database they need.
    pub(crate) fn background(&self, program: impl AsRef<OsStr>, log: &Path) -> Result<Command> {
        let out = File::create(log).trying(|| format!("create {}", log.display()))?;
        let err = out.try_clone().trying(|| format!("open {}", log.display()))?;
        let mut command = self.command(program);
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        Ok(command)
    }

    /// Starts a program that stays.
    pub(crate) fn spawn(&self, name: &'static str, mut command: Command, log: &Path) -> Result<Program> {
        let child = command.spawn().trying(|| format!("start {name}"))?;
        let child = Rc::new(RefCell::new(child));
        self.children.borrow_mut().push(Rc::clone(&child));
        Ok(Program {
            name,
            child,
            log: log.to_path_buf(),
        })
    }
}

impl Drop for Run {
    /// The ordinary end takes the same way as a killed run: the keeper sees its input end.
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        // They are dead; looking at them removes them from the process table, which not every machine's init does.
        for child in self.children.borrow().iter() {
            let _ = child.borrow_mut().try_wait();
        }
    }
}

const MEMORY: &str = "/dev/shm";

/// In memory, temporary, in the checkout.
fn bases() -> [PathBuf; 3] {
    let mut temporary = std::env::temp_dir();
    // A socket's path may have 107 bytes, and some machines' temporary folders spend most of them.
    if temporary.as_os_str().len() > 60 {
        temporary = PathBuf::from("/tmp");
    }
    [PathBuf::from(MEMORY), temporary, repository().join(".local")]
}

fn make_folder(base: &Path, id: &str) -> Result<(PathBuf, File)> {
    let folder = base.join(format!("{PREFIX}{id}"));
    // Fails if the folder exists, so nobody can prepare one for us.
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .trying(|| format!("create {}", folder.display()))?;
    let lock = File::create(folder.join(LOCK)).trying(|| format!("write into {}", folder.display()))?;
    lock.lock().trying(|| format!("lock {}", folder.display()))?;
    Ok((folder, lock))
}

/// Free space by `df`; 0 if there is no such place or it does not answer.
fn free_bytes(place: &Path) -> u64 {
    let answer = Command::new("df")
        .args(["-Pk"])
        .arg(place)
        .stderr(Stdio::null())
        .output();
    let Ok(answer) = answer else { return 0 };
    free_bytes_of_df(&String::from_utf8_lossy(&answer.stdout))
}

/// `df -Pk` prints a head line and one line per place, whose fourth field is the free space in KiB.
fn free_bytes_of_df(text: &str) -> u64 {
    let field = text
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(3));
    field
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024))
}

/// Ends what is left of runs whose keeper was killed as well.
fn clear_leftovers() {
    let Ok(me) = fs::metadata("/proc/self") else {
        return;
    };
    for base in bases() {
        let Ok(entries) = fs::read_dir(base) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            // Not following links: a folder of somebody else is none of our business.
            let is_ours = entry
                .metadata()
                .is_ok_and(|found| found.is_dir() && found.uid() == me.uid());
            if is_ours && is_abandoned(&entry.path()) {
                keeper::clean(id, &[entry.path()]);
            }
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    if let Ok(lock) = File::open(folder.join(LOCK)) {
        return lock.try_lock().is_ok();
    }
    let age = fs::metadata(folder)
        .and_then(|found| found.modified())
        .map(|time| time.elapsed());
    matches!(age, Ok(Ok(age)) if age > STARTING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_is_read() {
        let text =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 100 40 60 40% /dev/shm\n";
        assert_eq!(free_bytes_of_df(text), 60 * 1024);
        assert_eq!(free_bytes_of_df("df: no such place"), 0);
    }
}
