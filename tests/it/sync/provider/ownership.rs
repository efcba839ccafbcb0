//! Which stores and files are taken over: our own are known by their tags, Yandex names a file anew in a store.

use rag_emulator::{Emulator, Profile};
use rag_tests::Stack;
use serde_json::json;

use super::{LIMIT, changes, generous};
use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::{built, index_with};
use crate::fixtures::jobs::{provider_job, provider_sync as sync};

#[tokio::test]
async fn stores_of_our_own_making_are_never_taken_for_strangers() {
    let stack = Stack::builder().emulator(generous()).start().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let (index, _) = index_with(&stack, 1).await;
    built(client, &index).await;
    // A second store with the index's tag, as an attempt leaves it that was superseded, or whose answer is not in yet.
    let tagged = json!({"name": "handbook", "metadata": {"rag_index_id": index, "rag_intent": "x"}});
    other.create_store(&tagged).await;
    let result = sync(&stack, "").await;
    assert_eq!(result["indexes_created"], 0, "{result}");
    assert_eq!(result["found"]["stores_skipped"], 1, "{result}");
    // One whose index nobody knows (a database that was lost, say) is taken over.
    let unknown =
        json!({"name": "saved", "metadata": {"rag_index_id": "0c8a4a5e-5f0f-4a0e-8a44-0d2f6a0c1b11"}});
    other.create_store(&unknown).await;
    assert_eq!(sync(&stack, "").await["indexes_created"], 1);
}

#[tokio::test]
async fn yandex_files_go_by_their_id_in_the_store() {
    let emulator = Emulator::builder()
        .indexing(5, 0.0)
        .profile(Profile::Yandex)
        .store_file_ids()
        .allow_content();
    let stack = Stack::builder().emulator(emulator).start().await;
    stack.connect("yandex").await;
    let _worker = stack.worker("worker");
    stack.control().seed(rag_emulator::Seed {
        stores: 1,
        files_per_store: 2,
    });
    let job = provider_job(&stack, "yandex", "sync", "syncs").await;
    assert_eq!(job["output"]["files_created"], 2, "{job}");
    //
    let different: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM rag_provider_file_uploads WHERE files_api_id IS NOT NULL AND files_api_id <> external_file_id",
    )
    .fetch_one(&stack.database.pool)
    .await
    .unwrap();
    assert_eq!(different, 2);
    let default = stack.client.in_domain("0");
    let index = default.get("/indexes").await.expect(200)["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let before = changes(&stack);
    let job = default.finished(&default.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        changes(&stack),
        before,
        "a build after an import has nothing to do"
    );
    let job = provider_job(&stack, "yandex", "sync", "syncs").await;
    assert_eq!(
        (&job["output"]["files_kept"], &job["output"]["files_created"]),
        (&json!(2), &json!(0)),
        "{job}"
    );
}
