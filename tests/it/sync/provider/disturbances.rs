//! Listings that break off, builds under way, a provider that is switched off, and one store that fails.

use rag_emulator::{Action, Rule, When};
use rag_tests::{Stack, eventually};
use serde_json::{Value, json};

use super::{LIMIT, generous};
use crate::fixtures::faults::hold_indexing;
use crate::fixtures::indexes::{built, index_with};
use crate::fixtures::jobs::provider_sync as sync;

#[tokio::test]
async fn a_listing_that_breaks_off_detaches_nothing_and_is_gone_on_with() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    built(&stack.client, &index).await;
    stack.control().seed(rag_emulator::Seed {
        stores: 150,
        files_per_store: 0,
    });
    // The second page fails, again and again.
    let rule = |nth| Rule {
        when: When {
            operation: Some("vector_stores.list".to_owned()),
            nth: Some(nth),
            ..When::default()
        },
        then: Action::EmptyPage { has_more: true },
    };
    stack.control().add_fault(rule(2)).unwrap();
    let answer = stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(202);
    let path = format!("/admin/providers/openai/syncs/{}", answer["id"].as_str().unwrap());
    eventually("a failed listing", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["attempts"].as_u64() > Some(0)).then_some(())
    })
    .await;
    let job = stack.admin.get(&path).await.expect(200);
    assert_eq!(
        job["sync_progress"]["items_total"], 100,
        "the first page is kept: {job}"
    );
    assert!(stack.client.index(&index).await["external_id"].is_string());
    stack.control().clear_faults();
    let job = eventually("the end of the sync", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!(job["output"]["stores_total"], 151, "{job}");
    assert_eq!(job["output"]["indexes_created"], 150);
    assert_eq!(job["output"]["indexes_detached"], 0);

    // Long lists are paged.
    let page = stack
        .admin
        .get(&format!("{path}/findings?kind=stores_extra&limit=100"))
        .await
        .expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = stack
        .admin
        .get(&format!(
            "{path}/findings?kind=stores_extra&limit=100&cursor={cursor}"
        ))
        .await
        .expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 100);
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["next_cursor"]),
        (50, &Value::Null)
    );
}

#[tokio::test]
async fn an_index_that_is_being_built_is_left_to_its_build() {
    let stack = Stack::builder().emulator(generous()).start().await;
    stack.control().add_fault(hold_indexing("page", "build")).unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 3).await;
    let build = stack.client.build(&index).await;
    eventually("the store", LIMIT, || async {
        stack.client.index(&index).await["external_id"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    let result = sync(&stack, "").await;
    assert_eq!(result["found"]["stores_skipped"], 1, "{result}");
    stack.control().open_gate("build");
    let job = stack.client.finished(&build, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    let result = sync(&stack, "").await;
    assert_eq!(
        (&result["files_kept"], &result["indexes_created"]),
        (&json!(3), &json!(0)),
        "{result}"
    );
}

#[tokio::test]
async fn a_provider_that_is_switched_off_is_not_asked_and_the_sync_goes_on_later() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let off = json!({"is_enabled": false});
    let connection = "/admin/providers/connections/openai";
    stack.admin.patch(connection, &off).await.expect(200);
    stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(409);
    stack
        .admin
        .patch(connection, &json!({"is_enabled": true}))
        .await
        .expect(200);
    // Switched off after it was asked for.
    stack.control().seed(rag_emulator::Seed {
        stores: 2,
        files_per_store: 1,
    });
    let answer = stack
        .admin
        .post("/admin/providers/openai/sync", &json!({}))
        .await
        .expect(202);
    let path = format!("/admin/providers/openai/syncs/{}", answer["id"].as_str().unwrap());
    stack.admin.patch(connection, &off).await.expect(200);
    let _worker = stack.worker("worker");
    let job = eventually("the sync to wait", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["state"] == "scheduled").then_some(job)
    })
    .await;
    assert!(
        job["waiting"]["reason"]
            .as_str()
            .unwrap()
            .contains("switched off"),
        "{job}"
    );
    assert_eq!(job["attempts"], 0);
    stack
        .admin
        .patch(connection, &json!({"is_enabled": true}))
        .await
        .expect(200);
    let job = eventually("the sync to go on by itself", LIMIT, || async {
        let job = stack.admin.get(&path).await.expect(200);
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!(
        (&job["output"]["files_created"], &job["attempts"]),
        (&json!(2), &json!(0)),
        "{job}"
    );
}

#[tokio::test]
async fn a_sick_store_does_not_keep_the_others_from_being_synced() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let seeded = stack.control().seed(rag_emulator::Seed {
        stores: 5,
        files_per_store: 2,
    });
    let sick = Rule {
        when: When {
            path: Some(format!("^/v1/vector_stores/{}/files", seeded.stores[1].0)),
            ..When::default()
        },
        then: Action::EmptyPage { has_more: true },
    };
    stack.control().add_fault(sick).unwrap();
    let result = sync(&stack, "").await;
    assert_eq!(
        (&result["indexes_created"], &result["files_created"]),
        (&json!(4), &json!(8)),
        "{result}"
    );
    assert_eq!(result["errors"].as_array().unwrap().len(), 1, "{result}");
    stack.control().clear_faults();
    let result = sync(&stack, "").await;
    assert_eq!(
        (&result["indexes_created"], &result["files_created"]),
        (&json!(1), &json!(2)),
        "{result}"
    );
}
