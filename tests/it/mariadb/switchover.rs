//! A planned switchover: the old primary becomes read-only and stays up, and whatever connects from then on reaches the new one.

use std::time::{Duration, Instant};

use rag_test_mariadb::{Proxy, Server};
use rag_tests::{Stack, TestDatabase, eventually};
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::fixtures::indexes::index_with;

/// How soon everything goes on.
const WITHIN: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_mins(3);

/// Two servers, the second a replica of the first, and a proxy in front.
struct Pair {
    old: Server,
    new: Server,
    proxy: Proxy,
}

impl Pair {
    async fn start() -> Option<Self> {
        let server = |id: u32| {
            Server::builder()
                .tcp()
                .option(format!("--server-id={id}"))
                .option("--log-bin=binlog")
                .option("--binlog-format=ROW")
                .start()
        };
        let (old, new) = (server(1).await?, server(2).await?);
        old.execute(
            "CREATE USER replica@'%' IDENTIFIED BY 'replica'; GRANT REPLICATION SLAVE ON *.* TO replica@'%'",
        )
        .await;
        new.execute(&format!(
            "SET GLOBAL read_only = 1; \
             CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'replica', \
               MASTER_PASSWORD = 'replica', MASTER_USE_GTID = slave_pos, MASTER_SSL_VERIFY_SERVER_CERT = 0; \
             START SLAVE",
            old.port()
        ))
        .await;
        let proxy = Proxy::start(old.port());
        Some(Self { old, new, proxy })
    }

    /// Programs reach the database through the proxy.
    async fn stack(&self, rights: Option<&str>) -> Stack {
        let mut database = TestDatabase::on(self.old.uri("")).await;
        if let Some(rights) = rights {
            let account = database.name();
            self.old
                .execute(&format!(
                    "GRANT {rights} ON *.* TO {account}@'%'; GRANT {rights} ON *.* TO {account}@localhost"
                ))
                .await;
        }
        database.uri = database.uri_at(&format!("127.0.0.1:{}", self.proxy.port()));
        Stack::builder().database(database).start().await
    }

    async fn switch(&self) {
        self.old.execute("SET GLOBAL read_only = 1").await;
        let written = position(&self.old).await;
        let reached: i64 = sqlx::query_scalar("SELECT CAST(MASTER_GTID_WAIT(?, 20) AS SIGNED)")
            .bind(written)
            .fetch_one(&mut self.new.root().await)
            .await
            .unwrap();
        assert_eq!(reached, 0, "the replica does not catch up");
        self.new.execute("STOP SLAVE; SET GLOBAL read_only = 0").await;
        self.proxy.switch_to(self.new.port());
    }
}

/// What has been written there, as replicas count it.
async fn position(server: &Server) -> String {
    sqlx::query_scalar("SELECT CAST(@@gtid_binlog_pos AS CHAR)")
        .fetch_one(&mut server.root().await)
        .await
        .unwrap()
}

async fn states(server: &Server, database: &str) -> Vec<(String, i64, i64)> {
    let sql = format!(
        "SELECT CAST(state AS CHAR), COUNT(*), CAST(SUM(attempts) AS SIGNED) FROM {database}.queue_jobs GROUP BY 1"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .fetch_all(&mut server.root().await)
        .await
        .unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

/// As soon as the API takes it.
async fn create_index(stack: &Stack) -> Value {
    eventually("the API to take writes", LIMIT, || async {
        let body = json!({"name": "after", "provider_type": "openai"});
        let answer = stack.client.post("/indexes", &body).await;
        answer.status.is_success().then_some(answer.body)
    })
    .await
}

#[tokio::test]
async fn work_goes_on_at_the_new_primary_while_the_old_one_stays_up() {
    let Some(pair) = Pair::start().await else { return };
    let stack = pair.stack(None).await;
    let mut indexes = Vec::new();
    for _ in 0..20 {
        indexes.push(index_with(&stack, 3).await.0);
    }
    let _workers = [stack.worker("one"), stack.worker("two")];
    let mut jobs = Vec::new();
    for index in &indexes {
        jobs.push(stack.client.build(index).await);
    }
    pair.switch().await;
    let switched = Instant::now();
    let written = position(&pair.old).await;
    create_index(&stack).await;
    let api = switched.elapsed();
    let before = states(&pair.new, stack.database.name()).await;
    eventually("a worker to work at the new primary", LIMIT, || async {
        let now = states(&pair.new, stack.database.name()).await;
        (now != before).then_some(())
    })
    .await;
    let workers = switched.elapsed();
    assert!(
        api < WITHIN && workers < WITHIN,
        "the API took {api:?}, the workers {workers:?}"
    );
    for job in &jobs {
        let job = stack.client.finished(job, LIMIT).await;
        assert_eq!(
            (&job["state"], &job["attempts"]),
            (&json!("done"), &json!(0)),
            "{job}"
        );
    }
    let after = states(&pair.new, stack.database.name()).await;
    assert!(
        after
            .iter()
            .all(|(state, _, attempts)| state == "done" && *attempts == 0),
        "{after:?}"
    );
    assert_eq!(
        position(&pair.old).await,
        written,
        "somebody wrote to the old primary"
    );
}

/// The server refuses nothing to such an account, and answers its questions: no error tells that it is the wrong server.
#[tokio::test]
async fn an_account_that_may_write_everywhere_leaves_the_old_primary_as_well() {
    let Some(pair) = Pair::start().await else { return };
    let stack = pair.stack(Some("READ ONLY ADMIN")).await;
    let _worker = stack.worker("one");
    let (index, _) = index_with(&stack, 3).await;
    let job = stack.client.build(&index).await;
    stack.client.finished(&job, LIMIT).await;
    pair.switch().await;
    let switched = Instant::now();
    eventually("the API to have left the old primary", LIMIT, || async {
        let made = create_index(&stack).await;
        let id = made["id"].as_str().unwrap().to_owned();
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT COUNT(*) FROM {}.rag_indexes WHERE id = '{id}'",
            stack.database.name()
        )))
        .fetch_one(&mut pair.new.root().await)
        .await
        .unwrap();
        (found == 1).then_some(())
    })
    .await;
    let (index, _) = index_with(&stack, 3).await;
    let job = stack.client.build(&index).await;
    stack.client.finished(&job, LIMIT).await;
    let took = switched.elapsed();
    assert!(took < WITHIN + Duration::from_secs(2), "{took:?}");
}
