//! Servers that do not let a program in, or are no server that it can use: the real reason, in one line, and soon.

use std::time::{Duration, Instant};

use rag_test_mariadb::Server;
use rag_tests::run;
use sqlx::Connection as _;

use crate::mariadb::settings::{api, environment};

/// By both programs.
async fn assert_refused(uri: &str, text: &str, within: Duration) {
    let started = Instant::now();
    let environment = environment(uri, &[]);
    let (api, worker) = tokio::join!(api(&["serve"], uri), run("rag-worker", &[], &environment));
    assert!(started.elapsed() < within, "{text} took {:?}", started.elapsed());
    for ended in [api, worker] {
        assert!(!ended.status.success());
        assert!(ended.stderr.contains(text), "not `{text}`: {}", ended.stderr);
        assert_eq!(
            ended
                .stderr
                .trim()
                .lines()
                .filter(|line| !line.contains(" INFO "))
                .count(),
            1,
            "{}",
            ended.stderr
        );
    }
}

const SOON: Duration = Duration::from_secs(5);
/// What is not there yet is waited for.
const PATIENT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn what_the_server_says_is_said() {
    let Some(server) = Server::builder().tcp().start().await else {
        return;
    };
    server
        .execute(
            "CREATE DATABASE rag; CREATE USER one@'%' IDENTIFIED BY 'p'; GRANT SELECT ON rag.* TO one@'%'",
        )
        .await;
    let port = server.port();
    let at = |account: &str, database: &str| format!("mysql://{account}@127.0.0.1:{port}/{database}");
    assert_refused(&at("one:wrong", "rag"), "does not let the account `one` in", SOON).await;
    assert_refused(&at("one:p", "other"), "no rights on the database `other`", SOON).await;
    let nowhere = format!(
        "mysql://root@localhost/other?socket={}",
        server.socket().display()
    );
    assert_refused(&nowhere, "has no database `other`: create it", SOON).await;
    assert_refused(
        "mysql://u:p@no-such-host.invalid/rag",
        "the host `no-such-host.invalid` is not known",
        SOON,
    )
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_then_named() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let uri = format!("mysql://root@localhost/rag?socket={}", socket.display());
    assert_refused(&uri, "there is no socket", PATIENT).await;
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let uri = format!("mysql://root@127.0.0.1:{port}/rag");
    assert_refused(&uri, "did not answer within 10 seconds", PATIENT).await;
    drop(listener);
    assert_refused(&uri, "nothing listens at", PATIENT).await;
}

#[tokio::test]
async fn a_full_server_is_named() {
    let Some(server) = Server::builder().option("--max-connections=10").start().await else {
        return;
    };
    server.create_database("rag").await;
    server
        .execute("CREATE USER one@'%' IDENTIFIED BY 'p'; GRANT ALL ON rag.* TO one@'%'")
        .await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(server.root().await);
    }
    let uri = format!("mysql://one:p@localhost/rag?socket={}", server.socket().display());
    assert_refused(&uri, "takes no further connections", PATIENT).await;
    for connection in held {
        let _closed = connection.close().await;
    }
}

/// As the servers themselves would say.
#[tokio::test]
async fn old_versions_and_other_servers_are_refused() {
    for version in ["10.5.29-MariaDB", "10.6.22-MariaDB", "8.0.36"] {
        let Some(server) = Server::builder()
            .option(format!("--version={version}"))
            .start()
            .await
        else {
            return;
        };
        let uri = server.create_database("rag").await;
        let ended = api(&["migrate"], &uri).await;
        assert!(!ended.status.success(), "{version} was taken");
        assert!(
            ended.stderr.contains("MariaDB 10.11 or newer is needed"),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(version), "{}", ended.stderr);
        let mut root = server.root().await;
        let tables: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'rag'")
                .fetch_one(&mut root)
                .await
                .unwrap();
        assert_eq!(tables, 0, "nothing was made there");
    }
}

#[tokio::test]
async fn a_database_of_before_the_first_release_is_not_taken_over() {
    let Some(server) = Server::builder().start().await else {
        return;
    };
    let uri = server.create_database("rag").await;
    assert!(api(&["migrate"], &uri).await.status.success());
    // Development had other migrations, of November.
    server
        .execute("UPDATE rag._sqlx_migrations SET version = version - 80000000 ORDER BY version")
        .await;
    let text = "the database was made before the first release";
    let ended = api(&["migrate"], &uri).await;
    assert!(!ended.status.success());
    let said: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    assert_eq!(said.len(), 1, "{}", ended.stderr);
    assert!(said[0].contains(text), "{}", ended.stderr);
    assert!(
        said[0].ends_with("create a new, empty database and run `rag-api migrate` on that one"),
        "{}",
        ended.stderr
    );
    assert_refused(&uri, text, SOON).await;
}
