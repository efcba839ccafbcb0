//! Deletions: of indexes, files, stores and copies, and the search for what nothing refers to.

mod copy_records;
mod file;
mod index;
mod orphans;
mod store;

use std::time::Duration;

use rag_tests::Stack;
use serde_json::Value;

const LIMIT: Duration = Duration::from_mins(1);

/// Asks for a deletion; answers its job.
async fn delete(stack: &Stack, path: &str) -> Value {
    stack.client.delete(path).await.expect(202)
}
