//! `compare=once`: what was found equal before is not read again, and whatever has changed since is.

use rag_emulator::LedgerQuery;
use rag_tests::Stack;
use serde_json::{Value, json};

use super::{copy_of, dump, generous, strings};
use crate::fixtures::external_changes::Other;
use crate::fixtures::indexes::{built, index_with, prose};
use crate::fixtures::jobs::provider_sync as sync;

async fn started() -> Stack {
    Stack::builder().emulator(generous().ledger_reads()).start().await
}

fn downloads(stack: &Stack) -> usize {
    let query = LedgerQuery {
        operation: Some("files.content".to_owned()),
        ..LedgerQuery::default()
    };
    stack.control().ledger(&query).len()
}

/// Kept, compared and skipped.
fn counts(result: &Value) -> [u64; 3] {
    ["files_kept", "files_compared", "files_skipped"].map(|name| result[name].as_u64().unwrap())
}

#[tokio::test]
async fn files_that_were_found_equal_are_not_read_again_unless_all_are_to_be() {
    let stack = started().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 3).await;
    built(&stack.client, &index).await;
    let other = Other::at(&stack);
    let store = other.create_store(&json!({"name": "theirs"})).await;
    let file = other.create_file("theirs.txt", b"of somebody else").await;
    other.attach(&store, &file, None).await;

    // Ours were sent, and never compared; theirs come with the sync.
    let first = sync(&stack, "compare=once").await;
    assert_eq!(
        (counts(&first), &first["files_created"]),
        ([3, 3, 0], &json!(1)),
        "{first}"
    );
    assert_eq!(first["compare"], "once");
    assert_eq!(downloads(&stack), 4);
    let rows = dump(&stack).await;
    let again = sync(&stack, "compare=once").await;
    assert_eq!(counts(&again), [4, 0, 4], "{again}");
    assert_eq!(downloads(&stack), 4);
    assert_eq!(strings(&again["file_results"], "status"), ["matched_before"; 4]);
    assert_eq!(dump(&stack).await, rows);

    let report = sync(&stack, "compare=once&dry_run=true").await;
    assert_eq!(counts(&report), [4, 0, 4], "{report}");
    let full = sync(&stack, "").await;
    assert_eq!(
        (counts(&full), &full["compare"]),
        ([4, 4, 0], &json!("full")),
        "{full}"
    );
    assert_eq!(downloads(&stack), 8);
    assert_eq!(strings(&full["file_results"], "status"), ["matches"; 4]);
    assert_eq!(dump(&stack).await, rows);
}

#[tokio::test]
async fn what_has_changed_here_or_there_is_compared() {
    let stack = started().await;
    let _worker = stack.worker("worker");
    let (client, other) = (&stack.client, Other::at(&stack));
    let (index, files) = index_with(&stack, 4).await;
    let store = built(client, &index).await;
    assert_eq!(counts(&sync(&stack, "compare=once").await), [4, 4, 0]);

    // Other contents here, which no build has brought there yet; other bytes there do not count as compared either.
    client.replace(&files[0], &prose("changed", 40)).await;
    for _ in 0..2 {
        let result = sync(&stack, "compare=once").await;
        assert_eq!(counts(&result), [4, 1, 3], "{result}");
        assert_eq!(
            strings(&result["files_byte_mismatches"], "file_id"),
            [files[0].clone()]
        );
    }
    // A build sends them under another id.
    built(client, &index).await;
    let result = sync(&stack, "compare=once").await;
    assert_eq!(
        (counts(&result), &result["files_byte_mismatches"]),
        ([4, 1, 3], &json!([])),
        "{result}"
    );
    assert_eq!(counts(&sync(&stack, "compare=once").await), [4, 0, 4]);

    // Another id with the same bytes, put in by somebody else.
    let new = other.create_file("page-1.md", &prose("w1x", 50)).await;
    other.attach(&store, &new, None).await;
    other.detach(&store, &copy_of(&stack, &files[1]).await).await;
    sqlx::query("UPDATE rag_provider_file_uploads SET external_file_id = ? WHERE local_file_id = ?")
        .bind(&new)
        .bind(&files[1])
        .execute(&stack.database.pool)
        .await
        .unwrap();
    let result = sync(&stack, "compare=once").await;
    assert_eq!(
        (counts(&result), &result["files_byte_mismatches"]),
        ([4, 1, 3], &json!([])),
        "{result}"
    );
    assert_eq!(counts(&sync(&stack, "compare=once").await), [4, 0, 4]);
}

#[tokio::test]
async fn a_difference_that_was_seen_is_looked_for_again() {
    let stack = started().await;
    let _worker = stack.worker("worker");
    let (index, files) = index_with(&stack, 2).await;
    built(&stack.client, &index).await;
    assert_eq!(counts(&sync(&stack, "").await), [2, 2, 0]);
    let (other, copy) = (Other::at(&stack), copy_of(&stack, &files[0]).await);
    // Under an id that was compared: what only a full comparison sees.
    other.replace(&copy, b"other bytes by now").await;
    assert_eq!(counts(&sync(&stack, "compare=once").await), [2, 0, 2]);
    let result = sync(&stack, "").await;
    assert_eq!(
        result["files_byte_mismatches"].as_array().unwrap().len(),
        1,
        "{result}"
    );
    for _ in 0..2 {
        let result = sync(&stack, "compare=once").await;
        assert_eq!(counts(&result), [2, 1, 1], "{result}");
        assert_eq!(
            strings(&result["files_byte_mismatches"], "file_id"),
            [files[0].clone()]
        );
    }
    other.replace(&copy, &prose("w0x", 50)).await;
    assert_eq!(counts(&sync(&stack, "compare=once").await), [2, 1, 1]);
    assert_eq!(counts(&sync(&stack, "compare=once").await), [2, 0, 2]);
}

#[tokio::test]
async fn a_report_marks_nothing_as_compared() {
    let stack = started().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 2).await;
    built(&stack.client, &index).await;
    for _ in 0..2 {
        let report = sync(&stack, "dry_run=true&compare=once").await;
        assert_eq!(counts(&report), [2, 2, 0], "{report}");
    }
}
