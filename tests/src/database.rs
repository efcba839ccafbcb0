//! A database per test, made and dropped on the server that `DATABASE_URL` names, with an account of its own whose password
//! can be looked for.

use std::str::FromStr as _;

use sqlx::mysql::{MySqlConnectOptions, MySqlPool};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection};
use uuid::Uuid;

/// A migrated database; dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    /// As the programs take it.
    pub uri: String,
    /// Of an account that may do more than the programs'.
    pub pool: MySqlPool,
    /// To drop it there; `None`: it goes with its server.
    made_on: Option<(String, String)>,
}

impl TestDatabase {
    /// One that the test has made on a server of its own; it is empty.
    pub fn of_own_server(uri: &str) -> Self {
        Self {
            uri: uri.to_owned(),
            pool: rag_db::connect_lazy(MySqlConnectOptions::from_str(uri).unwrap(), 4),
            made_on: None,
        }
    }

    pub async fn new() -> Self {
        Self::on(std::env::var("DATABASE_URL").expect("DATABASE_URL names the MariaDB server for tests"))
            .await
    }

    /// On another server: the URI of an account that may do everything there.
    pub async fn on(server: String) -> Self {
        let name = format!("rag_it_{}", Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE {name}")).await.unwrap();
        let all_powerful = with_database(&server, &name);
        let pool = rag_db::connect(MySqlConnectOptions::from_str(&all_powerful).unwrap(), 4)
            .await
            .unwrap();
        rag_db::migrate(&pool).await.unwrap();
        let uri = match make_account(&server, &name).await {
            Ok(password) => with_account(&all_powerful, &name, &password),
            Err(error) => {
                eprintln!("no account of its own for {name}, so its password is not looked for: {error}");
                all_powerful
            }
        };
        Self {
            uri,
            pool,
            made_on: Some((server, name)),
        }
    }

    /// Of the database, and of the account that [`Self::uri`] names.
    pub fn name(&self) -> &str {
        let (_, name) = self.made_on.as_ref().expect("the harness made it");
        name
    }

    /// The URI of the same account and database at another address.
    pub fn uri_at(&self, address: &str) -> String {
        let (account, rest) = self.uri.split_once('@').expect("the account has a name");
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        let database = path.split('?').next().unwrap_or_default();
        format!("{account}@{address}/{database}")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some((server, name)) = self.made_on.take() else {
            return;
        };
        let statements = [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("DROP USER IF EXISTS {name}@'%', {name}@localhost"),
        ];
        // The test's own runtime is on its way out.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                for sql in statements {
                    // A server that lets us make no accounts lets us drop none.
                    let _refused = execute(&server, sql).await;
                }
            });
        });
        let _panicked = dropping.join();
    }
}

/// Named as the database, and for it alone; answers its password.
async fn make_account(server: &str, name: &str) -> Result<String, sqlx::Error> {
    let password = format!("{}-{}", rag_canary::MARK, Uuid::new_v4().simple());
    // By a socket and by an address; a server may have an anonymous account that is nearer to the former.
    for host in ["%", "localhost"] {
        let sql = format!("GRANT ALL ON {name}.* TO {name}@'{host}' IDENTIFIED BY '{password}'");
        execute(server, sql).await?;
    }
    Ok(password)
}

async fn execute(server: &str, sql: String) -> Result<(), sqlx::Error> {
    let options = MySqlConnectOptions::from_str(server)?;
    let mut connection = MySqlConnection::connect_with(&options).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    // The statement has succeeded; how its connection ends does not matter.
    let _closed = connection.close().await;
    Ok(())
}

/// `mysql://old:password@host/…` with another account.
fn with_account(uri: &str, name: &str, password: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("mysql", uri));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host = rest[..end]
        .rsplit_once('@')
        .map_or(&rest[..end], |(_, host)| host);
    format!("{scheme}://{name}:{password}@{host}{}", &rest[end..])
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
    use super::{with_account, with_database};

    #[test]
    fn the_account_is_replaced_and_the_rest_kept() {
        for (uri, expected) in [
            (
                "mysql://root:a@h:1/x?socket=/s@1",
                "mysql://n:p@h:1/x?socket=/s@1",
            ),
            ("mysql://h/x", "mysql://n:p@h/x"),
        ] {
            assert_eq!(with_account(uri, "n", "p"), expected);
        }
    }

    #[test]
    fn the_database_is_replaced_and_the_rest_kept() {
        assert_eq!(
            with_database("mysql://root@h:1/mysql?socket=/s", "x"),
            "mysql://root@h:1/x?socket=/s"
        );
        assert_eq!(with_database("mysql://root@h", "x"), "mysql://root@h/x");
    }
}
