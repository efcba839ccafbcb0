//! A private MariaDB: an empty data directory, a socket that only this user can reach, and nothing read from the machine's
//! own configuration. It listens at no port, unless it is to be reached over TLS: then at one of loopback, for an account
//! with a password made up for this run. It ends with the run.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Programs, Transport};
use crate::failure::{Failure, Result, Trying};
use crate::ready::{Program, end_of_log, free_address};
use crate::run::Run;

const START_WITHIN: Duration = Duration::from_mins(1);

/// Makes a CA and a server's certificate (`tests/mariadb`).
const CERTIFICATES: &str = "rag-test-certificates";

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) server: Program,
    /// For sqlx.
    pub(crate) uri: String,
}

/// Where and how a server is reached that listens at a port.
struct Port {
    address: SocketAddr,
    certificates: PathBuf,
    password: String,
}

const USER: &str = "rag";

/// Starts an instance with one empty database and waits until it answers.
pub(crate) fn start(
    run: &Run,
    programs: &Programs,
    name: &str,
    data: &Path,
    transport: Transport,
    binaries: &Path,
) -> Result<Instance> {
    fs::create_dir_all(data).trying(|| format!("create {}", data.display()))?;
    fill(run, programs, data)?;
    let port = match transport {
        Transport::Socket => None,
        Transport::Tls => Some(port(run, binaries)?),
    };
    let file = |name: &str| run.short_folder().join(name);
    let [socket, log, init_file] = ["mariadb.sock", "mariadb.log", "init.sql"].map(file);
    write_private(&init_file, &init_statements(name, port.as_ref()))?;
    let mut command = run.background(programs.server(), &log)?;
    common_options(&mut command, programs, data);
    command
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", file("mariadb.pid").display()))
        .arg(format!("--init-file={}", init_file.display()))
        .arg(format!("--tmpdir={}", run.short_folder().display()))
        // Without --no-defaults a server would get these from the distribution's configuration, or speak latin1.
        .args([
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_unicode_ci",
        ])
        // Tests run side by side, each with a pool.
        .args(["--max-connections=1000", "--performance-schema=OFF"])
        // The data does not outlive the process, so nothing has to survive a power cut.
        .args([
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=256M",
        ]);
    match &port {
        None => command.arg("--skip-networking"),
        Some(port) => command
            .arg(format!("--bind-address={}", port.address.ip()))
            .arg(format!("--port={}", port.address.port()))
            .arg(format!(
                "--ssl-cert={}",
                port.certificates.join("server.pem").display()
            ))
            .arg(format!(
                "--ssl-key={}",
                port.certificates.join("server-key.pem").display()
            )),
    };
    let mut server = run.spawn("mariadbd", command, &log)?;
    server.wait_until(START_WITHIN, || greets(&socket))?;
    let uri = port.map_or_else(
        // The only account is root without a password, and the socket's folder is what keeps others out.
        // TLS there would protect nothing, and sqlx's own test harness fails where it closes such a connection.
        || {
            let socket = socket.display();
            format!("mysql://root@localhost/{name}?socket={socket}&ssl-mode=DISABLED")
        },
        |port| {
            let (address, ca) = (port.address, port.certificates.join("ca.pem"));
            let password = port.password;
            format!(
                "mysql://{USER}:{password}@{address}/{name}?ssl-mode=VERIFY_IDENTITY&ssl-ca={}",
                ca.display()
            )
        },
    );
    Ok(Instance { server, uri })
}

fn port(run: &Run, binaries: &Path) -> Result<Port> {
    let certificates = run.short_folder().join("certificates");
    let made = run
        .command(binaries.join(CERTIFICATES))
        .arg(&certificates)
        .stdin(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return Err(Failure::new(format!("{CERTIFICATES} made no certificates")));
    }
    let mut random = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .trying(|| "read /dev/urandom".to_owned())?;
    Ok(Port {
        address: free_address(0)?,
        certificates,
        password: format!("{:032x}", u128::from_ne_bytes(random)),
    })
}

/// Each line is one statement.
fn init_statements(name: &str, port: Option<&Port>) -> String {
    let database = format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;\n");
    let Some(Port { password, .. }) = port else {
        return database;
    };
    // By its name too: a server that looks names up calls 127.0.0.1 so.
    let accounts = ["127.0.0.1", "localhost"].map(|host| {
        format!(
            "GRANT ALL ON *.* TO {USER}@'{host}' IDENTIFIED BY '{password}' REQUIRE SSL WITH GRANT OPTION;\n"
        )
    });
    database + &accounts.concat()
}

/// Only this user may read it.
fn write_private(file: &Path, text: &str) -> Result<()> {
    let opened = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file);
    opened
        .and_then(|mut out| std::io::Write::write_all(&mut out, text.as_bytes()))
        .trying(|| format!("write {}", file.display()))
}

/// Creates the system tables.
fn fill(run: &Run, programs: &Programs, data: &Path) -> Result<()> {
    let log = run.short_folder().join("mariadb-install.log");
    let mut command = run.background(programs.installer(), &log)?;
    common_options(&mut command, programs, data);
    command
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        // A server that starts clears the temporary tables of any other away that it shares the folder with.
        .arg(format!("--tmpdir={}", run.short_folder().display()));
    let status = command
        .status()
        .trying(|| format!("start {}", programs.installer().display()))?;
    if !status.success() {
        let name = programs.installer().display();
        return Err(Failure::new(format!("{name} failed{}", end_of_log(&log))));
    }
    Ok(())
}

/// What the server and the program that fills its data directory must agree on.
fn common_options(command: &mut Command, programs: &Programs, data: &Path) {
    command
        .arg("--no-defaults")
        .args(programs.place_options())
        .arg(format!("--datadir={}", data.display()))
        // The default of 96 MiB is too much to write for data of minutes.
        .arg("--innodb-log-file-size=32M")
        .envs(programs.environment())
        .stdin(Stdio::null());
    // Run by root it would look for an account of its own, which the -core packages do not make.
    if std::fs::metadata(data).is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0) {
        command.arg("--user=root");
    }
}

/// Whether the server sends its greeting, which it does when the init file is done.
fn greets(socket: &Path) -> bool {
    let greeting = || -> std::io::Result<u8> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        // Length (3), sequence number, protocol version.
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        Ok(head[4])
    };
    greeting().is_ok_and(|protocol| protocol == 10)
}
