//! Copies of MariaDB in a named version, unpacked from the Debian release that has it, beside whatever this machine has
//! installed. A copy brings everything its programs need, the C library included, so that a newer release's server runs on
//! an older one and the other way round.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::packages::{self, CLIENT, SERVER};
use super::programs::{Version, library_folders};
use crate::failure::{Failure, Result, Trying};

/// Debian's releases and the version each has.
const RELEASES: [(Version, &str); 2] = [
    (Version::new(10, 11), "bookworm"),
    (Version::new(11, 8), "trixie"),
];
/// Holds the login plugins; unpacked without what it needs to run as a service.
const PLUGINS: &str = "mariadb-server";
/// What a copy's programs are, and those that its shell script calls.
const PROGRAMS: [&str; 4] = [
    "usr/sbin/mariadbd",
    "usr/bin/mariadb",
    "usr/bin/my_print_defaults",
    "usr/bin/resolveip",
];

/// Unpacks the version into `target`.
pub(super) fn provide(version: Version, target: &Path) -> Result<()> {
    let release = RELEASES.iter().find(|(known, _)| *known == version);
    let Some((_, release)) = release else {
        let known: Vec<String> = RELEASES.iter().map(|(known, _)| known.to_string()).collect();
        return Err(Failure::new(format!(
            "there is no copy of {version} to be had; there is {}",
            known.join(", ")
        )));
    };
    println!(
        "Unpacking {version} of Debian's {release} into {}",
        target.display()
    );
    let mirror = debian_mirror()?;
    let work = packages::work_folder(target)?;
    let options = own_apt(&work, &mirror, release)?;
    let updated = packages::succeeds(
        Command::new("apt-get")
            .args(&options)
            .args(["-qq", "update"])
            .stderr(Stdio::null()),
    );
    if !updated {
        return Err(Failure::new(format!(
            "apt-get could not fetch {release}'s package lists"
        )));
    }
    let names = [SERVER, CLIENT].map(str::to_owned);
    let debs = packages::download(&work, &options, &names, &[PLUGINS])?;
    let root = work.join("root");
    packages::extract(&debs, &root)?;
    for program in PROGRAMS {
        wrap(&root, program)?;
    }
    packages::move_into_place(&work, target)
}

/// The address of the first Debian archive that this machine's apt uses.
fn debian_mirror() -> Result<String> {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .stdin(Stdio::null())
        .output();
    let targets = targets.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
    targets
        .ok()
        .as_deref()
        .and_then(choose_mirror)
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("a copy of MariaDB comes from a Debian archive, and apt here uses none"))
}

fn choose_mirror(uris: &str) -> Option<&str> {
    uris.lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
}

/// apt as if nothing were installed, on one release, with lists and caches of its own.
fn own_apt(work: &Path, mirror: &str, release: &str) -> Result<Vec<String>> {
    let [status, sources] = ["status", "debian.sources"].map(|name| work.join(name));
    let text = format!(
        "Types: deb\nURIs: {mirror}\nSuites: {release}\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    );
    fs::write(&sources, text).trying(|| format!("write {}", sources.display()))?;
    fs::write(&status, "").trying(|| format!("write {}", status.display()))?;
    let path = |path: &Path| path.display().to_string();
    Ok([
        ("Dir::Etc::sourcelist", path(&sources)),
        ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
        ("Dir::State::status", path(&status)),
        ("Dir::State::lists", path(&work.join("lists"))),
        ("Dir::Cache", path(&work.join("cache"))),
        ("Acquire::Languages", "none".to_owned()),
        // Root's apt would fetch as an account that may not enter our folder, and say so for each file.
        ("APT::Sandbox::User", String::new()),
    ]
    .map(|(name, value)| format!("-o{name}={value}"))
    .to_vec())
}

/// Puts a shell script in the program's place that starts it with the copy's own loader and libraries.
fn wrap(root: &Path, program: &str) -> Result<()> {
    let script = root.join(program);
    if !script.is_file() {
        return Ok(());
    }
    let real = format!("{program}.real");
    fs::rename(&script, root.join(&real)).trying(|| format!("rename {}", script.display()))?;
    let folders: Vec<PathBuf> = ["usr/lib", "lib"]
        .into_iter()
        .flat_map(|part| library_folders(&root.join(part)))
        .filter(|folder| folder.is_dir())
        .collect();
    let loader = folders.iter().find_map(|folder| loader_in(folder));
    let loader = loader.ok_or_else(|| Failure::new(format!("there is no loader in {}", root.display())))?;
    let inside = |path: &Path| {
        let path = path.strip_prefix(root).unwrap_or(path);
        format!("$root/{}", path.display())
    };
    let libraries: Vec<String> = folders.iter().map(|folder| inside(folder)).collect();
    let text = format!(
        "#!/bin/sh\n# Starts the program with the libraries it was built for.\n\
         root=$(cd \"$(dirname \"$0\")/../..\" && pwd)\n\
         exec \"{}\" --library-path \"{}\" \"$root/{real}\" \"$@\"\n",
        inside(&loader),
        libraries.join(":"),
    );
    fs::write(&script, text).trying(|| format!("write {}", script.display()))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&script, executable).trying(|| format!("change {}", script.display()))
}

/// The dynamic loader, `ld-linux-x86-64.so.2` say.
fn loader_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("ld-linux") && name.contains(".so.")
        })
        .map(|entry| entry.path())
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_itself_is_used_not_its_security_updates() {
        let uris = "https://elsewhere/apt/\nhttp://mirror/debian-security/\nhttp://mirror/debian/\n";
        assert_eq!(choose_mirror(uris), Some("http://mirror/debian/"));
        assert_eq!(choose_mirror("http://mirror/ubuntu/\n"), None);
    }
}
