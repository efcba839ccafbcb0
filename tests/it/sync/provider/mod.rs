//! Syncs of a provider: what others did there, found and mended.

mod compare_once;
mod disturbances;
mod drift;
mod limits;
mod ownership;
mod side_by_side;

use std::time::Duration;

use rag_emulator::{Effect, Emulator};
use rag_tests::Stack;
use serde_json::Value;

pub(super) const LIMIT: Duration = Duration::from_mins(1);

pub(super) fn generous() -> rag_emulator::Builder {
    Emulator::builder().indexing(5, 0.0).allow_content()
}

pub(super) const COUNTERS: [&str; 9] = [
    "indexes_created",
    "indexes_updated",
    "indexes_detached",
    "files_created",
    "files_kept",
    "index_files_created",
    "index_files_deleted",
    "provider_uploads_created",
    "provider_uploads_deleted",
];

pub(super) fn counters(result: &Value) -> [u64; 9] {
    COUNTERS.map(|name| {
        result[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name} in {result}"))
    })
}

/// Everything that a sync may write, but for the syncs' own rows.
pub(in crate::sync) async fn dump(stack: &Stack) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT CONCAT_WS('|', id, domain_id, name, IFNULL(description, '-'), IFNULL(external_id, '-'), IFNULL(metadata, '-'), \
             indexing_status, IFNULL(indexed_at, '-'), IFNULL(last_error, '-'), updated_at) FROM rag_indexes ORDER BY id",
        "SELECT CONCAT_WS('|', id, domain_id, file_name, sha256, local_path, IFNULL(external_file_id, '-'), updated_at) \
             FROM rag_files ORDER BY id",
        "SELECT CONCAT_WS('|', index_id, file_id, include_order, IFNULL(chunking_strategy, '-')) FROM rag_index_files ORDER BY 1",
        "SELECT CONCAT_WS('|', id, local_file_id, IFNULL(external_file_id, '-'), content_sha256, status, updated_at) \
             FROM rag_provider_file_uploads ORDER BY id",
        "SELECT CONCAT_WS('|', id, index_id, local_file_id, external_file_id, content_sha256, state, updated_at) \
             FROM rag_index_attachments ORDER BY id",
    ] {
        all.extend(
            sqlx::query_scalar::<_, String>(sql)
                .fetch_all(&stack.database.pool)
                .await
                .unwrap(),
        );
    }
    all
}

pub(super) async fn copy_of(stack: &Stack, file: &str) -> String {
    sqlx::query_scalar("SELECT external_file_id FROM rag_provider_file_uploads WHERE local_file_id = ?")
        .bind(file)
        .fetch_one(&stack.database.pool)
        .await
        .unwrap()
}

pub(super) fn strings(list: &Value, field: &str) -> Vec<String> {
    let mut all: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item[field].as_str().unwrap_or_default().to_owned())
        .collect();
    all.sort();
    all
}

/// What we have changed at the provider.
pub(super) fn changes(stack: &Stack) -> usize {
    let ledger = stack.control().ledger(&rag_emulator::LedgerQuery::default());
    let ours = ledger.iter().filter(|entry| {
        entry.changed && !entry.external && !matches!(entry.effect, Effect::Indexed | Effect::BatchCreated)
    });
    ours.count()
}
