//! an index's store that is deleted on its own command.

use rag_emulator::{Action, Effect, Rule};
use rag_tests::{Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::{LIMIT, delete};
use crate::fixtures::indexes::built_with;
use crate::fixtures::indexes::prose;
use crate::fixtures::jobs::{done, retry_now};
use crate::fixtures::ledger::{assert_no_orphans, effects};

#[tokio::test]
async fn a_store_is_deleted_alone_and_the_next_build_makes_another() {
    let stack = Stack::start().await;
    let worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = built_with(&stack, 3).await;
    let first = client.index(&index).await["external_id"].clone();
    let path = format!("/indexes/{index}/vector-store");
    // An old version that only the store has left.
    client.replace(&files[0], &prose("newer", 50)).await;
    client.in_domain("other").delete(&path).await.expect(404);
    worker.kill().await;
    let build = client.build(&index).await;
    let refused = client.delete(&path).await.expect(409);
    assert!(refused["detail"].as_str().unwrap().contains(&build), "{refused}");
    client
        .post(&format!("/jobs/{build}/cancel"), &json!({}))
        .await
        .expect(200);

    let job = delete(&stack, &path).await;
    assert_eq!(job["kind"], "index_store_delete", "{job}");
    let again = delete(&stack, &path).await;
    assert_eq!(
        again["id"], job["id"],
        "while it is active it is the same: {again}"
    );
    // A kill amid it, and a provider that fails: it goes on.
    stack
        .control()
        .add_fault(Rule::on("vector_stores.delete", Action::refuse(500)))
        .unwrap();
    let killed = stack.worker("killed");
    eventually("a failure", LIMIT, || async {
        (client.job(job["id"].as_str().unwrap()).await["attempts"].as_u64() >= Some(1)).then_some(())
    })
    .await;
    let seen = client.index(&index).await;
    assert_eq!(
        (&seen["external_id"], &seen["indexing_status"]),
        (&Value::Null, &json!("not_indexed")),
        "{seen}"
    );
    killed.kill().await;
    // A build takes its turn behind it.
    let build = client.build(&index).await;
    let second = stack.worker("second");
    stack.control().clear_faults();
    retry_now(client, job["id"].as_str().unwrap()).await;
    let job = done(&stack, &job).await;
    assert_eq!(job["output"]["external_id"], first, "{job}");
    let job_of_build = client.finished(&build, LIMIT).await;
    assert_eq!(
        job_of_build["output"]["indexing_status"], "done",
        "{job_of_build}"
    );
    assert_eq!(
        stores(&stack),
        [client.index(&index).await["external_id"].clone()]
    );
    assert!(!stores(&stack).contains(&first));
    assert_no_orphans(&stack).await;

    // Without anything in between; copies stay, as the index still holds the files.
    let uploads = effects(&stack, Effect::FileCreated).len();
    let request = client.request(Method::DELETE, &path).header("Prefer", "wait=20");
    assert_eq!(client.send(request).await.status, 204);
    let state = stack.control().state();
    assert_eq!((state.stores.len(), state.files.len()), (0, 3), "{state:?}");
    let seen = client.index(&index).await;
    assert_eq!(seen["indexing_status"], "not_indexed", "{seen}");
    assert!(seen["indexed_at"].is_string() && seen["metadata"]["provider_payload"].is_null());
    assert_eq!(client.delete(&path).await.status, 204, "there is none");
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        uploads,
        "nothing went up again"
    );
    assert_no_orphans(&stack).await;

    // Run again when the index has another store by now: that one was never meant.
    second.kill().await;
    let job = delete(&stack, &path).await;
    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
    client
        .post(&format!("{path}/cancel"), &json!({}))
        .await
        .expect(200);
    let build = client
        .post(&format!("/indexes/{index}/build?recreate=true"), &json!({}))
        .await
        .expect(202);
    let _third = stack.worker("third");
    done(&stack, &build).await;
    let other = client.index(&index).await["external_id"].clone();
    client
        .post(&format!("{path}/retry"), &json!({}))
        .await
        .expect(202);
    done(&stack, &job).await;
    assert_eq!(stores(&stack), [other]);
    assert_eq!(client.index(&index).await["indexing_status"], "done");
    assert_no_orphans(&stack).await;
}

fn stores(stack: &Stack) -> Vec<Value> {
    let state = stack.control().state();
    state
        .stores
        .iter()
        .map(|store| json!(store.id.to_string()))
        .collect()
}
