//! What the account may do in its database, found out by asking for something impossible: a server checks the rights first,
//! and says "denied" before it says "there is no such table", "no such column" or "two columns of one name". Roles and rights of everybody count in this
//! way, which a list of grants would not tell. Nothing is changed by it.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::purpose::{Purpose, Unmet};
use crate::refusal::number;

/// Right, and a statement that needs it and cannot succeed, for a table in which no such column is.
const ROWS: &[(&str, &str)] = &[
    ("SELECT", "SELECT no_such_column FROM {table}"),
    ("INSERT", "INSERT INTO {table} (no_such_column) VALUES (1)"),
    ("UPDATE", "UPDATE {table} SET no_such_column = 1"),
    ("DELETE", "DELETE FROM {table} WHERE no_such_column = 1"),
];

/// For a table that is not there.
const TABLES: &[(&str, &str)] = &[
    ("CREATE", "CREATE TABLE {table} (a INT, a INT)"),
    ("ALTER", "ALTER TABLE {table} ADD COLUMN a INT"),
    ("INDEX", "CREATE INDEX a ON {table} (a)"),
];

const NO_SUCH_TABLE: &str = "rag_no_such_table";

/// Access denied: to the database, to a table, to a column, for want of a privilege.
const DENIED: &[u16] = &[1044, 1142, 1143, 1227];

/// What the purpose needs and the account may not do.
pub(crate) async fn missing(db: &mut MySqlConnection, purpose: Purpose) -> Result<Vec<Unmet>, sqlx::Error> {
    let mut missing = Vec::new();
    for (right, probe) in ROWS {
        if is_denied(db, probe, NO_SUCH_TABLE).await? && !holds_everywhere(db, probe, purpose).await? {
            missing.push(*right);
        }
    }
    if purpose == Purpose::Migrate {
        for (right, probe) in TABLES {
            if is_denied(db, probe, NO_SUCH_TABLE).await? {
                missing.push(*right);
            }
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let (database, account): (String, String) = sqlx::query_as("SELECT DATABASE(), CURRENT_USER()")
        .fetch_one(db)
        .await?;
    let rights = missing.join(", ");
    Ok(vec![Unmet::new(format!(
        "the account {account} lacks rights on the database {database}: {rights}; GRANT {rights} ON `{database}`.* TO it"
    ))])
}

/// Rights may have been granted for each table of ours.
async fn holds_everywhere(
    db: &mut MySqlConnection,
    probe: &str,
    purpose: Purpose,
) -> Result<bool, sqlx::Error> {
    if purpose == Purpose::Migrate {
        // Tables that are not there yet will be needed, too.
        return Ok(false);
    }
    let tables: BTreeSet<String> = sqlx::query_scalar(
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() \
         AND (table_name LIKE 'rag\\_%' OR table_name LIKE 'queue\\_%')",
    )
    .fetch_all(&mut *db)
    .await?
    .into_iter()
    .collect();
    for table in &tables {
        if is_denied(db, probe, table).await? {
            return Ok(false);
        }
    }
    Ok(!tables.is_empty())
}

async fn is_denied(db: &mut MySqlConnection, probe: &str, table: &str) -> Result<bool, sqlx::Error> {
    let sql = probe.replace("{table}", &format!("`{table}`"));
    match db.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await {
        Ok(_) => Ok(false),
        Err(error) => match number(&error) {
            Some(number) => Ok(DENIED.contains(&number)),
            None => Err(error),
        },
    }
}
