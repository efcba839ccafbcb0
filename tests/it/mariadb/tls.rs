//! TLS as DATABASE_URI asks for it: real connections to servers with certificates of the test's own.

use rag_settings::DatabaseUri;
use rag_test_mariadb::{Authority, Certificate, Server, ServerBuilder};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions as _, MySqlConnection};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use tempfile::TempDir;

use crate::mariadb::settings::{api, assert_works_at};

/// A server with this certificate, an account that needs a password, one that needs a client's certificate too.
async fn server_with(authority: &Authority, certificate: &Certificate, folder: &Path) -> Option<Server> {
    let files = authority.write_server_files(folder, certificate).unwrap();
    let server = Server::builder()
        .option(format!("--ssl-ca={}", files.ca.display()))
        .option(format!("--ssl-cert={}", files.certificate.display()))
        .option(format!("--ssl-key={}", files.key.display()));
    start(server).await
}

async fn start(server: ServerBuilder) -> Option<Server> {
    let server = server.tcp().start().await?;
    server.create_database("rag").await;
    server
        .execute(
            "CREATE USER tls@'%' IDENTIFIED BY 'p'; GRANT ALL ON rag.* TO tls@'%'; \
             CREATE USER known@'%' IDENTIFIED BY 'p' REQUIRE X509; GRANT ALL ON rag.* TO known@'%'",
        )
        .await;
    Some(server)
}

fn uri(server: &Server, host: &str, options: &str) -> String {
    format!("mysql://tls:p@{host}:{}/rag?{options}", server.port())
}

async fn assert_accepted(uri: &str) {
    let ended = api(&["migrate"], uri).await;
    assert!(ended.status.success(), "{uri}: {}", ended.stderr);
}

/// In one line.
async fn assert_refused(uri: &str, text: &str) {
    let ended = api(&["migrate"], uri).await;
    assert!(!ended.status.success(), "{uri} was taken");
    assert!(
        ended.stderr.contains(text),
        "{uri}: not `{text}`: {}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

fn write_ca(authority: &Authority, folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, authority.pem()).unwrap();
    path
}

async fn connect(uri: &str) -> MySqlConnection {
    let uri = DatabaseUri::parse(uri).unwrap();
    let options = MySqlConnectOptions::from_str(uri.expose()).unwrap();
    options.connect().await.unwrap()
}

async fn cipher(uri: &str) -> String {
    let mut connection = connect(uri).await;
    let row: (String, String) = sqlx::query_as("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    row.1
}

#[tokio::test]
async fn a_ca_means_that_the_server_must_be_its() {
    let (own, foreign) = (Authority::new("same name"), Authority::new("same name"));
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = server_with(&own, &own.local_server(), folder.path()).await else {
        return;
    };
    let ca = folder.path().join("ca.pem");
    let ca = ca.display();
    let foreign = write_ca(&foreign, &folder, "foreign.pem");
    let foreign = foreign.display();

    for host in ["127.0.0.1", "localhost"] {
        for options in [
            format!("ssl_ca={ca}"),
            format!("ssl-ca={ca}&ssl-mode=VERIFY_CA"),
            format!("ssl_ca={ca}&ssl_mode=VERIFY_IDENTITY"),
            format!("ssl_ca={ca}&ssl_verify_cert=true&ssl_verify_identity=true"),
        ] {
            assert_accepted(&uri(&server, host, &options)).await;
        }
    }
    for options in [
        "",
        "&ssl_mode=REQUIRED",
        "&ssl_mode=VERIFY_CA",
        "&ssl_verify_identity=true",
    ] {
        let text = format!("is not signed by the CA in {foreign}");
        assert_refused(
            &uri(&server, "127.0.0.1", &format!("ssl_ca={foreign}{options}")),
            &text,
        )
        .await;
    }
    // Without a CA of its own, those of the system count.
    assert_refused(
        &uri(&server, "127.0.0.1", "ssl_verify_cert=true"),
        "is not signed by a CA that this machine knows",
    )
    .await;
    assert_refused(
        &uri(&server, "127.0.0.1", "ssl_ca=/nowhere/ca.pem"),
        "ssl_ca`, /nowhere/ca.pem, cannot be read",
    )
    .await;
    let key = folder.path().join("server-key.pem");
    assert_refused(
        &uri(&server, "127.0.0.1", &format!("ssl_ca={}", key.display())),
        "holds no certificate",
    )
    .await;

    // It is TLS, and where it need not be, it is not.
    assert_ne!(
        cipher(&uri(&server, "127.0.0.1", &format!("ssl_ca={ca}"))).await,
        ""
    );
    assert_ne!(
        cipher(&uri(&server, "127.0.0.1", "")).await,
        "",
        "over TCP it is used if it is there"
    );
    assert_eq!(cipher(&uri(&server, "127.0.0.1", "ssl=false")).await, "");
    let socket = format!("mysql://tls:p@localhost/rag?socket={}", server.socket().display());
    assert_eq!(cipher(&socket).await, "", "a socket needs none");
    assert_ne!(
        cipher(&format!("{socket}&ssl_ca={ca}")).await,
        "",
        "unless it is asked for"
    );

    // The main job, verified.
    assert_works_at(&uri(
        &server,
        "localhost",
        &format!("ssl-ca={ca}&ssl-mode=VERIFY_IDENTITY"),
    ))
    .await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_if_the_identity_counts() {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority.server(&["db.example.org"]);
    let Some(server) = server_with(&authority, &certificate, folder.path()).await else {
        return;
    };
    let ca = folder.path().join("ca.pem");
    assert_accepted(&uri(&server, "127.0.0.1", &format!("ssl_ca={}", ca.display()))).await;
    for option in [
        "ssl_mode=VERIFY_IDENTITY",
        "ssl_verify_identity=true",
        "ssl_check_hostname=true",
        "ssl_verify_server_cert=1",
    ] {
        let options = format!("ssl_ca={}&{option}", ca.display());
        assert_refused(&uri(&server, "127.0.0.1", &options), "is not for `127.0.0.1`").await;
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = server_with(&authority, &authority.local_server(), folder.path()).await else {
        return;
    };
    let (certificate, key) = (
        folder.path().join("client.pem"),
        folder.path().join("client-key.pem"),
    );
    authority.client("known").write(&certificate, &key).unwrap();
    let known = |options: &str| uri(&server, "127.0.0.1", options).replace("tls:p@", "known:p@");
    let both = format!("ssl_cert={}&ssl_key={}", certificate.display(), key.display());
    assert_accepted(&known(&both)).await;
    let socket = format!(
        "mysql://known:p@localhost/rag?socket={}",
        server.socket().display()
    );
    assert_accepted(&format!("{socket}&{both}")).await;
    assert_refused(&socket, "asks for TLS, for a client certificate").await;
    assert_refused(&known(""), "asks for TLS, for a client certificate").await;
    assert_refused(
        &known("ssl_cert=/nowhere/c.pem&ssl_key=/nowhere/k.pem"),
        "/nowhere/c.pem, cannot be read",
    )
    .await;

    Authority::new("foreign")
        .client("known")
        .write(&certificate, &key)
        .unwrap();
    let ended = api(&["migrate"], &known(&both)).await;
    assert!(!ended.status.success(), "a certificate of a foreign CA");
    assert!(
        ended.stderr.contains("TLS") || ended.stderr.contains("certificate"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_server_without_tls_is_refused_if_it_is_asked_for() {
    let Some(server) = start(Server::builder().option("--skip-ssl")).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let ca = write_ca(&Authority::new("test"), &folder, "ca.pem");
    for options in [
        "ssl=true".to_owned(),
        "ssl_mode=REQUIRED".to_owned(),
        format!("ssl_ca={}", ca.display()),
    ] {
        assert_refused(&uri(&server, "127.0.0.1", &options), "offers no TLS").await;
    }
    assert_accepted(&uri(&server, "127.0.0.1", "")).await;
}

/// MariaDB makes itself a certificate from 11.4 on. Its own client verifies it by the password; for us it is as good as
/// none, and says so.
#[tokio::test]
async fn the_automatic_certificate_is_used_and_not_believed() {
    let Some(server) = start(Server::builder()).await else {
        return;
    };
    if cipher(&uri(&server, "127.0.0.1", "")).await.is_empty() {
        eprintln!("LEFT OUT: this server makes itself no certificate");
        return;
    }
    assert_accepted(&uri(&server, "127.0.0.1", "ssl_mode=REQUIRED")).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = write_ca(&Authority::new("test"), &folder, "ca.pem");
    let text = format!("is not signed by the CA in {}", ca.display());
    assert_refused(
        &uri(&server, "127.0.0.1", &format!("ssl_ca={}", ca.display())),
        &text,
    )
    .await;
    assert_refused(
        &uri(&server, "127.0.0.1", "ssl_mode=VERIFY_IDENTITY"),
        "name its CA by ssl_ca",
    )
    .await;
}
