//! What a program needs the database for, and what it then lacks.

use std::fmt;

/// What the database is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A program that stays, and may hold so many connections.
    Serve { connections: u32 },
    /// A command that reads and writes rows.
    Command,
    /// The command that makes tables.
    Migrate,
}

impl Purpose {
    pub(crate) fn connections(self) -> u64 {
        match self {
            Self::Serve { connections } => connections.into(),
            Self::Command | Self::Migrate => 2,
        }
    }
}

/// Something that must be changed at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet(String);

impl Unmet {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
