//! A database per test, made and dropped on the server that `DATABASE_URL` names.

use std::str::FromStr as _;

use sqlx::mysql::{MySqlConnectOptions, MySqlPool};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};
use uuid::Uuid;

/// A migrated database; dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    /// As the programs take it.
    pub uri: String,
    pub pool: MySqlPool,
    server: String,
    name: String,
}

impl TestDatabase {
    pub async fn new() -> Self {
        let server = std::env::var("DATABASE_URL").expect("DATABASE_URL names the MariaDB server for tests");
        let name = format!("rag_it_{}", Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE {name}")).await;
        let uri = with_database(&server, &name);
        let pool = rag_db::connect(MySqlConnectOptions::from_str(&uri).unwrap(), 4)
            .await
            .unwrap();
        rag_db::migrate(&pool).await.unwrap();
        Self {
            uri,
            pool,
            server,
            name,
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, sql) = (
            self.server.clone(),
            format!("DROP DATABASE IF EXISTS {}", self.name),
        );
        // The test's own runtime is on its way out.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(execute(&server, sql));
        });
        let _panicked = dropping.join();
    }
}

async fn execute(server: &str, sql: String) {
    let options = MySqlConnectOptions::from_str(server).unwrap();
    let mut connection = MySqlConnection::connect_with(&options).await.unwrap();
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// `mysql://user@host/old?options` with another database.
fn with_database(uri: &str, name: &str) -> String {
    let (base, query) = uri
        .split_once('?')
        .map_or((uri, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..]
        .find('/')
        .map_or(base.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn the_database_is_replaced_and_the_rest_kept() {
        assert_eq!(
            with_database("mysql://root@h:1/mysql?socket=/s", "x"),
            "mysql://root@h:1/x?socket=/s"
        );
        assert_eq!(with_database("mysql://root@h", "x"), "mysql://root@h/x");
    }
}
