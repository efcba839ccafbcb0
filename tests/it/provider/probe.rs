//! The probe of a provider: a verdict on each operation, nothing left behind, and builds that know what it found.

use std::time::Duration;

use rag_emulator::{Emulator, Profile};
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixtures::jobs;
use crate::fixtures::rows::make_deletions_due;

const LIMIT: Duration = Duration::from_mins(2);
const PROBE: &str = "/admin/providers/openai/probe";

async fn probe(stack: &Stack) -> Value {
    jobs::probe(stack, "openai").await
}

/// The result of a check, `works` say.
pub(crate) fn result<'a>(report: &'a Value, check: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|found| found["name"] == check);
    check
        .and_then(|check| check["result"].as_str())
        .unwrap_or("not made")
}

/// What is at the emulator now: stores and files.
async fn present(stack: &Stack) -> (usize, usize) {
    let list = async |path: &str| {
        let url = format!("{}/{path}?limit=100", stack.emulator.url());
        let answer = reqwest::Client::new()
            .get(url)
            .bearer_auth(PROVIDER_KEY)
            .send()
            .await;
        let page: Value = answer.unwrap().json().await.unwrap();
        page["data"].as_array().unwrap().len()
    };
    (list("vector_stores").await, list("files").await)
}

async fn rows(stack: &Stack, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_probe_finds_everything_at_a_server_that_has_it_and_leaves_nothing() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let report = probe(&stack).await;
    for check in [
        "list_vector_stores",
        "upload_file",
        "create_vector_store",
        "attach_batch_of_files",
        "attach_batch_of_file_ids",
        "attach_single",
        "list_store_files",
        "search",
        "unknown_store",
        "delete_vector_store",
    ] {
        assert_eq!(result(&report, check), "works", "{check}: {report:#}");
    }
    assert_ne!(report["verdict"], "unusable", "{report:#}");
    assert_eq!(report["left_behind"], json!([]));
    assert_eq!(present(&stack).await, (0, 0));
    assert_eq!(rows(&stack, "SELECT COUNT(*) FROM rag_provider_intents").await, 0);
    assert_eq!(rows(&stack, "SELECT COUNT(*) FROM rag_indexes").await, 0);
    let printed = stack.command(&["providers", "probe", "openai"], &[]).await;
    assert!(printed.contains("attach_batch_of_files"), "{printed}");
    let probes = stack.admin.get(PROBE).await.expect(200);
    assert_eq!(probes["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_probe_tells_servers_apart_and_builds_know() {
    for (profile, files, ids) in [
        (Profile::Ogx, "differs", "works"),
        (Profile::Litellm, "missing", "missing"),
    ] {
        let emulator = Emulator::builder().profile(profile).indexing(5, 0.0);
        let stack = Stack::builder().emulator(emulator).start().await;
        let _worker = stack.worker("one");
        let report = probe(&stack).await;
        assert_eq!(report["verdict"], "differs", "{report:#}");
        assert_eq!(result(&report, "attach_batch_of_files"), files, "{report:#}");
        assert_eq!(result(&report, "attach_batch_of_file_ids"), ids, "{report:#}");
        assert_eq!(present(&stack).await, (0, 0));
        let connection = stack
            .admin
            .get("/admin/providers/connections/openai")
            .await
            .expect(200);
        let fact = &connection["capabilities"]["batch_files"];
        assert_eq!(fact["holds"], false, "{connection:#}");
    }
}

#[tokio::test]
async fn what_a_killed_probe_made_is_deleted_all_the_same() {
    let stack = Stack::start().await;
    let worker = stack.worker("one");
    stack.admin.post(PROBE, &json!({})).await.expect(202);
    eventually("a store of the probe", LIMIT, || async {
        (present(&stack).await.0 > 0).then_some(())
    })
    .await;
    worker.kill().await;
    // Its time comes a quarter of an hour later.
    let planned = rows(
        &stack,
        "SELECT COUNT(*) FROM rag_provider_intents WHERE due_at > UTC_TIMESTAMP(6)",
    )
    .await;
    assert!(planned >= 3, "{planned} deletions are planned");
    make_deletions_due(&stack).await;
    let _second = stack.worker("two");
    eventually("nothing is left", LIMIT, || async {
        let jobs = rows(
            &stack,
            "SELECT COUNT(*) FROM queue_jobs WHERE kind = 'provider_probe' AND state = 'done'",
        )
        .await;
        (jobs == 1 && present(&stack).await == (0, 0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wrong_key_and_a_server_of_another_kind_have_a_clear_verdict() {
    let stack = Stack::start().await;
    let _worker = stack.worker("one");
    let path = "/admin/providers/connections/openai";
    let wrong = json!({"credentials": {"api_key": "sk-c4n4ry-another"}});
    stack.admin.patch(path, &wrong).await.expect(200);
    let report = probe(&stack).await;
    assert_eq!(report["verdict"], "unusable", "{report:#}");
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.contains("refuses the credentials"), "{summary}");

    let web = web_server().await;
    // Credentials go to the host they were given for, so another host wants its own.
    let at = |base_url: &str| json!({"base_url": base_url, "credentials": {"api_key": PROVIDER_KEY}});
    stack.admin.patch(path, &at(&web)).await.expect(200);
    let report = probe(&stack).await;
    assert_eq!(report["verdict"], "unusable", "{report:#}");
    let summary = report["summary"].as_str().unwrap();
    assert!(
        summary.contains("does not speak the OpenAI protocol"),
        "{summary}"
    );

    stack
        .admin
        .patch(path, &at("http://127.0.0.1:9/v1"))
        .await
        .expect(200);
    let report = probe(&stack).await;
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.contains("can't be reached"), "{summary}");

    stack
        .admin
        .patch(path, &json!({"is_enabled": false}))
        .await
        .expect(200);
    let report = probe(&stack).await;
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.contains("switched off"), "{summary}");
    assert_eq!(report["checks"], json!([]), "nothing is sent");
}

/// Answers a page to everything.
async fn web_server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).await;
                let page = "<!doctype html><title>It works</title>";
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                    page.len()
                );
                let _written = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}/v1")
}
