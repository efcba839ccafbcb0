//! A sync compares chunking strategies as a build does: what a provider calls `other` is unknown, and no difference.

use std::time::Duration;

use rag_emulator::{Action, Effect, Rule, When};
use rag_tests::Stack;
use serde_json::json;

use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::built;
use crate::fixtures::indexes::{fixed, prose};
use crate::fixtures::jobs::provider_sync as sync;
use crate::fixtures::ledger::effects;

const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_strategy_that_the_provider_does_not_tell_is_not_another_one() {
    let emulator = rag_emulator::Emulator::builder().indexing(5, 0.0).allow_content();
    let stack = Stack::builder().emulator(emulator).start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    // One index is built with the file, so that it has a copy; somebody attaches that copy to another index's store.
    let wish = fixed(200, 0);
    let file = client
        .upload("page.md", &prose("page", 100), Some(wish.clone()))
        .await;
    let (one, two) = (
        client.create_index("one", "openai").await,
        client.create_index("two", "openai").await,
    );
    client.link(&one, &file).await;
    built(client, &one).await;
    let store = built(client, &two).await;
    let path = format!("/files/{file}/provider-uploads/openai");
    let copy = client.get(&path).await.expect(200)["external_file_id"]
        .as_str()
        .unwrap()
        .to_owned();
    Other::at(&stack).attach(&store, &copy, Some(wish.clone())).await;
    // The provider no longer knows how it cut the file.
    let line = json!({"id": copy, "object": "vector_store.file", "created_at": 1_700_000_000, "usage_bytes": 10,
        "vector_store_id": store, "status": "completed", "last_error": null, "attributes": {},
        "chunking_strategy": {"type": "other"}});
    let listing = json!({"data": [line], "first_id": copy, "last_id": copy, "has_more": false});
    let rule = Rule {
        when: When {
            path: Some(format!("/vector_stores/{store}/files")),
            operation: Some("vector_stores.files.list".to_owned()),
            ..When::default()
        },
        then: Action::MergeJson {
            fields: listing.as_object().unwrap().clone(),
        },
    };
    stack.control().add_fault(rule).unwrap();

    let result = sync(&stack, "").await;
    assert_eq!(result["index_files_created"], 1, "{result}");
    let items = client.provider_files(&two).await;
    assert_eq!(
        (&items[0]["chunking"]["asked"], &items[0]["chunking"]["matches"]),
        (&wish, &json!(null)),
        "{items:?}"
    );
    // Nor is the caller's wish taken for something else than it is.
    let links = client.get(&format!("/indexes/{two}/files")).await.expect(200);
    assert_eq!(links["items"][0]["chunking_strategy"], json!(null), "{links}");
    let attached = effects(&stack, Effect::Attached).len();
    let job = client.finished(&client.build(&two).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        attached,
        "the file is attached as wanted, as far as anybody knows"
    );
}
