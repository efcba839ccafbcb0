//! Which requests a rule meets, how indexing is disturbed and held, and what the control API takes.

use crate::support::{id, on, read, start};
use rag_emulator::{Action, Rule, RuleError, When};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn indexing_can_fail_hang_and_dawdle() {
    let client = start().await;
    let named = |part: &str| When {
        filename: Some(part.to_owned()),
        ..When::default()
    };
    client.fault(
        named("bad"),
        Action::FailIndexing {
            code: "server_error".to_owned(),
            message: "no".to_owned(),
        },
    );
    client.fault(named("stuck"), Action::Stuck);
    client.fault(named("slow"), Action::DelayIndexing { ms: 200 });
    let store = client.store().await;
    let bad = client.upload("bad.txt", "text").await;
    let failed = client.attach(&store, json!({ "file_id": bad })).await;
    assert_eq!(
        failed["last_error"],
        json!({ "code": "server_error", "message": "no" })
    );

    let stuck = client.upload("stuck.txt", "text").await;
    client
        .post(
            &format!("/vector_stores/{store}/files"),
            json!({ "file_id": stuck }),
        )
        .await;
    let started = Instant::now();
    let slow = client.upload("slow.txt", "text").await;
    client.attach(&store, json!({ "file_id": slow })).await;
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(
        client.get(&format!("/vector_stores/{store}/files/{stuck}")).await["status"],
        "in_progress"
    );
}

#[tokio::test]
async fn requests_and_indexing_wait_until_their_gate_is_opened() {
    let client = start().await;
    let store = client.store().await;
    let gate = |name: &str| name.to_owned();
    client.fault(on("files.create"), Action::Hold { gate: gate("upload") });
    let indexing = Action::HoldIndexing {
        gate: gate("indexing"),
    };
    client.fault(When::default(), indexing);
    let upload = client.upload("a.txt", "text");
    tokio::pin!(upload);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut upload).await;
    assert!(
        early.is_err() && client.emulator.control().state().files.is_empty(),
        "{early:?}"
    );
    client.emulator.control().open_gate("upload");
    let file = upload.await;
    client
        .post(
            &format!("/vector_stores/{store}/files"),
            json!({ "file_id": file }),
        )
        .await;
    let path = format!("/vector_stores/{store}/files/{file}");
    let status = async || client.get(&path).await["status"].clone();
    assert_eq!(status().await, "in_progress");
    client.emulator.control().clear_faults();
    let begun = Instant::now();
    while status().await != "completed" {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn rules_choose_by_name_number_and_path() {
    let client = start().await;
    let nth = When {
        nth: Some(2),
        times: Some(1),
        filename: Some("b".to_owned()),
        ..on("files.create")
    };
    client.fault(nth, Action::refuse(500));
    let mut statuses = Vec::new();
    for name in ["a1.txt", "b1.txt", "b2.txt", "b3.txt"] {
        statuses.push(
            client
                .upload_request(name, "text")
                .send()
                .await
                .unwrap()
                .status()
                .as_u16(),
        );
    }
    assert_eq!(statuses, [200, 200, 500, 200]);
    let state = client.emulator.control().faults().remove(0);
    assert_eq!((state.matched, state.fired), (3, 1));

    let store = client.store().await;
    let file = client.upload("attach-me.txt", "text").await;
    let by_name = When {
        filename: Some("attach-me".to_owned()),
        times: Some(1),
        ..on("vector_stores.file_batches.create")
    };
    client.fault(by_name, Action::refuse(400));
    let batches = format!("/vector_stores/{store}/file_batches");
    assert_eq!(
        client
            .refused_post(&batches, json!({ "file_ids": [file] }))
            .await
            .0,
        400
    );
    let batch = client.post(&batches, json!({ "file_ids": [file] })).await;
    assert!(id(&batch).starts_with("vsfb_"));

    let by_path = When {
        path: Some("^/v1/files/[^/]+$".to_owned()),
        method: Some("delete".to_owned()),
        ..When::default()
    };
    client.fault(by_path, Action::refuse(409));
    client.get(&format!("/files/{file}")).await;
    assert_eq!(
        client
            .refused(Method::DELETE, &format!("/files/{file}"), None)
            .await
            .0,
        409
    );
    // Calls behind the client's back are spared.
    let external = client
        .request(Method::DELETE, &format!("/files/{file}"))
        .header("x-emulator-external", "1");
    assert_eq!(external.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn chance_is_seeded() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let client = start().await;
        client.fault(
            When {
                probability: Some(0.5),
                seed: 42,
                ..on("models.list")
            },
            Action::refuse(500),
        );
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(client.call(Method::GET, "/models", None).await.0);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    let failures = runs[0].iter().filter(|status| **status == 500).count();
    assert!((8..=32).contains(&failures), "{failures}");
}

#[tokio::test]
async fn the_control_api_takes_and_refuses_rules() {
    let client = start().await;
    let faults = format!("{}/_emulator/faults", client.emulator.origin());
    let send = |body: Value| client.http.post(&faults).json(&body).send();
    let rules = json!([
        { "when": { "operation": "models.list", "times": 1 }, "then": { "action": "rate_limit", "retry_after": { "seconds": 1 } } },
        { "then": { "action": "fail_indexing", "code": "server_error" } },
    ]);
    let (status, body) = read(send(rules).await.unwrap()).await;
    assert_eq!((status, &body["ids"]), (201, &json!([1, 2])));
    assert_eq!(client.call(Method::GET, "/models", None).await.0, 429);
    for wrong in [
        json!({ "then": { "action": "explode" } }),
        json!({ "when": { "operation": "files.explode" }, "then": { "action": "quota" } }),
        json!({ "when": { "path": "(" }, "then": { "action": "quota" } }),
        json!({ "when": { "colour": "red" }, "then": { "action": "quota" } }),
    ] {
        assert_eq!(send(wrong.clone()).await.unwrap().status(), 400, "{wrong}");
    }
    assert_eq!(client.http.delete(&faults).send().await.unwrap().status(), 204);
    assert!(client.emulator.control().faults().is_empty());
    let misplaced = Rule {
        when: on("files.create"),
        then: Action::Stuck,
    };
    assert!(matches!(
        client.emulator.control().add_fault(misplaced),
        Err(RuleError::Indexing("stuck"))
    ));
}
