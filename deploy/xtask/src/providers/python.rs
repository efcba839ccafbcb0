//! Finds a Python that the servers run on: 3.12 or newer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Newest last: the pinned packages were tried on the oldest that will do.
const NAMES: [&str; 5] = ["python3.12", "python3.13", "python3.14", "python3", "python"];
const OLDEST: (u32, u32) = (3, 12);

/// The first interpreter that runs and is new enough.
pub(crate) fn find() -> Option<PathBuf> {
    let named = NAMES.iter().map(PathBuf::from);
    named.chain(of_pyenv()).find(|python| is_new_enough(python))
}

/// pyenv's shims only run the versions that are switched on; its others are there all the same.
fn of_pyenv() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pyenv")));
    let Some(entries) = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok()) else {
        return Vec::new();
    };
    let mut versions: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    versions.sort();
    versions
        .into_iter()
        .map(|(_, path)| path.join("bin/python3"))
        .collect()
}

fn is_new_enough(python: &Path) -> bool {
    let output = Command::new(python)
        .args([
            "-c",
            "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success() && version(text.trim()).is_some_and(|found| found >= OLDEST)
    })
}

/// `3.12`, `3.12.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("3.12.1"), Some((3, 12)));
        assert_eq!(version("pypy3.10-7.3"), None);
        assert_eq!(version("3.9").map(|found| found >= OLDEST), Some(false));
        assert_eq!(version("4.0").map(|found| found >= OLDEST), Some(true));
    }
}
