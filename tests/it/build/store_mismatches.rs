//! A store that does not hold what our rows say: requests that took effect late, and what others took out.

use std::time::Duration;

use rag_emulator::{Effect, Emulator, Rule};
use rag_tests::{Program, Stack, eventually};
use serde_json::json;

use crate::fixtures::external_changes::Other;
use crate::fixtures::faults::{hold, hold_indexing};
use crate::fixtures::indexes::built;
use crate::fixtures::indexes::{fixed, index_with, prose};
use crate::fixtures::jobs::sync;
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_secs(90);

/// The first of these calls, which its sender never hears of.
fn late_call(operation: &str) -> Rule {
    hold(operation, "late").times(1)
}

/// Freezes the worker once its call waits at the provider.
async fn freeze_amid_the_call(stack: &Stack, worker: &Program) {
    eventually("the call to arrive", LIMIT, || async {
        let rules = stack.control().faults();
        let late = rules
            .iter()
            .find(|state| state.rule.when.times == Some(1))
            .unwrap();
        (late.fired == 1).then_some(())
    })
    .await;
    worker.signal("STOP").await;
}

/// What waits at the provider takes effect now: answers once `count` calls have had it.
async fn land(stack: &Stack, effect: Effect, count: usize) {
    stack.control().open_gate("late");
    eventually("the late call to take effect", LIMIT, || async {
        (effects(stack, effect).len() == count).then_some(())
    })
    .await;
}

async fn attached(stack: &Stack, count: usize) {
    eventually("the next worker to attach its files", LIMIT, || async {
        (effects(stack, Effect::Attached).len() == count).then_some(())
    })
    .await;
}

/// Condition 8: a detach from one store takes a shared file out of another.
#[tokio::test]
async fn a_file_that_another_stores_detach_took_along_is_missed_and_put_back() {
    let emulator = Emulator::builder()
        .indexing(5, 0.0)
        .with(|options| options.detach_everywhere = true);
    let stack = Stack::builder().emulator(emulator).start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 3).await;
    let shared = client.create_index("shared", "openai").await;
    for file in &files {
        client.link(&shared, file).await;
    }
    built(client, &index).await;
    built(client, &shared).await;
    client.unlink(&index, &files[1]).await;
    built(client, &index).await;

    for _ in 0..2 {
        let synced = sync(client, &shared).await;
        assert_eq!(synced["indexing_status"], "failed", "{synced}");
        let error = synced["last_error"].as_str().unwrap();
        assert!(
            error.contains("page-1.md") && error.contains("build the index"),
            "{synced}"
        );
    }
    let status = client.get(&format!("/indexes/{shared}/status")).await.expect(200);
    assert_eq!(
        (
            &status["file_counts"]["failed"],
            &status["file_counts"]["pending"]
        ),
        (&json!(1), &json!(0)),
        "{status}"
    );
    built(client, &shared).await;
    assert_eq!(sync(client, &shared).await["indexing_status"], "done");
    let stores = stack.control().state().stores;
    let mut held: Vec<usize> = stores.iter().map(|store| store.files.len()).collect();
    held.sort_unstable();
    assert_eq!(held, [2, 3]);
    assert_no_orphans(&stack).await;
}

/// The same without a sync in between: the build itself compares.
#[tokio::test]
async fn a_build_puts_back_what_somebody_took_out() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 3).await;
    let store = built(client, &index).await;
    let file = stack.control().state().stores[0].files[1].file_id.to_string();
    let other = Other::at(&stack);
    other.detach(&store, &file).await;
    // What is not ours is left alone.
    let strange = other.create_file("strange.md", b"a stranger's text").await;
    other.attach(&store, &strange, None).await;
    built(client, &index).await;
    let held = stack.control().state().stores.remove(0).files;
    let holds = |id: &str| held.iter().any(|held| &*held.file_id == id);
    assert!(holds(&file) && holds(&strange) && held.len() == 4, "{held:?}");
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        3 + 1,
        "nothing is uploaded again"
    );
}

/// A worker is frozen with a detach on the wire; it takes effect after another one has attached the file again.
#[tokio::test]
async fn a_detach_that_lands_after_the_attach_is_made_good() {
    let stack = Stack::start().await;
    let frozen = stack.worker("frozen");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 3).await;
    built(client, &index).await;
    // Something that keeps the build at work for longer than the detach is on its way.
    let slow = client.upload("slow.md", &prose("slow", 50), None).await;
    client.link(&index, &slow).await;
    stack
        .control()
        .add_fault(hold_indexing("slow.md", "slow"))
        .unwrap();
    stack
        .control()
        .add_fault(late_call("vector_stores.files.delete"))
        .unwrap();
    client
        .patch(
            &format!("/files/{}", files[0]),
            &json!({"chunking_strategy": fixed(200, 0)}),
        )
        .await
        .expect(200);
    let job = client.build(&index).await;
    freeze_amid_the_call(&stack, &frozen).await;
    let _second = stack.worker("second");
    // Three pages, the slow file, and the first page with its new strategy.
    attached(&stack, 3 + 1 + 1).await;
    land(&stack, Effect::Detached, 2).await;
    stack.control().open_gate("slow");
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(stack.control().state().stores[0].files.len(), 4, "{job}");
    assert_no_orphans(&stack).await;
    frozen.kill().await;
}

/// A worker is frozen with an attach on the wire; it takes effect after the file has been unlinked.
#[tokio::test]
async fn an_attach_that_lands_after_the_unlink_is_taken_out() {
    let stack = Stack::start().await;
    let frozen = stack.worker("frozen");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 2).await;
    built(client, &index).await;
    let late = client.upload("late.md", &prose("late", 50), None).await;
    client.link(&index, &late).await;
    stack
        .control()
        .add_fault(late_call("vector_stores.files.create"))
        .unwrap();
    let job = client.build(&index).await;
    freeze_amid_the_call(&stack, &frozen).await;
    client.unlink(&index, &late).await;
    let slow = client.upload("slow.md", &prose("slow", 50), None).await;
    client.link(&index, &slow).await;
    stack
        .control()
        .add_fault(hold_indexing("slow.md", "slow"))
        .unwrap();
    let _second = stack.worker("second");
    attached(&stack, 2 + 1).await;
    land(&stack, Effect::Attached, 2 + 1 + 1).await;
    stack.control().open_gate("slow");
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let names: Vec<String> = stack.control().state().stores[0]
        .files
        .iter()
        .map(|file| file.filename.to_string())
        .collect();
    assert!(
        !names.iter().any(|name| name == "late.md") && names.len() == 3,
        "{names:?}"
    );
    frozen.kill().await;
}

fn names(stack: &Stack, store: &str) -> Vec<String> {
    let stores = stack.control().state().stores;
    let store = stores.iter().find(|found| found.id.to_string() == store).unwrap();
    let mut names: Vec<String> = store.files.iter().map(|file| file.filename.to_string()).collect();
    names.sort();
    names
}

/// As above, but the build is over when the detach lands: the store is empty, and its index says `done` until the next build
/// looks. That no file is left to learn from makes no difference.
#[tokio::test]
async fn a_detach_that_lands_after_the_build_is_made_good_by_the_next() {
    let stack = Stack::start().await;
    let frozen = stack.worker("frozen");
    let client = &stack.client;
    let (index, files) = index_with(&stack, 1).await;
    let store = built(client, &index).await;
    stack
        .control()
        .add_fault(late_call("vector_stores.files.delete"))
        .unwrap();
    client
        .patch(
            &format!("/files/{}", files[0]),
            &json!({"chunking_strategy": fixed(200, 0)}),
        )
        .await
        .expect(200);
    let job = client.build(&index).await;
    freeze_amid_the_call(&stack, &frozen).await;
    let _second = stack.worker("second");
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(names(&stack, &store), ["page-0.md"]);
    stack.control().open_gate("late");
    eventually("the detach to land", LIMIT, || async {
        names(&stack, &store).is_empty().then_some(())
    })
    .await;
    assert_eq!(
        client.index(&index).await["indexing_status"],
        "done",
        "nobody has looked"
    );
    // What was learned of the server is too old to count.
    sqlx::query("UPDATE rag_provider_connections SET learned = NULL, updated_at = updated_at")
        .execute(&stack.database.pool)
        .await
        .unwrap();
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["output"]["unverified"], json!([]), "{job}");
    assert_eq!(names(&stack, &store), ["page-0.md"], "{job}");
    assert_no_orphans(&stack).await;
    frozen.kill().await;
}

/// A file that two indexes hold is unlinked from one whose worker is frozen with the attach on the wire: its copy stays, so the
/// late attach succeeds. `slow`: whether the build that has taken over is still at work then.
async fn late_attach(slow: bool) {
    let stack = Stack::start().await;
    let frozen = stack.worker("frozen");
    let client = &stack.client;
    let (index, _) = index_with(&stack, 2).await;
    let store = built(client, &index).await;
    let late = client.upload("late.md", &prose("late", 50), None).await;
    let other = client.create_index("other", "openai").await;
    client.link(&other, &late).await;
    built(client, &other).await;
    client.link(&index, &late).await;
    stack
        .control()
        .add_fault(late_call("vector_stores.files.create"))
        .unwrap();
    let job = client.build(&index).await;
    freeze_amid_the_call(&stack, &frozen).await;
    client.unlink(&index, &late).await;
    let mut expected = vec!["page-0.md", "page-1.md"];
    if slow {
        let slow = client.upload("slow.md", &prose("slow", 50), None).await;
        client.link(&index, &slow).await;
        expected.push("slow.md");
        stack
            .control()
            .add_fault(hold_indexing("slow.md", "slow"))
            .unwrap();
    }
    let _second = stack.worker("second");
    if slow {
        // Two pages, the late file in the other store, and the slow one.
        attached(&stack, 2 + 1 + 1).await;
        land(&stack, Effect::Attached, 2 + 1 + 1 + 1).await;
        stack.control().open_gate("slow");
    }
    let job = client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let attached_here = || {
        let made = effects(&stack, Effect::Attached);
        let here = |id: &rag_emulator::Id| id.to_string() == store;
        made.iter()
            .filter(|entry| entry.vector_store_id.as_ref().is_some_and(here))
            .count()
    };
    if slow {
        assert_eq!(
            attached_here(),
            4,
            "two pages, the slow file, and the late one by its first worker alone"
        );
    } else {
        stack.control().open_gate("late");
        eventually("the attach to land", LIMIT, || async {
            names(&stack, &store)
                .contains(&"late.md".to_owned())
                .then_some(())
        })
        .await;
        let job = client.finished(&client.build(&index).await, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    }
    assert_eq!(names(&stack, &store), expected);
    let search = format!("/indexes/{index}/search");
    let found = client.post(&search, &json!({"query": "late1"})).await.expect(200);
    assert!(!found.to_string().contains("late.md"), "{found}");
    assert_no_orphans(&stack).await;
    frozen.kill().await;
}

#[tokio::test]
async fn a_late_attach_of_a_file_that_is_still_at_the_provider_is_taken_out() {
    late_attach(true).await;
}

#[tokio::test]
async fn an_attach_that_lands_after_the_build_is_taken_out_by_the_next() {
    late_attach(false).await;
}
