//! How accounts log in: each plugin over a socket and over TCP, with TLS and without. `deploy/README.md` has the table.

use std::path::PathBuf;

use rag_test_mariadb::{Authority, Server};

use crate::mariadb::settings::api;

/// The four ways to a server, for an account and its password.
struct Ways {
    socket: PathBuf,
    port: u16,
}

impl Ways {
    fn uris(&self, account: &str) -> [(&'static str, String); 4] {
        let socket = format!("mysql://{account}@localhost/rag?socket={}", self.socket.display());
        let tcp = format!("mysql://{account}@127.0.0.1:{}/rag", self.port);
        [
            ("socket", socket.clone()),
            ("socket with TLS", format!("{socket}&ssl=true")),
            ("TCP", format!("{tcp}?ssl=false")),
            ("TCP with TLS", format!("{tcp}?ssl=true")),
        ]
    }
}

/// A server with TLS and these plugins; those that it does not have are left out.
async fn server(folder: &std::path::Path) -> Option<(Server, Ways)> {
    let authority = Authority::new("test");
    let files = authority
        .write_server_files(folder, &authority.local_server())
        .unwrap();
    let server = Server::builder()
        .option(format!("--ssl-cert={}", files.certificate.display()))
        .option(format!("--ssl-key={}", files.key.display()))
        .tcp()
        .start()
        .await?;
    server.create_database("rag").await;
    let ways = Ways {
        socket: server.socket(),
        port: server.port(),
    };
    Some((server, ways))
}

async fn assert_all(ways: &Ways, account: &str, expected: [Result<(), &str>; 4]) {
    for ((way, uri), expected) in ways.uris(account).into_iter().zip(expected) {
        let ended = api(&["migrate"], &uri).await;
        match expected {
            Ok(()) => assert!(ended.status.success(), "{account} over {way}: {}", ended.stderr),
            Err(text) => {
                assert!(!ended.status.success(), "{account} over {way} was let in");
                assert!(
                    ended.stderr.contains(text),
                    "{account} over {way}: not `{text}`: {}",
                    ended.stderr
                );
                assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
            }
        }
    }
}

async fn make(server: &Server, account: &str, how: &str) {
    server
        .execute(&format!(
            "CREATE OR REPLACE USER {account} IDENTIFIED {how}; GRANT ALL ON rag.* TO {account}"
        ))
        .await;
}

#[tokio::test]
async fn mysql_native_password_logs_in_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let Some((server, ways)) = server(folder.path()).await else {
        return;
    };
    make(
        &server,
        "native@'%'",
        "VIA mysql_native_password USING PASSWORD('p')",
    )
    .await;
    assert_all(&ways, "native:p", [Ok(()); 4]).await;
    // Nobody who does not know the password.
    let denied = "does not let the account `native` in";
    assert_all(&ways, "native:wrong", [Err(denied); 4]).await;
    assert_all(&ways, "native", [Err(denied); 4]).await;
}

#[tokio::test]
async fn unix_socket_logs_in_over_the_socket_only() {
    let folder = tempfile::tempdir().unwrap();
    let Some((server, ways)) = server(folder.path()).await else {
        return;
    };
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    let me = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    server.execute(&format!("CREATE OR REPLACE USER `{me}`@localhost IDENTIFIED VIA unix_socket; GRANT ALL ON *.* TO `{me}`@localhost WITH GRANT OPTION")).await;
    let denied = format!("does not let the account `{me}` in");
    assert_all(&ways, &me, [Ok(()), Ok(()), Err(&denied), Err(&denied)]).await;
    // The system's account counts.
    make(&server, "somebody@localhost", "VIA unix_socket").await;
    assert_all(
        &ways,
        "somebody",
        [Err("does not let the account `somebody` in"); 4],
    )
    .await;
}

#[tokio::test]
async fn plugins_that_the_driver_does_not_speak_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some((server, ways)) = server(folder.path()).await else {
        return;
    };
    for plugin in ["ed25519", "parsec"] {
        let mut root = server.root().await;
        let install = format!("INSTALL SONAME 'auth_{plugin}'");
        if sqlx::raw_sql(sqlx::AssertSqlSafe(install))
            .execute(&mut root)
            .await
            .is_err()
        {
            eprintln!("LEFT OUT: this server has no plugin {plugin}");
            continue;
        }
        make(
            &server,
            "modern@'%'",
            &format!("VIA {plugin} USING PASSWORD('p')"),
        )
        .await;
        let text = format!("the account `modern` logs in by `{plugin}`, which this program does not speak");
        assert_all(&ways, "modern:p", [Err(text.as_str()); 4]).await;
        // The first of several is what a server asks for.
        make(
            &server,
            "two@'%'",
            &format!("VIA mysql_native_password USING PASSWORD('p') OR {plugin} USING PASSWORD('p')"),
        )
        .await;
        assert_all(&ways, "two:p", [Ok(()); 4]).await;
        make(
            &server,
            "two@'%'",
            &format!("VIA {plugin} USING PASSWORD('p') OR mysql_native_password USING PASSWORD('p')"),
        )
        .await;
        let text = format!("the account `two` logs in by `{plugin}`");
        assert_all(&ways, "two:p", [Err(text.as_str()); 4]).await;
    }
}

#[tokio::test]
async fn accounts_that_are_expired_locked_or_bound_to_tls_are_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let Some((server, ways)) = server(folder.path()).await else {
        return;
    };
    make(&server, "old@'%'", "BY 'p' PASSWORD EXPIRE").await;
    assert_all(
        &ways,
        "old:p",
        [Err("the password of the account `old` has expired"); 4],
    )
    .await;
    make(&server, "shut@'%'", "BY 'p' ACCOUNT LOCK").await;
    assert_all(&ways, "shut:p", [Err("the account `shut` is locked"); 4]).await;
    make(&server, "bound@'%'", "BY 'p' REQUIRE SSL").await;
    let denied = Err("asks for TLS");
    assert_all(&ways, "bound:p", [denied, Ok(()), denied, Ok(())]).await;
}
