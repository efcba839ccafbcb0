//! What must hold between the provider and our rows when everything is quiet (design invariants I2 to I5).

use std::collections::{HashMap, HashSet};

use rag_emulator::{Effect, Entry, LedgerQuery};
use rag_tests::Stack;
use sqlx::Row as _;

/// All entries with this effect.
pub(crate) fn effects(stack: &Stack, effect: Effect) -> Vec<Entry> {
    let mut entries = stack.control().ledger(&LedgerQuery::default());
    entries.retain(|entry| entry.effect == effect && entry.changed);
    entries
}

/// Files at the provider that no row names.
pub(crate) async fn spare_copies(stack: &Stack) -> Vec<String> {
    let named: HashSet<String> = scalars(
        stack,
        "SELECT COALESCE(files_api_id, external_file_id) FROM rag_provider_file_uploads WHERE status = 'uploaded'",
    )
    .await
    .into_iter()
    .collect();
    let files = stack.control().state().files;
    let ids = files.iter().map(|file| file.id.to_string());
    ids.filter(|id| !named.contains(id)).collect()
}

/// Every store and file at the provider is referenced by exactly one row of ours, every store holds exactly the files that we
/// think it does, and every copy the bytes that its row says: no orphans, no duplicates, nothing missing. Each upload whose
/// answer was lost may have left a copy that no row names.
pub(crate) async fn assert_no_orphans(stack: &Stack) {
    let state = stack.control().state();
    let stores: Vec<String> = scalars(
        stack,
        "SELECT external_id FROM rag_indexes WHERE external_id IS NOT NULL",
    )
    .await;
    let there: HashSet<String> = state.stores.iter().map(|store| store.id.to_string()).collect();
    assert_eq!(
        there,
        stores.iter().cloned().collect(),
        "stores at the provider and in rag_indexes"
    );
    assert_eq!(stores.len(), there.len(), "no store serves two indexes");

    let copies: Vec<(String, String)> = sqlx::query_as(
        "SELECT COALESCE(files_api_id, external_file_id), content_sha256 FROM rag_provider_file_uploads \
         WHERE status = 'uploaded'",
    )
    .fetch_all(&stack.database.pool)
    .await
    .unwrap();
    let files: HashMap<String, String> = state
        .files
        .iter()
        .map(|file| (file.id.to_string(), file.sha256.to_string()))
        .collect();
    let mut named = HashSet::new();
    for (id, sha256) in &copies {
        assert_eq!(files.get(id), Some(sha256), "the provider has the bytes of {id}");
        assert!(named.insert(id), "{id} serves two local files");
    }
    let spare = spare_copies(stack).await;
    let lost: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM rag_provider_ownership WHERE kind = 'file' AND external_id IS NULL",
    )
    .fetch_one(&stack.database.pool)
    .await
    .unwrap();
    assert!(
        i64::try_from(spare.len()).unwrap() <= lost,
        "a spare copy for each lost answer, and no more: {spare:?}, {lost} answers lost"
    );

    let rows = sqlx::query("SELECT external_store_id, external_file_id FROM rag_index_attachments")
        .fetch_all(&stack.database.pool)
        .await
        .unwrap();
    let mut ours: HashMap<String, HashSet<String>> = HashMap::new();
    for row in rows {
        ours.entry(row.get(0)).or_default().insert(row.get(1));
    }
    for store in &state.stores {
        let attached: HashSet<String> = store.files.iter().map(|file| file.file_id.to_string()).collect();
        let expected = ours.get(&store.id.to_string()).cloned().unwrap_or_default();
        assert_eq!(attached, expected, "files in store {}", store.id);
    }
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_provider_intents")
        .fetch_one(&stack.database.pool)
        .await
        .unwrap();
    assert_eq!(left, 0, "every intent is resolved");
}

async fn scalars(stack: &Stack, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql)
        .fetch_all(&stack.database.pool)
        .await
        .unwrap()
}
