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

/// Every store and file at the provider is referenced by exactly one row of ours, and every store holds exactly the files
/// that we think it does: no orphans, no duplicates, nothing missing.
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

    let copies: Vec<String> = scalars(
        stack,
        "SELECT COALESCE(files_api_id, external_file_id) FROM rag_provider_file_uploads WHERE status = 'uploaded'",
    )
    .await;
    let files: HashSet<String> = state.files.iter().map(|file| file.id.to_string()).collect();
    assert_eq!(
        files,
        copies.iter().cloned().collect(),
        "files at the provider and in rag_provider_file_uploads"
    );
    assert_eq!(
        copies.len(),
        files.len(),
        "no provider file serves two local files"
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
