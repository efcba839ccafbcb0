//! Servers with the settings that admins give them: the main job is done on each, or every program refuses it by name.

use std::time::Duration;

use rag_test_mariadb::{Server, ServerBuilder};
use rag_tests::{Ended, Stack, TestDatabase, run};

use crate::fixtures::indexes::index_with;

const LIMIT: Duration = Duration::from_secs(30);

/// What a program needs before it looks at its database.
pub(crate) fn environment(uri: &str, changed: &[(&str, &str)]) -> Vec<(String, String)> {
    let files = std::env::temp_dir().join("rag-it-no-files");
    let usual = [
        ("DATABASE_URI", uri),
        ("FILES_ROOT", files.to_str().unwrap()),
        ("API_LISTEN", "127.0.0.1:0"),
        ("API_AUTH", "off"),
        ("WORKER_LISTEN", "127.0.0.1:0"),
    ];
    usual
        .iter()
        .chain(changed)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// `rag-api` with these arguments, against this database.
pub(crate) async fn api(args: &[&str], uri: &str) -> Ended {
    run("rag-api", args, &environment(uri, &[])).await
}

fn assert_refused(program: &str, ended: &Ended, texts: &[&str]) {
    assert!(!ended.status.success(), "{program} took it: {}", ended.stderr);
    for text in texts {
        assert!(
            ended.stderr.contains(text),
            "{program} does not say `{text}`: {}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("timed out"), "{program}: {}", ended.stderr);
    let lines = ended.stderr.lines().count();
    assert!(
        lines <= 1 + texts.len(),
        "{program} says it in {lines} lines: {}",
        ended.stderr
    );
}

/// Migrates, makes keys, and builds an index through API and worker.
async fn assert_works(server: ServerBuilder) {
    let Some(server) = server.start().await else {
        return;
    };
    let uri = server.create_database("rag").await;
    assert_works_at(&uri).await;
}

pub(crate) async fn assert_works_at(uri: &str) {
    let stack = Stack::builder()
        .database(TestDatabase::of_own_server(uri))
        .start()
        .await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 3).await;
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(
        job["output"]["indexing_status"],
        "done",
        "{job}\n{}",
        stack.logs()
    );
    assert_eq!(job["attempts"], 0, "{job}\n{}", stack.logs());
    let stored = stack.command(&["keys", "list"], &[]).await;
    assert_eq!(
        stored.matches(" it ").count(),
        2,
        "keys that were printed are stored: {stored}"
    );
}

/// Every program and command says so and ends.
async fn assert_refused_by_all(server: ServerBuilder, texts: &[&str]) {
    let Some(server) = server.start().await else {
        return;
    };
    // Whoever makes it read-only made the database before.
    server
        .execute("SET GLOBAL read_only = 0; CREATE DATABASE rag")
        .await;
    let uri = format!("mysql://root@localhost/rag?socket={}", server.socket().display());
    if texts.iter().any(|text| text.contains("read_only")) {
        server.execute("SET GLOBAL read_only = 1").await;
    }
    for args in [
        &["migrate"][..],
        &["serve"],
        &["keys", "list"],
        &["secrets", "reseal"],
    ] {
        assert_refused(&format!("rag-api {args:?}"), &api(args, &uri).await, texts);
    }
    assert_refused(
        "rag-worker",
        &run("rag-worker", &[], &environment(&uri, &[])).await,
        texts,
    );
}

fn builder(options: &[&str]) -> ServerBuilder {
    // What a data directory is made with.
    let from_the_start = |option: &str| option.contains("page-size") || option.contains("lower-case");
    options.iter().fold(Server::builder(), |builder, option| {
        if from_the_start(option) {
            builder.option_from_the_start(*option)
        } else {
            builder.option(*option)
        }
    })
}

macro_rules! works {
    ($($name:ident: $($option:literal),+;)*) => {$(
        #[tokio::test]
        async fn $name() {
            assert_works(builder(&[$($option),+])).await;
        }
    )*};
}

macro_rules! refused {
    ($($name:ident: $($option:literal),+ => $($text:literal),+;)*) => {$(
        #[tokio::test]
        async fn $name() {
            assert_refused_by_all(builder(&[$($option),+]), &[$($text),+]).await;
        }
    )*};
}

works! {
    works_with_autocommit_off: "--autocommit=0";
    works_with_sql_mode_oracle: "--sql-mode=ORACLE";
    works_with_sql_mode_ansi: "--sql-mode=ANSI";
    works_with_sql_mode_no_backslash_escapes: "--sql-mode=NO_BACKSLASH_ESCAPES";
    works_with_sql_mode_pad_char: "--sql-mode=PAD_CHAR_TO_FULL_LENGTH";
    works_with_sql_mode_traditional: "--sql-mode=TRADITIONAL";
    works_with_default_storage_engine_aria: "--default-storage-engine=Aria";
    works_with_default_storage_engine_myisam: "--default-storage-engine=MyISAM";
    works_with_lower_case_table_names: "--lower-case-table-names=1";
    works_with_latin1: "--character-set-server=latin1", "--collation-server=latin1_swedish_ci";
    works_with_serializable: "--transaction-isolation=SERIALIZABLE";
    works_with_forced_primary_keys: "--innodb-force-primary-key=1";
    works_with_skip_name_resolve: "--skip-name-resolve";
    works_with_transactions_that_only_read: "--transaction-read-only=1";
    works_with_chained_transactions: "--completion-type=CHAIN";
    works_with_short_limits_of_time: "--max-statement-time=0.5", "--wait-timeout=2", "--idle-transaction-timeout=1",
        "--innodb-lock-wait-timeout=1";
    works_with_secure_timestamp: "--secure-timestamp=YES";
    works_with_large_pages: "--innodb-page-size=64k";
    works_with_row_based_binlog: "--log-bin", "--binlog-format=ROW", "--server-id=1";
    works_with_lax_innodb: "--innodb-strict-mode=0", "--innodb-snapshot-isolation=1";
}

refused! {
    refuses_small_packets: "--max-allowed-packet=1M" => "max_allowed_packet is 1048576";
    refuses_statement_based_binlog: "--log-bin", "--binlog-format=STATEMENT", "--server-id=1" => "binlog_format is STATEMENT";
    refuses_pages_of_8k: "--innodb-page-size=8k" => "innodb_page_size is 8192";
    refuses_pages_of_4k: "--innodb-page-size=4k" => "innodb_page_size is 4096";
    refuses_read_only: "--skip-name-resolve" => "read_only is ON";
    refuses_several_things_at_once: "--max-allowed-packet=1M", "--max-prepared-stmt-count=0" =>
        "max_allowed_packet is 1048576", "max_prepared_stmt_count is 0";
}

/// They matter to new tables only.
#[tokio::test]
async fn migrate_refuses_row_formats_with_short_keys() {
    for format in ["compact", "redundant"] {
        let option = format!("--innodb-default-row-format={format}");
        let Some(server) = Server::builder().option(option).start().await else {
            return;
        };
        let uri = server.create_database("rag").await;
        let text = format!("innodb_default_row_format is {format}");
        assert_refused("rag-api migrate", &api(&["migrate"], &uri).await, &[&text]);

        server
            .execute("SET GLOBAL innodb_default_row_format = 'dynamic'")
            .await;
        assert!(api(&["migrate"], &uri).await.status.success());
        server
            .execute(&format!("SET GLOBAL innodb_default_row_format = '{format}'"))
            .await;
        let listed = api(&["keys", "list"], &uri).await;
        assert!(
            listed.status.success(),
            "tables that are there are as they were: {}",
            listed.stderr
        );
    }
}

/// Too few connections for a program that stays, and enough for a command.
#[tokio::test]
async fn programs_refuse_limits_below_the_connections_that_they_may_hold() {
    for (options, text) in [
        (&["--max-connections=10"][..], "max_connections is 10"),
        (&["--max-user-connections=3"], "max_user_connections is 3"),
    ] {
        let builder = options
            .iter()
            .fold(Server::builder(), |builder, option| builder.option(*option));
        let Some(server) = builder.start().await else {
            return;
        };
        server.create_database("rag").await;
        server
            .execute("CREATE USER worker@localhost IDENTIFIED BY 'w'; GRANT ALL ON rag.* TO worker@localhost")
            .await;
        let uri = format!(
            "mysql://worker:w@localhost/rag?socket={}",
            server.socket().display()
        );
        let migrated = api(&["migrate"], &uri).await;
        assert!(migrated.status.success(), "{options:?}: {}", migrated.stderr);
        assert_refused("rag-api serve", &api(&["serve"], &uri).await, &[text]);
        let worker = run("rag-worker", &[], &environment(&uri, &[])).await;
        assert_refused("rag-worker", &worker, &[text, "lower DATABASE_MAX_CONNECTIONS"]);
    }
}
