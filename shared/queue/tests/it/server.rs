//! A MariaDB of a test's own, to be killed and started again: data in a folder that goes with it, a socket, no port.
//!
//! The programs are those that `TEST_MARIADBD` and `TEST_MARIADB_INSTALL_DB` name (`cargo xtask test` sets these, and
//! `TEST_MARIADB_OPTIONS` and `TEST_MARIADB_LIBRARIES` for an unpacked copy), else those on the PATH. Without any the test fails, and says so; who
//! cannot have them sets `TEST_MARIADBD=none` and goes without that proof.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Connection};

const DATABASE: &str = "outage";
const STARTS_WITHIN: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    programs: Programs,
    folder: tempfile::TempDir,
    process: Child,
}

struct Programs {
    server: PathBuf,
    installer: PathBuf,
    options: Vec<String>,
}

impl Programs {
    /// `None`: the test is to be left out.
    fn find() -> Option<Self> {
        let named = |variable: &str| std::env::var_os(variable).filter(|path| !path.is_empty());
        let server = named("TEST_MARIADBD");
        if server.as_deref().is_some_and(|path| path == "none") {
            eprintln!("LEFT OUT: TEST_MARIADBD=none, so nothing shows that workers outlive their server");
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

    fn command(&self, program: &Path, data: &Path) -> Command {
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

impl Server {
    /// `None`: the test is to be left out.
    pub(crate) fn start() -> Option<Self> {
        let programs = Programs::find()?;
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let installed = programs
            .command(&programs.installer, &data)
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .status()
            .unwrap();
        assert!(installed.success(), "mariadb-install-db failed");
        let process = run(&programs, folder.path());
        Some(Self {
            programs,
            folder,
            process,
        })
    }

    /// As a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.programs, self.folder.path());
    }

    /// Answers its URL, when the server takes connections.
    pub(crate) async fn create_database(&self) -> String {
        let socket = self.folder.path().join("s");
        let options = MySqlConnectOptions::new().username("root").socket(&socket);
        let started = Instant::now();
        let mut conn: MySqlConnection = loop {
            match options.connect().await {
                Ok(conn) => break conn,
                Err(error) => assert!(started.elapsed() < STARTS_WITHIN, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {DATABASE}")))
            .execute(&mut conn)
            .await
            .unwrap();
        conn.close().await.unwrap();
        format!("mysql://root@localhost/{DATABASE}?socket={}", socket.display())
    }
}

fn run(programs: &Programs, folder: &Path) -> Child {
    programs
        .command(&programs.server, &folder.join("data"))
        .arg(format!("--socket={}", folder.join("s").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        // A server that starts clears the temporary tables of any other away that it shares the folder with.
        .arg(format!("--tmpdir={}", folder.display()))
        .args(["--skip-networking", "--innodb-buffer-pool-size=64M"])
        .args([
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_unicode_ci",
        ])
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
