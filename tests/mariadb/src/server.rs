//! One server: data in a folder that goes with it, a socket, and a port of loopback if asked for.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::programs::Programs;

const STARTS_WITHIN: Duration = Duration::from_mins(1);

/// How a server differs from the usual one.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    options: Vec<String>,
    install_options: Vec<String>,
    tcp: bool,
}

/// A running server; it is killed, and its data removed, with this value.
pub struct Server {
    programs: Programs,
    builder: ServerBuilder,
    folder: tempfile::TempDir,
    port: Option<u16>,
    process: Child,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.folder.path().display())
    }
}

impl ServerBuilder {
    /// An option for the server, `--read-only` say.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// An option for the server and for the program that makes its data directory, `--innodb-page-size=8k` say.
    #[must_use]
    pub fn option_from_the_start(mut self, option: impl Into<String>) -> Self {
        let option = option.into();
        self.install_options.push(option.clone());
        self.options.push(option);
        self
    }

    /// Listens at a port of 127.0.0.1, too.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Starts it and waits until it answers. `None`: this machine has no server, and the test is to be left out.
    pub async fn start(self) -> Option<Server> {
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
            // A server that starts clears the temporary tables of any other away that it shares the folder with.
            .arg(format!("--tmpdir={}", folder.path().display()))
            .args(&self.install_options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(
            installed.status.success(),
            "mariadb-install-db failed: {}{}",
            String::from_utf8_lossy(&installed.stdout),
            String::from_utf8_lossy(&installed.stderr),
        );
        let port = self.tcp.then(free_port);
        let process = run(&programs, &self, folder.path(), port);
        let server = Server {
            programs,
            builder: self,
            folder,
            port,
            process,
        };
        server.wait_until_up().await;
        Some(server)
    }
}

impl Server {
    /// A server with the usual settings.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// As a power cut would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// After [`Server::kill`]: on the same data, socket and port. Does not wait until it answers.
    pub fn start_again(&mut self) {
        self.process = run(&self.programs, &self.builder, self.folder.path(), self.port);
    }

    /// Waits until it takes connections.
    pub async fn wait_until_up(&self) {
        let _up = self.root().await;
    }

    /// A connection of the account root, which may do everything, over the socket and without a database.
    pub async fn root(&self) -> MySqlConnection {
        let options = MySqlConnectOptions::new()
            .username("root")
            .ssl_mode(MySqlSslMode::Disabled)
            .socket(self.socket());
        let started = Instant::now();
        loop {
            match options.connect().await {
                Ok(connection) => return connection,
                Err(error) => assert!(started.elapsed() < STARTS_WITHIN, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs statements as root.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.root().await;
        // Whatever the server's default is.
        sqlx::raw_sql(AssertSqlSafe(format!(
            "SET SESSION TRANSACTION READ WRITE; {sql}"
        )))
        .execute(&mut connection)
        .await
        .unwrap();
    }

    /// Makes a database; answers the URI by which root reaches it over the socket.
    pub async fn create_database(&self, name: &str) -> String {
        self.execute(&format!("CREATE DATABASE {name}")).await;
        self.uri(name)
    }

    /// By which root reaches a database over the socket.
    pub fn uri(&self, database: &str) -> String {
        format!(
            "mysql://root@localhost/{database}?socket={}&ssl-mode=disabled",
            self.socket().display()
        )
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Of a server that was started with [`ServerBuilder::tcp`].
    pub fn port(&self) -> u16 {
        self.port.expect("this server listens at no port")
    }

    /// Its own folder, for files that it is to read.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn run(programs: &Programs, builder: &ServerBuilder, folder: &Path, port: Option<u16>) -> Child {
    let mut command = programs.command(&programs.server, &folder.join("data"));
    command
        .arg(format!("--socket={}", folder.join("s").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .arg(format!("--tmpdir={}", folder.display()))
        .arg("--innodb-buffer-pool-size=64M")
        .args([
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_unicode_ci",
        ])
        .args(&builder.options);
    match port {
        Some(port) => command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]),
        None => command.arg("--skip-networking"),
    };
    command.spawn().unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
