//! A private MariaDB: an empty data directory, a socket that only this user can reach, no TCP port, and nothing read
//! from the machine's own configuration. It ends with the run.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Programs;
use crate::failure::{Failure, Result, Trying};
use crate::ready::{Program, end_of_log};
use crate::run::Run;

const START_WITHIN: Duration = Duration::from_mins(1);

/// For sqlx: the only account is root without a password, and the socket's folder is what keeps others out.
pub(crate) fn uri(run: &Run, name: &str) -> String {
    format!("mysql://root@localhost/{name}?socket={}", socket(run).display())
}

fn socket(run: &Run) -> PathBuf {
    run.short_folder().join("mariadb.sock")
}

/// Starts an instance with one empty database and waits until it answers.
pub(crate) fn start(run: &Run, programs: &Programs, name: &str, data: &Path) -> Result<Program> {
    fs::create_dir_all(data).trying(|| format!("create {}", data.display()))?;
    fill(run, programs, data)?;

    let init_file = run.short_folder().join("init.sql");
    let statement = format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;\n");
    fs::write(&init_file, statement).trying(|| format!("write {}", init_file.display()))?;
    let log = run.short_folder().join("mariadb.log");
    let socket = socket(run);
    let mut command = run.background(programs.server(), &log)?;
    common_options(&mut command, programs, data);
    command
        .arg(format!("--socket={}", socket.display()))
        .arg(format!(
            "--pid-file={}",
            run.short_folder().join("mariadb.pid").display()
        ))
        .arg(format!("--init-file={}", init_file.display()))
        // A server that starts clears the temporary tables of any other away that it shares the folder with.
        .arg(format!("--tmpdir={}", run.short_folder().display()))
        .arg("--skip-networking")
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
    let mut server = run.spawn("mariadbd", command, &log)?;
    server.wait_until(START_WITHIN, || greets(&socket))?;
    Ok(server)
}

/// Creates the system tables.
fn fill(run: &Run, programs: &Programs, data: &Path) -> Result<()> {
    let log = run.short_folder().join("mariadb-install.log");
    let mut command = run.background(programs.installer(), &log)?;
    common_options(&mut command, programs, data);
    command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
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
