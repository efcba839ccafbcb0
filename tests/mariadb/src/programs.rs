//! The server's programs: those that `TEST_MARIADBD` and `TEST_MARIADB_INSTALL_DB` name, else those on the PATH.
//!
//! `cargo xtask test` sets these variables, and `TEST_MARIADB_OPTIONS` and `TEST_MARIADB_LIBRARIES` for an unpacked copy.
//! Without any programs a test fails, and says so; who cannot have them sets `TEST_MARIADBD=none` and goes without
//! those tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) installer: PathBuf,
    options: Vec<String>,
}

impl Programs {
    /// `None`: the test is to be left out.
    pub(crate) fn find() -> Option<Self> {
        let named = |variable: &str| std::env::var_os(variable).filter(|path| !path.is_empty());
        let server = named("TEST_MARIADBD");
        if server.as_deref().is_some_and(|path| path == "none") {
            eprintln!("LEFT OUT: TEST_MARIADBD=none, so there is no server of this test's own");
            return None;
        }
        let server = server.map(PathBuf::from).or_else(|| on_path("mariadbd"));
        let installer = named("TEST_MARIADB_INSTALL_DB")
            .map(PathBuf::from)
            .or_else(|| on_path("mariadb-install-db"));
        let (Some(server), Some(installer)) = (server, installer) else {
            panic!(
                "no mariadbd and mariadb-install-db found for a server of this test's own: run it through \
                 `cargo xtask test`, install them, or name them in TEST_MARIADBD and TEST_MARIADB_INSTALL_DB \
                 (TEST_MARIADBD=none leaves the test out)"
            );
        };
        let options = std::env::var("TEST_MARIADB_OPTIONS").unwrap_or_default();
        let options = options.lines().map(str::to_owned).collect();
        Some(Self {
            server,
            installer,
            options,
        })
    }

    /// One of the programs, silent, on this data directory.
    pub(crate) fn command(&self, program: &Path, data: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .arg("--no-defaults")
            .args(&self.options)
            .arg(format!("--datadir={}", data.display()))
            .arg("--innodb-log-file-size=32M")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(folders) = std::env::var_os("TEST_MARIADB_LIBRARIES") {
            command.env("LD_LIBRARY_PATH", folders);
        }
        // Started by root it would look for an account of its own.
        if std::fs::metadata(data).is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0) {
            command.arg("--user=root");
        }
        command
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|program| program.is_file())
}
