//! Workers that are killed or stopped in the middle of a build.

use std::time::{Duration, Instant};

use rag_emulator::{Action, Effect, Emulator, Loss, Rule, When};
use rag_tests::{Stack, eventually};

use crate::fixtures::indexes::index_with;
use crate::fixtures::ledger::{assert_no_orphans, effects, spare_copies};

const LIMIT: Duration = Duration::from_mins(1);
const FILES: usize = 12;

fn slow() -> rag_emulator::Builder {
    Emulator::builder().indexing(300, 0.0)
}

fn on(operation: &str, nth: u64, then: Action) -> Rule {
    let when = When {
        operation: Some(operation.to_owned()),
        nth: Some(nth),
        times: Some(1),
        ..When::default()
    };
    Rule { when, then }
}

/// Kills the worker when the provider has seen `count` effects of a kind, starts another, and demands a clean end.
async fn survives_kill_after(effect: Effect, count: usize) {
    let stack = Stack::builder().emulator(slow()).start().await;
    // Time to be killed in: without it a build is over in the blink of an eye.
    let delay = Rule {
        when: When {
            method: Some("POST".to_owned()),
            ..When::default()
        },
        then: Action::Delay { ms: 60 },
    };
    stack.control().add_fault(delay).unwrap();
    let worker = stack.worker("killed");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    eventually(&format!("{count} × {effect:?}"), LIMIT, || async {
        (effects(&stack, effect).len() >= count).then_some(())
    })
    .await;
    worker.kill().await;
    stack.control().clear_faults();

    let _second = stack.worker("second");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        job["attempts"], 0,
        "a killed worker is no failure of the job: {job}"
    );
    assert_eq!(effects(&stack, Effect::StoreCreated).len(), 1);
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        FILES + spare_copies(&stack).await.len(),
        "each file went up once, or its answer was lost"
    );
    assert_eq!(
        effects(&stack, Effect::Attached).len(),
        FILES,
        "each file was attached once"
    );
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_kill_after_the_store_was_made() {
    survives_kill_after(Effect::StoreCreated, 1).await;
}

#[tokio::test]
async fn a_kill_amid_the_uploads() {
    survives_kill_after(Effect::FileCreated, FILES / 2).await;
}

#[tokio::test]
async fn a_kill_after_the_last_upload() {
    survives_kill_after(Effect::FileCreated, FILES).await;
}

#[tokio::test]
async fn a_kill_while_the_provider_indexes() {
    survives_kill_after(Effect::Attached, FILES).await;
}

/// The provider does what it was asked, and the worker never hears of it: the answer hangs until the worker is killed.
async fn survives_a_lost_answer(operation: &str, nth: u64, effect: Effect, count: usize) {
    let stack = Stack::builder().emulator(slow()).start().await;
    stack
        .control()
        .add_fault(on(operation, nth, Action::LoseAnswer { how: Loss::Hang }))
        .unwrap();
    let worker = stack.worker("killed");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    eventually("the effect", LIMIT, || async {
        (effects(&stack, effect).len() >= count).then_some(())
    })
    .await;
    worker.kill().await;

    let _second = stack.worker("second");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(
        effects(&stack, Effect::StoreCreated).len(),
        1,
        "the store is adopted, not made again"
    );
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        FILES + spare_copies(&stack).await.len(),
        "only a file whose answer was lost went up again"
    );
    assert_eq!(effects(&stack, Effect::Attached).len(), FILES);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_store_whose_creation_was_not_confirmed_is_adopted() {
    survives_a_lost_answer("vector_stores.create", 1, Effect::StoreCreated, 1).await;
}

#[tokio::test]
async fn a_file_whose_upload_was_not_confirmed_goes_up_again() {
    survives_a_lost_answer("files.create", 3, Effect::FileCreated, FILES / 2).await;
}

#[tokio::test]
async fn a_batch_whose_creation_was_not_confirmed_is_adopted() {
    survives_a_lost_answer("vector_stores.file_batches.create", 1, Effect::Attached, FILES).await;
}

/// The next worker looks for the batch in a store that the provider does not show everywhere yet.
#[tokio::test]
async fn a_batch_in_a_store_that_is_not_visible_yet_is_waited_for() {
    let stack = Stack::builder().emulator(slow()).start().await;
    let lost = Action::LoseAnswer { how: Loss::Hang };
    stack
        .control()
        .add_fault(on("vector_stores.file_batches.create", 1, lost))
        .unwrap();
    let worker = stack.worker("killed");
    let (index, _) = index_with(&stack, 3).await;
    let job = stack.client.build(&index).await;
    eventually("the batch", LIMIT, || async {
        (effects(&stack, Effect::Attached).len() == 3).then_some(())
    })
    .await;
    worker.kill().await;
    stack.control().clear_faults();
    let hidden = Rule {
        when: When {
            operation: Some("vector_stores.files.list".to_owned()),
            ..When::default()
        },
        then: Action::HideNew { seconds: 3600.0 },
    };
    stack.control().add_fault(hidden).unwrap();
    let _second = stack.worker("second");
    eventually("a listing of the store while it is hidden", LIMIT, || async {
        (stack.control().faults()[0].fired > 1).then_some(())
    })
    .await;
    stack.control().clear_faults();
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(effects(&stack, Effect::Attached).len(), 3);
}

#[tokio::test]
async fn a_stopped_worker_hands_its_build_over_at_once() {
    const MANY: usize = 40;
    // Nobody takes over because a lease has run out.
    let stack = Stack::builder()
        .emulator(slow())
        .setting("QUEUE_LEASE_SECONDS", "60")
        .setting("WORKER_GRACE_SECONDS", "60")
        .start()
        .await;
    let delay = Rule::on("files.create", Action::Delay { ms: 300 });
    stack.control().add_fault(delay).unwrap();
    let mut first = stack.worker("first");
    let (index, _) = index_with(&stack, MANY).await;
    let job = stack.client.build(&index).await;
    eventually("some uploads", LIMIT, || async {
        (effects(&stack, Effect::FileCreated).len() >= 2).then_some(())
    })
    .await;
    let second = stack.worker("second");
    eventually("the other worker to listen", LIMIT, || async {
        second.log().contains("health and metrics").then_some(())
    })
    .await;

    let asked = Instant::now();
    first.signal("TERM").await;
    assert!(
        first.wait(Duration::from_secs(20)).await.success(),
        "{}",
        first.log()
    );
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "what was on the wire takes a moment, no more"
    );
    let uploads = effects(&stack, Effect::FileCreated).len();
    assert!(uploads < MANY, "it stopped in the middle");
    eventually("the other worker to go on", Duration::from_secs(10), || async {
        (effects(&stack, Effect::FileCreated).len() > uploads).then_some(())
    })
    .await;

    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(job["attempts"], 0, "{job}");
    assert_eq!(effects(&stack, Effect::FileCreated).len(), MANY);
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn a_worker_that_slept_past_its_lease_writes_nothing_more() {
    let stack = Stack::builder().emulator(slow()).start().await;
    let delay = Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            ..When::default()
        },
        then: Action::Delay { ms: 100 },
    };
    stack.control().add_fault(delay).unwrap();
    let sleeper = stack.worker("sleeper");
    let (index, _) = index_with(&stack, FILES).await;
    let job = stack.client.build(&index).await;
    eventually("some uploads", LIMIT, || async {
        (effects(&stack, Effect::FileCreated).len() >= 2).then_some(())
    })
    .await;
    sleeper.signal("STOP").await;
    let _second = stack.worker("second");
    let job = stack.client.finished(&job, LIMIT).await;
    sleeper.signal("CONT").await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let before = stack.client.index(&index).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        stack.client.index(&index).await,
        before,
        "the sleeper wrote nothing"
    );
    assert_no_orphans(&stack).await;
}
