//! Uploads, attaches and indexing that run beside each other, and workers that are killed while they do.

use std::time::Duration;

use rag_emulator::{Action, Effect, Emulator, Rule, When};
use rag_tests::{Stack, eventually};

use crate::fixtures::faults::{hold, hold_indexing};
use crate::fixtures::indexes::{built_with, index_with};
use crate::fixtures::ledger::{assert_no_orphans, effects, spare_copies};
use crate::fixtures::rows::count;

const LIMIT: Duration = Duration::from_mins(1);
const FILES: usize = 12;

/// The upload of one file waits until the gate is opened.
fn hold_upload(filename: &str, gate: &str) -> Rule {
    Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            filename: Some(filename.to_owned()),
            ..When::default()
        },
        then: Action::Hold {
            gate: gate.to_owned(),
        },
    }
}

async fn completed(stack: &Stack, files: usize) {
    eventually(&format!("{files} files to be indexed"), LIMIT, || async {
        let indexed = effects(stack, Effect::Indexed).len();
        (indexed >= files).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_has_gone_up_is_attached_and_indexed_while_another_file_goes_up() {
    let stack = Stack::start().await;
    stack
        .control()
        .add_fault(hold_upload("page-3.md", "slow"))
        .unwrap();
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    completed(&stack, FILES - 1).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), FILES - 1);
    let row = stack.client.index(&index).await;
    assert_eq!(row["indexing_status"], "in_progress", "{row}");
    stack.control().open_gate("slow");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["progress"]["files_completed"], FILES, "{job}");
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        FILES,
        "each was attached once"
    );
    assert_no_orphans(&stack).await;
}

/// The worker is killed while the stage is held; another one comes to the same end.
async fn survives_a_kill(held: Rule, reached: impl AsyncFn(&Stack)) {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(5, 0.0))
        .start()
        .await;
    stack.control().add_fault(held).unwrap();
    let worker = stack.worker("killed");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    reached(&stack).await;
    worker.kill().await;
    stack.control().clear_faults();
    let _second = stack.worker("second");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        job["attempts"], 0,
        "a killed worker is no failure of the job: {job}"
    );
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        FILES + spare_copies(&stack).await.len(),
        "each file went up once, or its answer was lost"
    );
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        FILES,
        "each was attached once"
    );
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_kill_while_files_are_declared_and_nothing_has_arrived() {
    survives_a_kill(hold("files.create", "up"), async |stack| {
        eventually("uploads to be declared", LIMIT, || async {
            let sql = "SELECT COUNT(*) FROM rag_provider_intents WHERE operation = 'upload_file'";
            (count(stack, sql).await >= 4).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_kill_while_some_files_are_indexed_and_one_goes_up() {
    survives_a_kill(hold_upload("page-5.md", "up"), async |stack| {
        completed(stack, FILES - 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_kill_while_a_batch_is_on_its_way() {
    survives_a_kill(hold("vector_stores.file_batches.create", "in"), async |stack| {
        eventually("an attach to be asked for", LIMIT, || async {
            let sql = "SELECT COUNT(*) FROM rag_index_attachments WHERE state = 'attaching'";
            (count(stack, sql).await > 0).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_kill_while_one_file_is_being_indexed() {
    survives_a_kill(hold_indexing("page-7.md", "index"), async |stack| {
        completed(stack, FILES - 1).await;
    })
    .await;
}

/// Nothing to do: the store's counts prove that all of it is there.
#[tokio::test]
async fn a_build_of_what_is_built_asks_for_the_store_and_for_nothing_else() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = built_with(&stack, FILES).await;
    let asked = || stack.control().rates().prefixes["*"].total;
    let before = asked();
    let job = stack
        .client
        .finished(&stack.client.build(&index).await, LIMIT)
        .await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(asked() - before, 2, "the store, before and after");
}
