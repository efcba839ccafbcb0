//! A database that fails, as operators see it: what readiness and metrics say, and that builds go on
//! afterwards.

use std::time::Duration;

use rag_test_mariadb::Server;
use rag_tests::{Stack, TestDatabase, eventually, free_address};
use serde_json::json;

use crate::fixtures::indexes::index_with;

const LIMIT: Duration = Duration::from_secs(30);

async fn get(url: &str) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Until the address answers with this status; the answer's text.
async fn until_status(url: &str, status: u16) -> String {
    eventually(&format!("{status} of {url}"), LIMIT, || async {
        let (found, text) = get(url).await;
        (found == status).then_some(text)
    })
    .await
}

#[tokio::test]
async fn a_read_only_database_makes_programs_unready_and_costs_no_build() {
    let Some(server) = Server::builder().start().await else {
        return;
    };
    let database = TestDatabase::on(server.uri("")).await;
    let stack = Stack::builder().database(database).start().await;
    let address = free_address();
    let _worker = stack.worker_with("worker", &[("WORKER_LISTEN", &address)]);
    let api_ready = format!("{}/health/ready", stack.api_url);
    let (ready, metrics) = (
        format!("http://{address}/health/ready"),
        format!("http://{address}/metrics"),
    );
    eventually("the worker to answer", LIMIT, || async {
        reqwest::get(&ready).await.ok()
    })
    .await;
    until_status(&ready, 200).await;
    assert!(get(&metrics).await.1.contains("rag_queue_healthy 1"));

    let (index, _) = index_with(&stack, 20).await;
    let job = stack.client.build(&index).await;
    server.execute("SET GLOBAL read_only = 1").await;
    // The database answers all the while, and reads go on.
    let reason = eventually("the worker's queue to be unhealthy", LIMIT, || async {
        let (status, text) = get(&ready).await;
        (status == 503 && text.contains("the queue has not been able to")).then_some(text)
    })
    .await;
    assert!(reason.contains("read-only"), "{reason}");
    let reason = until_status(&api_ready, 503).await;
    assert!(reason.contains("read-only"), "{reason}");
    let (_, text) = get(&metrics).await;
    assert!(text.contains("rag_queue_healthy 0"), "{text}");
    assert!(
        text.contains("# HELP rag_queue_failures_total") && text.contains("cause=\"read_only\""),
        "{text}"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    stack.client.get(&format!("/indexes/{index}")).await.expect(200);
    let refused = stack
        .client
        .post("/indexes", &json!({"name": "n", "provider_type": "openai"}))
        .await;
    assert_eq!(refused.status.as_u16(), 503, "{refused:?}");

    server.execute("SET GLOBAL read_only = 0").await;
    until_status(&ready, 200).await;
    until_status(&api_ready, 200).await;
    assert!(get(&metrics).await.1.contains("rag_queue_healthy 1"));
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(
        (&job["state"], &job["output"]["indexing_status"], &job["attempts"]),
        (&json!("done"), &json!("done"), &json!(0)),
        "{job}"
    );
}
