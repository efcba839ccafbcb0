//! The server's programs: looked for in the usual places, else installed (see `packages`).

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{VARIABLE, copies, packages};
use crate::failure::{Failure, Result, Trying};
use crate::run::repository;

/// The oldest MariaDB that the tests run on.
const OLDEST: Version = Version::new(10, 11);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// `11.8`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }

    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MariaDB {}.{}", self.major, self.minor)
    }
}

#[derive(Debug)]
pub(crate) struct Programs {
    server: PathBuf,
    installer: PathBuf,
    /// The root of an unpacked copy; the programs then need to be told where their other files are.
    unpacked: Option<PathBuf>,
    /// The copy brings the C library that its programs need, and starts them with it.
    has_own_libraries: bool,
    version: Version,
}

impl Programs {
    pub(crate) fn find_or_install() -> Result<Self> {
        if let Some(found) = Self::find()? {
            return Ok(found);
        }
        packages::provide(&unpacked_copy())?;
        Self::find()?.ok_or_else(|| {
            Failure::new(format!(
                "MariaDB was installed, but there is no mariadbd; set {VARIABLE} to use a server"
            ))
        })
    }

    pub(crate) fn find() -> Result<Option<Self>> {
        let unpacked = unpacked_copy();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        // Outside of root's PATH.
        folders.extend(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from));
        let pick = |names: [&str; 2]| {
            let mut candidates = folders
                .iter()
                .flat_map(|folder| names.map(|name| folder.join(name)));
            candidates.find(|candidate| candidate.is_file())
        };
        // `mysqld` may be Oracle's server; the version tells.
        if let (Some(server), Some(installer)) = (
            pick(["mariadbd", "mysqld"]),
            pick(["mariadb-install-db", "mysql_install_db"]),
        ) {
            if let Some(version) = version(Command::new(&server))?.filter(|version| *version >= OLDEST) {
                return Ok(Some(Self {
                    server,
                    installer,
                    unpacked: None,
                    has_own_libraries: false,
                    version,
                }));
            }
            println!("{} is not {OLDEST} or newer: not used", server.display());
        }
        let mut copy = Self::unpacked(&unpacked, OLDEST, false);
        if !copy.server.is_file() {
            return Ok(None);
        }
        let mut probe = Command::new(&copy.server);
        probe.envs(copy.environment());
        copy.version = version(probe)?
            .filter(|version| *version >= OLDEST)
            .ok_or_else(|| {
                Failure::new(format!(
                    "{} is not {OLDEST} or newer; set {VARIABLE} to use a server",
                    copy.server.display()
                ))
            })?;
        Ok(Some(copy))
    }

    /// A copy of just this version, made below `.local/` if it is not there yet. Installs nothing.
    pub(crate) fn of_version(wanted: Version) -> Result<Self> {
        let root = repository().join(format!(".local/mariadb-{}.{}", wanted.major, wanted.minor));
        let copy = Self::unpacked(&root, wanted, true);
        if !copy.server.is_file() {
            copies::provide(wanted, &root)?;
        }
        let found = version(Command::new(&copy.server))?;
        if found == Some(wanted) {
            return Ok(copy);
        }
        let name = copy.server.display();
        Err(Failure::new(format!(
            "{name} is not {wanted}; remove {} and try again",
            root.display()
        )))
    }

    fn unpacked(root: &Path, version: Version, has_own_libraries: bool) -> Self {
        Self {
            server: root.join("usr/sbin/mariadbd"),
            installer: root.join("usr/bin/mariadb-install-db"),
            unpacked: Some(root.to_path_buf()),
            has_own_libraries,
            version,
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn server(&self) -> &Path {
        &self.server
    }

    /// The program that fills an empty data directory.
    pub(crate) fn installer(&self) -> &Path {
        &self.installer
    }

    /// Options that an unpacked copy needs, for both programs.
    pub(crate) fn place_options(&self) -> Vec<OsString> {
        let option = |name: &str, path: PathBuf| {
            let mut option = OsString::from(name);
            option.push(path);
            option
        };
        self.unpacked.as_ref().map_or_else(Vec::new, |root| {
            // Newer packages have the second.
            let messages = ["usr/share/mysql", "usr/share/mariadb"]
                .map(|folder| root.join(folder))
                .into_iter()
                .find(|folder| folder.join("english").is_dir())
                .unwrap_or_else(|| root.join("usr/share/mariadb"));
            vec![
                option("--basedir=", root.join("usr")),
                option("--lc-messages-dir=", messages),
                option("--plugin-dir=", root.join("usr/lib/mysql/plugin")),
            ]
        })
    }

    /// Variables that tell tests where the programs are: `tests/mariadb` reads them.
    pub(crate) fn for_tests(&self) -> Vec<(&'static str, OsString)> {
        let options = self.place_options().join(&OsString::from("\n"));
        let mut variables = vec![
            ("TEST_MARIADBD", self.server.clone().into_os_string()),
            ("TEST_MARIADB_INSTALL_DB", self.installer.clone().into_os_string()),
            ("TEST_MARIADB_OPTIONS", options),
        ];
        let libraries = self.environment().into_iter();
        variables.extend(libraries.map(|(_, folders)| ("TEST_MARIADB_LIBRARIES", folders)));
        variables
    }

    /// Variables that an unpacked copy needs to find its libraries.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let Some(root) = self.unpacked.as_ref().filter(|_| !self.has_own_libraries) else {
            return Vec::new();
        };
        let folders = ["usr/lib", "lib"]
            .into_iter()
            .flat_map(|part| library_folders(&root.join(part)));
        let Ok(joined) = std::env::join_paths(folders) else {
            return Vec::new();
        };
        vec![("LD_LIBRARY_PATH".into(), joined)]
    }
}

/// Where a copy of the server is unpacked if it cannot be installed.
fn unpacked_copy() -> PathBuf {
    repository().join(".local/mariadb")
}

/// A folder of libraries and its subfolders by architecture (`x86_64-linux-gnu`).
pub(super) fn library_folders(parent: &Path) -> Vec<PathBuf> {
    let mut folders = vec![parent.to_path_buf()];
    if let Ok(entries) = std::fs::read_dir(parent) {
        let below = entries.flatten().map(|entry| entry.path());
        folders.extend(below.filter(|path| path.to_string_lossy().contains("-linux-")));
    }
    folders
}

/// None if it is no MariaDB.
fn version(mut server: Command) -> Result<Option<Version>> {
    let shown = format!("{}", server.get_program().display());
    let output = server
        .args(["--no-defaults", "--version"])
        .output()
        .trying(|| format!("run {shown}"))?;
    Ok(parse_version(&String::from_utf8_lossy(&output.stdout)))
}

/// `mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)`.
fn parse_version(text: &str) -> Option<Version> {
    let word = text.split_once("Ver ")?.1.split_whitespace().next()?;
    let (numbers, _) = word.split_once("-MariaDB")?;
    let mut numbers = numbers.split('.').map(str::parse);
    Some(Version {
        major: numbers.next()?.ok()?,
        minor: numbers.next()?.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let debian =
            "/usr/sbin/mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)";
        assert_eq!(parse_version(debian), Some(Version { major: 10, minor: 11 }));
        assert!(parse_version(debian).unwrap() >= OLDEST);
        assert!(parse_version("mariadbd  Ver 11.4.2-MariaDB for Linux on x86_64").unwrap() > OLDEST);
        assert_eq!(Version::parse("11.8"), Some(Version::new(11, 8)));
        assert_eq!(Version::parse("11"), None);
        assert!(
            parse_version("mysqld  Ver 10.5.23-MariaDB-0+deb11u1 for debian-linux-gnu").unwrap() < OLDEST
        );
        assert_eq!(
            parse_version("/usr/sbin/mysqld  Ver 8.0.40 for Linux on x86_64 (MySQL Community)"),
            None
        );
        assert_eq!(parse_version(""), None);
    }
}
