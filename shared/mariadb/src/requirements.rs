//! What a server must be like, as far as a session cannot set it for itself (that is `session`): checked once, at the start of
//! every program and command. All that is wrong is said at once, each with the value found and what to do.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::mysql::MySqlConnection;

use crate::purpose::{Purpose, Unmet};
use crate::rights;

/// The oldest version that all tests run on.
const OLDEST: (u32, u32) = (10, 11);

/// MariaDB's own default. A statement of ours may hold a whole request, or a batch of jobs.
const MIN_PACKET_BYTES: u64 = 16 << 20;

/// Below this, keys of our tables are too long for an index.
const MIN_PAGE_BYTES: u64 = 16 << 10;

/// What the driver keeps prepared on each connection.
const STATEMENTS_OF_A_CONNECTION: u64 = 100;

/// What a server says of itself.
#[derive(Debug, Default)]
struct Found {
    version: String,
    /// By their names in lower case; of this session, where there is such a value.
    variables: HashMap<String, String>,
}

/// What is wrong with this server and this account; empty: nothing. The session's own settings are not checked.
pub(crate) async fn unmet(
    connection: &mut MySqlConnection,
    purpose: Purpose,
) -> Result<Vec<Unmet>, sqlx::Error> {
    // Not prepared: a server may have no room for that.
    let version = sqlx::raw_sql("SELECT VERSION()")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let rows = sqlx::raw_sql("SHOW VARIABLES")
        .fetch_all(&mut *connection)
        .await?;
    let mut variables = HashMap::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        variables.insert(name.to_ascii_lowercase(), row.try_get(1)?);
    }
    let found = Found { version, variables };
    if let Some(wrong) = wrong_version(&found.version) {
        // Whatever else is missing comes of that.
        return Ok(vec![wrong]);
    }
    let mut unmet = wrong_settings(&found, purpose);
    // A server that writes nothing refuses the probes, too.
    if !found.is_read_only() {
        unmet.extend(rights::missing(connection, purpose).await?);
    }
    Ok(unmet)
}

/// `10.11.14-MariaDB-0+deb12u2`, `5.5.5-10.11.14-MariaDB` (as some proxies say), `8.0.36`.
fn wrong_version(version: &str) -> Option<Unmet> {
    let (major, minor) = OLDEST;
    let Some((numbers, _)) = version.split_once("-MariaDB") else {
        return Some(Unmet::new(format!(
            "this is no MariaDB (its version is {version}); MariaDB {major}.{minor} or newer is needed"
        )));
    };
    let numbers = numbers.strip_prefix("5.5.5-").unwrap_or(numbers);
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (found < OLDEST).then(|| {
        Unmet::new(format!(
            "its version is {version}; MariaDB {major}.{minor} or newer is needed"
        ))
    })
}

impl Found {
    fn text(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    fn is_on(&self, name: &str) -> bool {
        // Newer versions know more ways to be read-only than ON.
        !matches!(self.text(name), "" | "OFF" | "0")
    }

    fn is_read_only(&self) -> bool {
        self.is_on("read_only") || self.is_on("innodb_read_only") || self.is_on("innodb_force_recovery")
    }
}

fn wrong_settings(found: &Found, purpose: Purpose) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    let mut wrong = |text: String| unmet.push(Unmet::new(text));
    for (name, why) in [
        (
            "read_only",
            "a replica, or a primary in a switchover: name the primary, or set it to OFF",
        ),
        ("innodb_read_only", "start the server without it"),
        (
            "innodb_force_recovery",
            "the server is being repaired: start it without it",
        ),
    ] {
        if found.is_on(name) {
            wrong(format!(
                "the server is read-only: {name} is {}; {why}",
                found.text(name)
            ));
        }
    }
    if found.is_on("wsrep_on") {
        wrong(
            "wsrep_on is ON: a Galera cluster loses updates that a queue must not lose; use a single primary"
                .into(),
        );
    }
    if found.is_on("log_bin") && found.text("binlog_format") == "STATEMENT" {
        wrong(
            "binlog_format is STATEMENT, with which InnoDB refuses to write under READ COMMITTED; set it to ROW or MIXED"
                .into(),
        );
    }
    match found.number("innodb_page_size") {
        None => wrong("InnoDB is switched off; start the server with it".into()),
        Some(bytes) if bytes < MIN_PAGE_BYTES => wrong(format!(
            "innodb_page_size is {bytes}, too small for the tables' indexes; it must be {MIN_PAGE_BYTES} or more, and is \
             chosen when a server's data directory is made"
        )),
        Some(_) => {}
    }
    at_least(
        found,
        "max_allowed_packet",
        MIN_PACKET_BYTES,
        "raise it",
        &mut wrong,
    );
    let connections = purpose.connections();
    let lower = format!(
        "this program may hold {connections} connections: raise it, or lower DATABASE_MAX_CONNECTIONS"
    );
    at_least(found, "max_connections", connections, &lower, &mut wrong);
    // 0 is no limit; an account's own limit is shown here, too.
    if found.number("max_user_connections") != Some(0) {
        at_least(found, "max_user_connections", connections, &lower, &mut wrong);
    }
    let statements = connections * STATEMENTS_OF_A_CONNECTION;
    at_least(
        found,
        "max_prepared_stmt_count",
        statements,
        "raise it",
        &mut wrong,
    );
    if purpose == Purpose::Migrate {
        wrong_for_new_tables(found, &mut wrong);
    }
    unmet
}

fn wrong_for_new_tables(found: &Found, wrong: &mut impl FnMut(String)) {
    let format = found.text("innodb_default_row_format");
    if !format.is_empty() && format != "dynamic" {
        wrong(format!(
            "innodb_default_row_format is {format}, whose index keys are too short for the tables; set it to dynamic"
        ));
    }
    let engine = found.text("enforce_storage_engine");
    if !engine.is_empty() && !engine.eq_ignore_ascii_case("InnoDB") {
        wrong(format!(
            "enforce_storage_engine is {engine}, and the tables must be InnoDB's; take it out"
        ));
    }
}

fn at_least(found: &Found, name: &str, least: u64, what_to_do: &str, wrong: &mut impl FnMut(String)) {
    if let Some(value) = found.number(name).filter(|value| *value < least) {
        wrong(format!(
            "{name} is {value}, and must be {least} or more; {what_to_do}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVE: Purpose = Purpose::Serve { connections: 20 };

    /// As a new server of 10.11 answers, with these variables changed.
    fn found(changed: &[(&str, &str)]) -> Found {
        let usual = [
            ("read_only", "OFF"),
            ("innodb_read_only", "OFF"),
            ("innodb_force_recovery", "0"),
            ("wsrep_on", "OFF"),
            ("log_bin", "OFF"),
            ("binlog_format", "MIXED"),
            ("innodb_page_size", "16384"),
            ("max_allowed_packet", "16777216"),
            ("max_connections", "151"),
            ("max_user_connections", "0"),
            ("max_prepared_stmt_count", "16382"),
            ("innodb_default_row_format", "dynamic"),
            ("enforce_storage_engine", ""),
        ];
        let variables = usual.iter().chain(changed);
        Found {
            version: String::new(),
            variables: variables
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn only_mariadb_of_the_tested_versions_will_do() {
        for good in [
            "10.11.14-MariaDB-0+deb12u2",
            "5.5.5-10.11.6-MariaDB-log",
            "11.8.9-MariaDB",
            "12.0.1-MariaDB-ubu2404",
        ] {
            assert_eq!(wrong_version(good), None, "{good}");
        }
        for bad in [
            "8.0.36",
            "10.5.29-MariaDB-0+deb11u1",
            "5.5.5-10.6.22-MariaDB",
            "9.1.0-debug",
            "",
        ] {
            let text = wrong_version(bad).unwrap().to_string();
            assert!(
                text.contains(bad) && text.contains("MariaDB 10.11 or newer"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_usual_server_will_do() {
        for purpose in [SERVE, Purpose::Command, Purpose::Migrate] {
            assert_eq!(wrong_settings(&found(&[]), purpose), []);
        }
        let binlog = found(&[("log_bin", "ON")]);
        assert_eq!(wrong_settings(&binlog, SERVE), []);
        let no_binlog = found(&[("binlog_format", "STATEMENT")]);
        assert_eq!(wrong_settings(&no_binlog, SERVE), []);
    }

    #[test]
    fn each_is_named_with_its_value() {
        for (name, value) in [
            ("read_only", "ON"),
            ("read_only", "NO_LOCK_NO_ADMIN"),
            ("innodb_force_recovery", "4"),
            ("wsrep_on", "ON"),
            ("innodb_page_size", "8192"),
            ("max_allowed_packet", "1048576"),
            ("max_connections", "10"),
            ("max_user_connections", "3"),
            ("max_prepared_stmt_count", "0"),
        ] {
            let unmet = wrong_settings(&found(&[(name, value)]), SERVE);
            assert_eq!(unmet.len(), 1, "{unmet:?}");
            assert!(
                unmet[0].to_string().contains(&format!("{name} is {value}")),
                "{unmet:?}"
            );
        }
        for (name, value) in [
            ("innodb_default_row_format", "compact"),
            ("enforce_storage_engine", "Aria"),
        ] {
            let changed = found(&[(name, value)]);
            assert_eq!(
                wrong_settings(&changed, SERVE),
                [],
                "tables that are there are as they are"
            );
            let unmet = wrong_settings(&changed, Purpose::Migrate);
            assert!(
                unmet.len() == 1 && unmet[0].to_string().contains(&format!("{name} is {value}")),
                "{unmet:?}"
            );
        }
        let no_innodb = Found::default();
        let unmet = wrong_settings(&no_innodb, SERVE);
        assert!(
            unmet[0].to_string().contains("InnoDB is switched off"),
            "{unmet:?}"
        );
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let changed = found(&[
            ("log_bin", "ON"),
            ("binlog_format", "STATEMENT"),
            ("max_allowed_packet", "1048576"),
            ("innodb_page_size", "4096"),
        ]);
        assert_eq!(wrong_settings(&changed, SERVE).len(), 3);
    }
}
