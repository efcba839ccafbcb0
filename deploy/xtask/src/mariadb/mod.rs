//! A MariaDB for the commands: the one that `DATABASE_URI` names, or a private instance. Where the server's programs
//! come from is in `programs`, `packages` and `copies`, how an instance runs in `instance`.

mod copies;
mod instance;
mod packages;
mod programs;

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use crate::failure::{Failure, Result};
use crate::ready::Program;
use crate::run::Run;

pub(crate) use programs::{Programs, Version};

/// The variable that names a server to use instead of a private one.
pub(crate) const VARIABLE: &str = "DATABASE_URI";

/// What the command line says of the private server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// This version, whatever is installed.
    pub(crate) version: Option<Version>,
    pub(crate) transport: Transport,
}

/// How programs and tests reach the private server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    #[default]
    Socket,
    /// A port of loopback, with TLS and a certificate that has to be verified.
    Tls,
}

/// Where the database will come from; found before anything slow happens, so that a missing one is told at once.
#[derive(Debug)]
pub(crate) enum Source {
    Given(String),
    Private(Programs, Transport),
}

#[derive(Debug)]
pub(crate) struct Database {
    /// `mysql://…`, with the database's name.
    pub(crate) uri: String,
    /// The private server, if one runs.
    pub(crate) server: Option<Program>,
}

impl Source {
    pub(crate) fn find(choice: Choice) -> Result<Self> {
        let given = std::env::var(VARIABLE).unwrap_or_default();
        match given.trim() {
            "" => {
                let programs = match choice.version {
                    Some(version) => Programs::of_version(version)?,
                    None => Programs::find_or_install()?,
                };
                Ok(Self::Private(programs, choice.transport))
            }
            _ if choice != Choice::default() => Err(Failure::new(format!(
                "--mariadb and --over are about a private server, and {VARIABLE} names another one: unset it, or leave them out"
            ))),
            uri => for_drivers(uri).map(Self::Given).ok_or_else(|| {
                Failure::new(format!(
                    "{VARIABLE} must look like mysql://user:password@host:3306/name"
                ))
            }),
        }
    }

    /// Variables for tests that start servers of their own, to kill them; none if a server is given and its programs are
    /// not on this machine. Such tests then look for themselves, and say what they miss.
    pub(crate) fn programs_for_tests(&self) -> Result<Vec<(&'static str, OsString)>> {
        match self {
            Self::Given(_) => Ok(Programs::find()?.map_or_else(Vec::new, |programs| programs.for_tests())),
            Self::Private(programs, _) => Ok(programs.for_tests()),
        }
    }

    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Private(..))
    }

    /// The database `name`, running. `data` is where a private instance keeps it; it must not exist. `binaries` is the folder
    /// of our own built programs.
    pub(crate) fn open(self, run: &Run, name: &str, data: &Path, binaries: &Path) -> Result<Database> {
        match self {
            Self::Given(uri) => {
                println!("Database: the server of {VARIABLE}");
                Ok(Database { uri, server: None })
            }
            Self::Private(programs, transport) => {
                let started = Instant::now();
                let instance = instance::start(run, &programs, name, data, transport, binaries)?;
                let place = if data.starts_with("/dev/shm") {
                    "in memory"
                } else {
                    "on disk"
                };
                let seconds = started.elapsed().as_secs_f32();
                let reached = match transport {
                    Transport::Socket => "",
                    Transport::Tls => " over TCP with TLS",
                };
                println!(
                    "Database: a private {}{reached} ({place}, {seconds:.1} s)",
                    programs.version()
                );
                Ok(Database {
                    uri: instance.uri,
                    server: Some(instance.server),
                })
            }
        }
    }
}

/// The URI with the plain scheme that database drivers know: our programs also take `mariadb://` and SQLAlchemy's
/// `mysql+pymysql://`, but the tests hand the URI to a driver.
fn for_drivers(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once("://")?;
    let dialect = scheme.split('+').next()?;
    ["mysql", "mariadb"]
        .contains(&dialect)
        .then(|| format!("mysql://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_get_the_scheme_that_drivers_know() {
        let plain = Some("mysql://me@db:3306/rag".to_owned());
        for scheme in ["mysql", "mariadb", "mysql+pymysql", "mariadb+mariadbconnector"] {
            assert_eq!(for_drivers(&format!("{scheme}://me@db:3306/rag")), plain);
        }
        assert_eq!(for_drivers("postgres://me@db/rag"), None);
        assert_eq!(for_drivers("db:3306"), None);
    }
}
