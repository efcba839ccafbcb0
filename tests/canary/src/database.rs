//! The search in a database: every column of every table, as text.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, MySqlConnection};

/// The tables of the connection's database that hold a secret, each with the row's text before it.
pub async fn search(db: &mut MySqlConnection) -> Vec<String> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT CAST(c.table_name AS CHAR), CAST(c.column_name AS CHAR) FROM information_schema.columns c \
         JOIN information_schema.tables t USING (table_schema, table_name) \
         WHERE c.table_schema = DATABASE() AND t.table_type = 'BASE TABLE' ORDER BY c.table_name, c.ordinal_position",
    )
    .fetch_all(&mut *db)
    .await
    .expect("the columns");
    assert!(
        !columns.is_empty(),
        "a database without tables is not the one to search"
    );
    let mut leaks = Vec::new();
    for table in columns.chunk_by(|one, other| one.0 == other.0) {
        let name = &table[0].0;
        let mut values = String::new();
        for (_, column) in table {
            let _infallible = write!(values, ", CONCAT('{column}=', CAST(`{column}` AS BINARY))");
        }
        let sql = format!("SELECT CONCAT_WS(' '{values}) FROM `{name}`");
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *db)
            .await
            .expect("the rows");
        let found = rows.iter().filter_map(|row| crate::find(row));
        leaks.extend(found.map(|leak| format!("table {name}: {leak}")));
    }
    leaks
}
