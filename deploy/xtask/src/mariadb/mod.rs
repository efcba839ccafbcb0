//! A MariaDB for the commands: the one that `DATABASE_URI` names, or a private instance. Where the server's programs
//! come from is in `programs` and `packages`, how an instance runs in `instance`.

mod instance;
mod packages;
mod programs;

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
            Ok(uri) if !uri.trim().is_empty() => {
                if !uri.starts_with("mysql://") && !uri.starts_with("mariadb://") {
                    return Err(Failure::new(format!(
                        "{VARIABLE} must look like mysql://user:password@host:3306/name"
                    )));
                }
                Ok(Self::Given(uri))
            }
            _ => Ok(Self::Private(Programs::find_or_install()?)),
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
