//! What a failed statement says about the server: the one list of error numbers that the queue and the tables share.
//!
//! Numbers and names are those of MariaDB's `errmsg-utf8.txt`, 10.6 to 11.8. Each list says why its errors belong together.
//! What to do about a cause (try again, wait, split) is the caller's business.

use std::io;

use sqlx::mysql::MySqlDatabaseError;

/// Why a statement failed, as far as it matters for trying it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Another transaction was in the way. The same transaction may succeed at once.
    Conflict,
    /// The server cannot serve anybody at the moment: it is gone, restarting, or overloaded.
    Outage,
    /// The server serves reads only: a failover is in progress or over, or an administrator is at work. The connection must
    /// be closed, because the server that takes writes may be another one by now.
    ReadOnly,
    /// The server does not serve this account: locked, rotated, blocked, over its limits, or without the rights.
    Account,
    /// The server has no room to write in.
    Full,
    /// The statement or its transaction is larger than the server takes. A smaller part of it may succeed.
    TooLarge,
    /// The server refuses a value of the statement, and will refuse it again.
    Content,
    /// The statement itself is refused, and will be again unless somebody changes the schema or the program.
    Statement,
}

/// The statement did nothing wrong, it lost against another transaction: deadlock (1213), lock wait timeout (1205), record
/// has changed since last read (1020), table definition has changed (1412), prepared statement must be prepared again (1615).
const CONFLICTS: &[u16] = &[1213, 1205, 1020, 1412, 1615];

/// - No capacity: out of memory (1037, 1038, 1041), too many connections (1040), cannot create a thread (1135), too many
///   transactions (1637).
/// - On its way down or up: shutdown (1053), not ready to serve, as a node of a cluster that has lost the others (1047).
/// - The session was ended from outside: query interrupted (1317), connection killed (1927), aborted (1152, 1184), network
///   errors as the server saw them (1158 to 1161).
/// - The statement was stopped because the server was too slow: `max_statement_time` (1969).
/// - The schema is being restored: unknown database (1049), no database selected (1046).
const OUTAGES: &[u16] = &[
    1037, 1038, 1041, 1040, 1135, 1637, 1053, 1047, 1317, 1927, 1152, 1184, 1158, 1159, 1160, 1161, 1969,
    1049, 1046,
];

/// `--read-only` (1290, which names the option), `tx_read_only` (1792), read-only mode (1836), `innodb_read_only` or a forced
/// recovery (1874, 1036).
const READ_ONLY: &[u16] = &[1290, 1792, 1836, 1874, 1036];

/// An operator has to act, and then the same statement succeeds.
/// - Login refused: access denied (1045, 1698), to this database (1044), host not allowed or blocked (1130, 1129), password
///   expired (1820, 1862), account locked (4151), authentication plugin not there (1251, 1275, 1524).
/// - Limits: `max_user_connections` (1203 by the server's setting, 1226 by the account's).
/// - Rights: on a table (1142), a column (1143), a global one (1227), a routine (1370).
const ACCOUNT: &[u16] = &[
    1045, 1698, 1044, 1130, 1129, 1820, 1862, 4151, 1251, 1275, 1524, 1203, 1226, 1142, 1143, 1227, 1370,
];

/// Disk full (1021), table full (1114), the storage engine or a commit failed (1030, 1180), files cannot be created or written
/// (1004, 1005, 1026, 1003), no room for locks (1206), the binary log cannot be written (1598).
const FULL: &[u16] = &[1021, 1114, 1030, 1180, 1004, 1005, 1026, 1003, 1206, 1598];

/// `max_allowed_packet` (1153), `max_binlog_cache_size` of a transaction (1197) or a statement (1705).
const TOO_LARGE: &[u16] = &[1153, 1197, 1705];

/// Column is not nullable (1048), out of range (1264), truncated (1265), wrong value (1292, 1366), invalid character string
/// (1300), too long (1406), CHECK (4025), row too large (1118), JSON that does not parse or is too deep (4036 to 4041).
const CONTENT: &[u16] = &[
    1048, 1264, 1265, 1292, 1366, 1300, 1406, 4025, 1118, 4036, 4037, 4038, 4039, 4040, 4041,
];

const LISTS: [(Cause, &[u16]); 7] = [
    (Cause::Conflict, CONFLICTS),
    (Cause::Outage, OUTAGES),
    (Cause::ReadOnly, READ_ONLY),
    (Cause::Account, ACCOUNT),
    (Cause::Full, FULL),
    (Cause::TooLarge, TOO_LARGE),
    (Cause::Content, CONTENT),
];

impl Cause {
    pub const ALL: [Self; 8] = [
        Self::Conflict,
        Self::Outage,
        Self::ReadOnly,
        Self::Account,
        Self::Full,
        Self::TooLarge,
        Self::Content,
        Self::Statement,
    ];

    /// For logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Outage => "outage",
            Self::ReadOnly => "read_only",
            Self::Account => "account",
            Self::Full => "full",
            Self::TooLarge => "too_large",
            Self::Content => "content",
            Self::Statement => "statement",
        }
    }

    /// The state of the server, or of our account at it, is the reason: the same transaction may succeed later.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Conflict | Self::Outage | Self::ReadOnly | Self::Account | Self::Full => true,
            Self::TooLarge | Self::Content | Self::Statement => false,
        }
    }
}

/// Sorts an error of sqlx.
pub fn cause(error: &sqlx::Error) -> Cause {
    match error {
        sqlx::Error::Database(_) => number(error).map_or(Cause::Statement, of_number),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Cause::ReadOnly,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Cause::Outage,
        _ => Cause::Statement,
    }
}

/// The server's number of the error; `None` if it does not come from the server.
pub fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?;
    Some(error.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

/// What is answered for a server that still takes reads, and perhaps even our writes, but was made read-only.
pub(crate) fn read_only() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(
        io::ErrorKind::ReadOnlyFilesystem,
        "the server is read-only (@@read_only)",
    ))
}

fn of_number(number: u16) -> Cause {
    let found = LISTS.iter().find(|(_, numbers)| numbers.contains(&number));
    found.map_or(Cause::Statement, |(cause, _)| *cause)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_has_one_cause() {
        let mut seen = BTreeSet::new();
        for (_, numbers) in LISTS {
            for number in numbers {
                assert!(seen.insert(*number), "{number} stands in two lists");
            }
        }
    }

    #[test]
    fn what_administrators_and_failovers_do_is_no_fault_of_a_statement() {
        for (number, cause) in [
            (1290, Cause::ReadOnly),
            (1836, Cause::ReadOnly),
            (1792, Cause::ReadOnly),
            (1203, Cause::Account),
            (1226, Cause::Account),
            (4151, Cause::Account),
            (1045, Cause::Account),
            (1142, Cause::Account),
            (1021, Cause::Full),
            (1114, Cause::Full),
            (1969, Cause::Outage),
            (1047, Cause::Outage),
            (1160, Cause::Outage),
        ] {
            assert_eq!(of_number(number), cause, "{number}");
            assert!(cause.is_transient());
        }
        assert_eq!(cause(&read_only()), Cause::ReadOnly);
    }

    #[test]
    fn only_values_are_blamed_for_what_values_do() {
        assert_eq!(of_number(1406), Cause::Content);
        // Syntax, unknown column, unknown table: the program or the schema.
        for number in [1064, 1054, 1146, 1267, 1271] {
            assert_eq!(of_number(number), Cause::Statement, "{number}");
        }
        assert_eq!(of_number(1153), Cause::TooLarge);
        assert!(!Cause::TooLarge.is_transient());
    }
}
