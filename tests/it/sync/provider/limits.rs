//! Much that is gone at once stops a sync before it changes anything.

use rag_tests::Stack;
use serde_json::json;

use super::{copy_of, counters, dump, generous};
use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::{built, index_with};
use crate::fixtures::jobs::provider_sync as sync;

#[tokio::test]
async fn many_stores_gone_at_once_stop_the_sync_before_it_changes_anything() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let mut stores = Vec::new();
    for n in 0..6 {
        let index = client.create_index(&format!("index-{n}"), "openai").await;
        stores.push(built(client, &index).await);
    }
    for store in &stores[..4] {
        other.delete_store(store).await;
    }
    other.create_store(&json!({"name": "theirs"})).await;
    let rows = dump(&stack).await;
    let stopped = sync(&stack, "").await;
    assert_eq!(stopped["status"], "stopped", "{stopped}");
    assert!(
        stopped["errors"][0].as_str().unwrap().contains("force=true"),
        "{stopped}"
    );
    assert_eq!(counters(&stopped), [0; 9]);
    assert_eq!(dump(&stack).await, rows);
    let forced = sync(&stack, "force=true").await;
    assert_eq!(
        (&forced["indexes_detached"], &forced["indexes_created"]),
        (&json!(4), &json!(1)),
        "{forced}"
    );
}

#[tokio::test]
async fn many_files_gone_at_once_stop_the_sync_too() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let (index, files) = index_with(&stack, 10).await;
    let store = built(client, &index).await;
    for file in &files[..5] {
        other.detach(&store, &copy_of(&stack, file).await).await;
    }
    let rows = dump(&stack).await;
    let stopped = sync(&stack, "strict=true").await;
    assert_eq!(stopped["status"], "stopped", "{stopped}");
    assert_eq!(dump(&stack).await, rows);
    let forced = sync(&stack, "strict=true&force=true").await;
    assert_eq!(forced["index_files_deleted"], 5, "{forced}");
}
