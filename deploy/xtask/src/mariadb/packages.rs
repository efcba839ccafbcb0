//! MariaDB's server programs from the packages of an apt system: installed where we may, else unpacked into a folder of
//! our own. The `-core` packages carry no service, so nothing is started and nothing listens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::VARIABLE;
use crate::failure::{Failure, Result, Trying};

pub(super) const SERVER: &str = "mariadb-server-core";
pub(super) const CLIENT: &str = "mariadb-client-core";

/// Installs the packages, or unpacks them into `unpacked`.
pub(crate) fn provide(unpacked: &Path) -> Result<()> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(Failure::new(format!(
            "MariaDB's server programs (mariadbd) are not installed, and there is no apt to get them with; install \
             MariaDB 10.6 or newer, or set {VARIABLE}=mysql://user:password@host:3306/name to use a server"
        )));
    }
    if is_root() {
        return install(&[]);
    }
    if succeeds(Command::new("sudo").args(["-n", "true"])) {
        return install(&["sudo", "-n"]);
    }
    unpack(unpacked)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}

/// As packages, by `prefix` (sudo) if needed.
fn install(prefix: &[&str]) -> Result<()> {
    let apt_get = |args: &[&str]| {
        let mut words = prefix.to_vec();
        words.extend([
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-qq",
            "-o",
            "DPkg::Lock::Timeout=120",
        ]);
        words.extend(args);
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    };
    let try_install = || {
        let [server, client] = package_names(&[])?;
        println!("MariaDB is not installed: installing the packages {server} and {client} (no service)");
        let done = succeeds(apt_get(&["install", "-y", "--no-install-recommends"]).args([server, client]));
        done.then_some(())
    };
    if try_install().is_some() {
        return Ok(());
    }
    println!("Refreshing apt's package lists");
    // A single list that cannot be fetched is no reason to stop; the installation will tell.
    let _ = apt_get(&["update"]).status();
    try_install().ok_or_else(|| {
        Failure::new(format!(
            "apt-get could not install {SERVER}; set {VARIABLE} to use a server instead"
        ))
    })
}

/// Without root: apt downloads, dpkg unpacks, and nothing of the system is touched.
fn unpack(target: &Path) -> Result<()> {
    println!(
        "MariaDB is not installed, and there are no root rights: unpacking it into {}",
        target.display()
    );
    let work = work_folder(target)?;
    let own_lists = [
        format!("-oDir::State::lists={}", work.join("lists").display()),
        format!("-oDir::Cache={}", work.join("cache").display()),
    ];
    // The system's package lists if they know the packages, else lists of our own.
    let fetched = fetch(&work, &[]).or_else(|_| {
        println!("Fetching package lists");
        let _ = Command::new("apt-get")
            .args(&own_lists)
            .args(["-qq", "update"])
            .stdin(Stdio::null())
            .status();
        fetch(&work, &own_lists)
    });
    let debs = fetched
        .map_err(|failure| Failure::new(format!("{failure}; set {VARIABLE} to use a server instead")))?;
    extract(&debs, &work.join("root"))?;
    move_into_place(&work, target)
}

/// An empty folder beside `target` for what is on the way there.
pub(super) fn work_folder(target: &Path) -> Result<PathBuf> {
    let work = with_suffix(target, ".new");
    remove(&work)?;
    for folder in ["debs", "lists/partial", "cache/archives/partial", "root"] {
        let folder = work.join(folder);
        fs::create_dir_all(&folder).trying(|| format!("create {}", folder.display()))?;
    }
    Ok(work)
}

/// Unpacks packages into `root`.
pub(super) fn extract(debs: &[PathBuf], root: &Path) -> Result<()> {
    for deb in debs {
        if !succeeds(Command::new("dpkg").arg("-x").arg(deb).arg(root)) {
            return Err(Failure::new(format!("dpkg could not unpack {}", deb.display())));
        }
    }
    Ok(())
}

/// The unpacked root becomes `target`, at once: a copy that is there is whole.
pub(super) fn move_into_place(work: &Path, target: &Path) -> Result<()> {
    remove(target)?;
    fs::rename(work.join("root"), target).trying(|| format!("create {}", target.display()))?;
    remove(work)
}

/// Downloads the packages and those they need that are not installed.
fn fetch(work: &Path, options: &[String]) -> Result<Vec<PathBuf>> {
    let names =
        package_names(options).ok_or_else(|| Failure::new(format!("apt knows no package {SERVER}")))?;
    download(work, options, &names, &[])
}

/// Downloads packages with those they need that are not installed, and `alone` without.
pub(super) fn download(
    work: &Path,
    options: &[String],
    names: &[String],
    alone: &[&str],
) -> Result<Vec<PathBuf>> {
    let plan = Command::new("apt-get")
        .args(options)
        .args(["-s", "-qq", "--no-install-recommends", "install"])
        .args(names)
        .output()
        .trying(|| "run apt-get".to_owned())?;
    let plan_text = String::from_utf8_lossy(&plan.stdout);
    let wanted = planned(&plan_text);
    if !plan.status.success() || wanted.is_empty() {
        return Err(Failure::new(format!("apt-get has no plan to install {SERVER}")));
    }
    let folder = work.join("debs");
    let mut download = Command::new("apt-get");
    download
        .args(options)
        .args(["-qq", "download"])
        .args(wanted)
        .args(alone)
        .current_dir(&folder)
        .stdout(Stdio::null());
    if !succeeds(&mut download) {
        return Err(Failure::new(format!("apt-get could not download {SERVER}")));
    }
    let entries = fs::read_dir(&folder).trying(|| format!("read {}", folder.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "deb"))
        .collect())
}

/// The packages' names here: some releases have them with a version only (`mariadb-server-core-10.6`).
fn package_names(options: &[String]) -> Option<[String; 2]> {
    let names = Command::new("apt-cache")
        .args(options)
        .args(["pkgnames", SERVER])
        .output()
        .ok()?;
    choose(&String::from_utf8_lossy(&names.stdout))
}

fn choose(pkgnames: &str) -> Option<[String; 2]> {
    let suffixes = pkgnames
        .lines()
        .filter_map(|name| name.trim().strip_prefix(SERVER));
    let number = |suffix: &str| {
        let mut parts = suffix
            .trim_start_matches('-')
            .split('.')
            .map(|part| part.parse::<u32>().ok());
        (parts.next().flatten(), parts.next().flatten())
    };
    // No suffix is the release's own choice; otherwise the newest.
    let best = suffixes.max_by_key(|suffix| (suffix.is_empty(), number(suffix)))?;
    Some([format!("{SERVER}{best}"), format!("{CLIENT}{best}")])
}

/// The package names of `apt-get -s install`: `Inst mariadb-common (1:10.11.19-0+deb12u1 Debian:12/stable [all])`.
fn planned(plan: &str) -> Vec<&str> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
        .collect()
}

pub(super) fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null());
    if command.get_args().any(|arg| arg == "--version" || arg == "true") {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    command.status().is_ok_and(|status| status.success())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).trying(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_s_own_package_is_preferred_then_the_newest() {
        let choice = |names: &str| choose(names).map(|[server, client]| format!("{server} {client}"));
        assert_eq!(
            choice("mariadb-server-core-10.5\nmariadb-server-core\n").as_deref(),
            Some("mariadb-server-core mariadb-client-core")
        );
        assert_eq!(
            choice("mariadb-server-core-10.6\nmariadb-server-core-10.11\nmariadb-server-core-10.9\n")
                .as_deref(),
            Some("mariadb-server-core-10.11 mariadb-client-core-10.11")
        );
        assert_eq!(choice(""), None);
    }

    #[test]
    fn a_plan_names_new_and_replaced_packages() {
        let plan = "NOTE: This is only a simulation!\n\
                    Inst mysql-common (5.8+1.1.0 Debian:12.5/stable [all])\n\
                    Inst libssl3 [3.0.11] (3.0.15 Debian:12.5/stable [amd64])\n\
                    Conf mysql-common (5.8+1.1.0 Debian:12.5/stable [all])\n";
        assert_eq!(planned(plan), ["mysql-common", "libssl3"]);
    }
}
