//! Stores and files under way at the same time: as many as may, each file once, and none that holds up the others.

use rag_emulator::{Action, LedgerQuery, Rule, When};
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::{Value, json};

use super::{LIMIT, generous};
use crate::fixtures::external_changes::Other;
use crate::fixtures::jobs::provider_sync as sync;

fn of(operation: &str) -> When {
    When {
        operation: Some(operation.to_owned()),
        ..When::default()
    }
}

fn fault(stack: &Stack, when: When, then: Action) {
    stack.control().add_fault(Rule { when, then }).unwrap();
}

/// Only files of this store, or of this file.
fn content_of(file: &str) -> When {
    When {
        path: Some(format!("^/v1/files/{file}/content")),
        ..When::default()
    }
}

async fn start_sync(stack: &Stack) -> String {
    let path = "/admin/providers/openai/sync";
    let job = stack.admin.post(path, &json!({})).await.expect(202);
    format!("/admin/providers/openai/syncs/{}", job["id"].as_str().unwrap())
}

async fn ended(stack: &Stack, path: &str) -> Value {
    eventually("the end of the sync", LIMIT, || async {
        let job = stack.admin.get(path).await.expect(200);
        ["done", "failed"]
            .contains(&job["state"].as_str().unwrap())
            .then_some(job)
    })
    .await
}

/// Each store's links, by the names of the files, in their order.
async fn links(stack: &Stack) -> Vec<(String, Vec<String>)> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT i.external_id, f.external_file_id FROM rag_indexes i JOIN rag_index_files l ON l.index_id = i.id \
         JOIN rag_files f ON f.id = l.file_id ORDER BY i.external_id, l.include_order",
    )
    .fetch_all(&stack.database.pool)
    .await
    .unwrap();
    let mut links: Vec<(String, Vec<String>)> = Vec::new();
    for (store, file) in rows {
        match links.last_mut().filter(|last| last.0 == store) {
            Some(last) => last.1.push(file),
            None => links.push((store, vec![file])),
        }
    }
    links
}

/// As the emulator made them.
fn expected(seeded: &rag_emulator::Seeded) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<_> = seeded
        .stores
        .iter()
        .map(|(store, files)| (store.to_string(), files.iter().map(ToString::to_string).collect()))
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn files_of_several_stores_are_on_their_way_at_once() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let seeded = stack.control().seed(rag_emulator::Seed {
        stores: 4,
        files_per_store: 1,
    });
    let gate = "bytes".to_owned();
    fault(&stack, of("files.content"), Action::Hold { gate });
    let path = start_sync(&stack).await;
    // None of them is answered before all have been asked for.
    let all_asked = || async { (stack.control().faults()[0].fired == 4).then_some(()) };
    eventually("a download of each store", LIMIT, all_asked).await;
    stack.control().open_gate("bytes");
    let job = ended(&stack, &path).await;
    assert_eq!(job["output"]["files_created"], 4, "{job}");
    assert_eq!(links(&stack).await, expected(&seeded));
}

#[tokio::test]
async fn files_of_one_store_are_on_their_way_at_once_and_are_linked_in_their_order() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let seeded = stack.control().seed(rag_emulator::Seed {
        stores: 1,
        files_per_store: 4,
    });
    let (_, files) = &seeded.stores[0];
    // They come in the opposite order.
    for (n, file) in files.iter().enumerate() {
        let gate = format!("file-{n}");
        fault(&stack, content_of(file), Action::Hold { gate });
    }
    let path = start_sync(&stack).await;
    let all_asked = || async {
        let faults = stack.control().faults();
        faults.iter().all(|fault| fault.fired == 1).then_some(())
    };
    eventually("a download of each file", LIMIT, all_asked).await;
    for n in (0..4).rev() {
        stack.control().open_gate(&format!("file-{n}"));
        let have = 4 - n;
        eventually("the file", LIMIT, || async {
            let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_files")
                .fetch_one(&stack.database.pool)
                .await
                .unwrap();
            (count == have).then_some(())
        })
        .await;
    }
    let job = ended(&stack, &path).await;
    assert_eq!(job["output"]["files_created"], 4, "{job}");
    assert_eq!(
        links(&stack).await,
        expected(&seeded),
        "in the order of the listing"
    );
}

#[tokio::test]
async fn no_more_calls_are_open_than_the_setting_or_the_connection_allows() {
    let stack = Stack::builder()
        .emulator(generous())
        .setting("SYNC_FILE_CONCURRENCY", "3")
        .start()
        .await;
    let _worker = stack.worker("worker");
    fault(&stack, When::default(), Action::Delay { ms: 20 });
    let seed = rag_emulator::Seed {
        stores: 6,
        files_per_store: 4,
    };
    stack.control().seed(seed);
    let result = sync(&stack, "").await;
    assert_eq!(result["files_created"], 24, "{result}");
    let rate = stack.control().rates().prefixes["*"];
    assert_eq!(rate.max_in_flight, 3, "{rate:?}");
}

#[tokio::test]
async fn the_connections_own_limit_stands_above_what_the_answers_would_allow() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let own = json!({
        "auth_type": "api_key", "credentials": {"api_key": PROVIDER_KEY}, "max_concurrent_requests": 2,
    });
    stack.connect_with("openai", own).await;
    let _worker = stack.worker("worker");
    fault(&stack, When::default(), Action::Delay { ms: 20 });
    let seeded = stack.control().seed(rag_emulator::Seed {
        stores: 6,
        files_per_store: 4,
    });
    let job = ended(&stack, &start_sync(&stack).await).await;
    assert_eq!(job["output"]["files_created"], 24, "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    let rate = stack.control().rates().prefixes["*"];
    assert_eq!(rate.max_in_flight, 2, "{rate:?}");
    assert_eq!(links(&stack).await, expected(&seeded));
}

#[tokio::test]
async fn a_file_in_many_stores_is_downloaded_once() {
    const STORES: usize = 6;
    let stack = Stack::builder().emulator(generous().ledger_reads()).start().await;
    let _worker = stack.worker("worker");
    let other = Other::at(&stack);
    let shared = other.create_file("shared.txt", b"in every store").await;
    for n in 0..STORES {
        let store = other.create_store(&json!({"name": format!("store-{n}")})).await;
        other.attach(&store, &shared, None).await;
        let own = other
            .create_file(&format!("own-{n}.txt"), format!("of {n}").as_bytes())
            .await;
        other.attach(&store, &own, None).await;
    }
    fault(&stack, content_of(&shared), Action::Delay { ms: 300 });
    let result = sync(&stack, "").await;
    assert_eq!(
        (
            &result["indexes_created"],
            &result["files_created"],
            &result["index_files_created"]
        ),
        (&json!(STORES), &json!(STORES + 1), &json!(2 * STORES)),
        "{result}"
    );
    let query = LedgerQuery {
        operation: Some("files.content".to_owned()),
        ..LedgerQuery::default()
    };
    assert_eq!(stack.control().ledger(&query).len(), STORES + 1);
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_files")
        .fetch_one(&stack.database.pool)
        .await
        .unwrap();
    assert_eq!(usize::try_from(rows).unwrap(), STORES + 1);
    // Where none is downloaded, each counts once too.
    let result = sync(&stack, "compare=once").await;
    assert_eq!(result["files_skipped"], json!(STORES + 1), "{result}");
}

#[tokio::test]
async fn a_bad_file_and_a_sick_store_are_errors_and_the_others_are_synced() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let seeded = stack.control().seed(rag_emulator::Seed {
        stores: 8,
        files_per_store: 3,
    });
    let respond = |status| Action::Respond {
        status,
        headers: std::collections::BTreeMap::new(),
        body: None,
        text: None,
        after_effect: false,
    };
    let (bad, sick, ill) = (
        &seeded.stores[1].1[0],
        &seeded.stores[3].0,
        &seeded.stores[5].1[2],
    );
    fault(&stack, content_of(bad), respond(400));
    let listing = When {
        path: Some(format!("^/v1/vector_stores/{sick}/files")),
        ..When::default()
    };
    fault(&stack, listing, respond(400));
    // What may pass is tried once more, and then an error of its store.
    fault(&stack, content_of(ill), respond(500));
    let job = ended(&stack, &start_sync(&stack).await).await;
    let result = &job["output"];
    assert_eq!(result["status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    let errors: Vec<&str> = result["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error.as_str().unwrap())
        .collect();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    for subject in [bad, sick, &seeded.stores[5].0] {
        assert!(
            errors.iter().any(|error| error.starts_with(&**subject)),
            "{subject}: {errors:#?}"
        );
    }
    // Of the sick store nothing, of the bad file the others of its store, of the ill file's store the files without the index.
    assert_eq!(
        (&result["indexes_created"], &result["files_created"]),
        (&json!(6), &json!(24 - 3 - 1 - 1)),
        "{result}"
    );
    stack.control().clear_faults();
    let result = sync(&stack, "").await;
    assert_eq!(
        (
            &result["indexes_created"],
            &result["files_created"],
            &result["errors"]
        ),
        (&json!(2), &json!(3 + 1 + 1), &json!([])),
        "{result}"
    );
    // The bad file is linked behind the others of its store, which were there before.
    let mut expected = expected(&seeded);
    let store = seeded.stores[1].0.to_string();
    let files = &mut expected.iter_mut().find(|(id, _)| *id == store).unwrap().1;
    files.rotate_left(1);
    assert_eq!(links(&stack).await, expected);
}
