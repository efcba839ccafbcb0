//! A MariaDB for the commands: the one that `DATABASE_URI` names, or a private instance. Where the server's programs
//! come from is in `programs` and `packages`, how an instance runs in `instance`.

mod instance;
mod packages;
mod programs;

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use crate::failure::{Failure, Result};
use crate::ready::Program;
use crate::run::Run;

pub(crate) use programs::Programs;

/// The variable that names a server to use instead of a private one.
pub(crate) const VARIABLE: &str = "DATABASE_URI";

/// Where the database will come from; found before anything slow happens, so that a missing one is told at once.
#[derive(Debug)]
pub(crate) enum Source {
    Given(String),
    Private(Programs),
}

#[derive(Debug)]
pub(crate) struct Database {
    /// `mysql://…`, with the database's name.
    pub(crate) uri: String,
    /// The private server, if one runs.
    pub(crate) server: Option<Program>,
}

impl Source {
    pub(crate) fn find() -> Result<Self> {
        match std::env::var(VARIABLE) {
            Ok(uri) if !uri.trim().is_empty() => for_drivers(uri.trim()).map(Self::Given).ok_or_else(|| {
                Failure::new(format!(
                    "{VARIABLE} must look like mysql://user:password@host:3306/name"
                ))
            }),
            _ => Ok(Self::Private(Programs::find_or_install()?)),
        }
    }

    /// Variables for tests that start servers of their own, to kill them; none if a server is given and its programs are
    /// not on this machine. Such tests then look for themselves, and say what they miss.
    pub(crate) fn programs_for_tests(&self) -> Result<Vec<(&'static str, OsString)>> {
        match self {
            Self::Given(_) => Ok(Programs::find()?.map_or_else(Vec::new, |programs| programs.for_tests())),
            Self::Private(programs) => Ok(programs.for_tests()),
        }
    }

    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }

    /// The database `name`, running. `data` is where a private instance keeps it; it must not exist.
    pub(crate) fn open(self, run: &Run, name: &str, data: &Path) -> Result<Database> {
        match self {
            Self::Given(uri) => {
                println!("Database: the server of {VARIABLE}");
                Ok(Database { uri, server: None })
            }
            Self::Private(programs) => {
                let started = Instant::now();
                let server = instance::start(run, &programs, name, data)?;
                let uri = instance::uri(run, name);
                let place = if data.starts_with("/dev/shm") {
                    "in memory"
                } else {
                    "on disk"
                };
                let seconds = started.elapsed().as_secs_f32();
                println!(
                    "Database: a private {} ({place}, {seconds:.1} s)",
                    programs.version()
                );
                Ok(Database {
                    uri,
                    server: Some(server),
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
