//! Accounts that may do less than is needed are refused at start, with the names of the rights.

use rag_test_mariadb::Server;
use rag_tests::run;

use crate::mariadb::settings::{api, environment};

const ROWS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];
const TABLES: [&str; 3] = ["CREATE", "ALTER", "INDEX"];

/// The account `little` with these rights, anew; answers its URI.
async fn account(server: &Server, rights: &[&str]) -> String {
    server
        .execute(&format!(
            "CREATE OR REPLACE USER little@localhost IDENTIFIED BY 'l'; GRANT {} ON rag.* TO little@localhost",
            rights.join(", ")
        ))
        .await;
    format!(
        "mysql://little:l@localhost/rag?socket={}",
        server.socket().display()
    )
}

fn without<'a>(all: &[&'a str], one: &str) -> Vec<&'a str> {
    all.iter().copied().filter(|right| *right != one).collect()
}

#[tokio::test]
async fn each_missing_right_is_named() {
    let Some(server) = Server::builder().start().await else {
        return;
    };
    server.create_database("rag").await;
    let every: Vec<&str> = ROWS.into_iter().chain(TABLES).collect();
    for right in &every {
        let uri = account(&server, &without(&every, right)).await;
        let migrated = api(&["migrate"], &uri).await;
        assert!(!migrated.status.success(), "{right}");
        let text = format!("lacks rights on the database rag: {right};");
        assert!(migrated.stderr.contains(&text), "{right}: {}", migrated.stderr);
    }
    let uri = account(&server, &every).await;
    let migrated = api(&["migrate"], &uri).await;
    assert!(
        migrated.status.success(),
        "these rights are enough: {}",
        migrated.stderr
    );

    for right in ROWS {
        let uri = account(&server, &without(&ROWS, right)).await;
        let text = format!("lacks rights on the database rag: {right};");
        for ended in [
            api(&["serve"], &uri).await,
            api(&["keys", "list"], &uri).await,
            run("rag-worker", &[], &environment(&uri, &[])).await,
        ] {
            assert!(
                !ended.status.success() && ended.stderr.contains(&text),
                "{right}: {}",
                ended.stderr
            );
        }
    }
    let uri = account(&server, &ROWS).await;
    let listed = api(&["keys", "list"], &uri).await;
    assert!(
        listed.status.success(),
        "programs need no rights on tables' shapes: {}",
        listed.stderr
    );
    let uri = account(&server, &["SELECT"]).await;
    let listed = api(&["keys", "list"], &uri).await;
    assert!(
        listed.stderr.contains("rag: INSERT, UPDATE, DELETE;"),
        "{}",
        listed.stderr
    );
}

/// By a role, by everybody's rights on a pattern, and table by table.
#[tokio::test]
async fn rights_count_however_they_were_given() {
    let Some(server) = Server::builder().start().await else {
        return;
    };
    let root = server.create_database("rag").await;
    assert!(api(&["migrate"], &root).await.status.success());
    server
        .execute(
            "CREATE ROLE programs; GRANT SELECT, INSERT, UPDATE, DELETE ON `r\\_g`.* TO programs; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON `ra_`.* TO programs; \
             CREATE USER by_role@localhost IDENTIFIED BY 'l'; GRANT programs TO by_role@localhost; \
             SET DEFAULT ROLE programs FOR by_role@localhost; CREATE USER by_table@localhost IDENTIFIED BY 'l'",
        )
        .await;
    let mut connection = server.root().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = 'rag'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for table in &tables {
        server
            .execute(&format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON rag.{table} TO by_table@localhost"
            ))
            .await;
    }
    for account in ["by_role", "by_table"] {
        let uri = format!(
            "mysql://{account}:l@localhost/rag?socket={}",
            server.socket().display()
        );
        let listed = api(&["keys", "list"], &uri).await;
        assert!(listed.status.success(), "{account}: {}", listed.stderr);
    }
    server
        .execute("REVOKE DELETE ON rag.queue_jobs FROM by_table@localhost")
        .await;
    let uri = format!(
        "mysql://by_table:l@localhost/rag?socket={}",
        server.socket().display()
    );
    let listed = api(&["keys", "list"], &uri).await;
    assert!(listed.stderr.contains("rag: DELETE;"), "{}", listed.stderr);
}
