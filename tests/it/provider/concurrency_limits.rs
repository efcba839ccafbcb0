//! How much a fleet has under way at a provider at the same time: open requests, by the connection's setting, and indexing
//! operations, by what the provider takes.

use std::time::Duration;

use rag_db::slots;
use rag_emulator::{Action, Effect, Emulator, LedgerQuery, Loss, Options, Profile, Rule, When};
use rag_tests::{PROVIDER_KEY, Stack, TestDatabase, eventually};
use serde_json::json;

use crate::fixtures::indexes::{fixed, prose};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);

/// Makes indexes of `files` files each, every file with a strategy of its own, and asks for all their builds at once.
async fn builds(stack: &Stack, provider: &str, indexes: usize, files: u32) -> Vec<String> {
    let client = &stack.client;
    let mut made = Vec::new();
    for i in 0..indexes {
        let index = client.create_index("handbook", provider).await;
        for n in 0..files {
            let text = prose(&format!("i{i}w{n}x"), 40);
            let name = format!("page-{i}-{n}.md");
            let file = client.upload(&name, &text, Some(fixed(200 + n, 50))).await;
            client.link(&index, &file).await;
        }
        made.push(index);
    }
    let mut jobs = Vec::new();
    for index in made {
        jobs.push(client.build(&index).await);
    }
    jobs
}

async fn all_done(stack: &Stack, jobs: &[String]) {
    for job in jobs {
        let job = stack.client.finished(job, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
        assert_eq!(job["attempts"], 0, "{job}");
    }
}

async fn limit_open_requests(stack: &Stack, limit: u32) {
    let own = json!({
        "auth_type": "api_key", "credentials": {"api_key": PROVIDER_KEY}, "max_concurrent_requests": limit,
    });
    stack.connect_with("openai", own).await;
}

fn fault(stack: &Stack, when: When, then: Action) {
    stack.control().add_fault(Rule { when, then }).unwrap();
}

#[tokio::test]
async fn a_fleet_never_has_more_requests_open_than_it_may() {
    const OPEN: u32 = 3;
    let stack = Stack::start().await;
    limit_open_requests(&stack, OPEN).await;
    // So that there is something to be at the same time.
    fault(&stack, When::default(), Action::Delay { ms: 25 });
    let _workers = [stack.worker("one"), stack.worker("two"), stack.worker("three")];
    let jobs = builds(&stack, "openai", 8, 4).await;
    all_done(&stack, &jobs).await;
    let rate = stack.control().rates().prefixes["*"];
    assert!(rate.total > 50, "{rate:?}");
    assert_eq!(rate.max_in_flight, 3, "{rate:?}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn the_permit_of_a_killed_worker_comes_back() {
    let stack = Stack::start().await;
    limit_open_requests(&stack, 1).await;
    let hanging = When {
        operation: Some("files.create".to_owned()),
        times: Some(1),
        ..When::default()
    };
    fault(&stack, hanging, Action::LoseAnswer { how: Loss::Hang });
    let killed = stack.worker("killed");
    let jobs = builds(&stack, "openai", 1, 2).await;
    let hung = || async { stack.control().faults()[0].fired.eq(&1).then_some(()) };
    eventually("the request that hangs", LIMIT, hung).await;
    let _second = stack.worker("second");
    // The worker lives: its permit is kept for longer than it was taken for, and nobody else calls.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(effects(&stack, Effect::FileCreated).len(), 1);
    killed.kill().await;
    all_done(&stack, &jobs).await;
    assert_eq!(
        effects(&stack, Effect::FileCreated).len(),
        3,
        "the first went up again: nobody heard of it"
    );
    assert_eq!(stack.control().rates().prefixes["*"].max_in_flight, 1);
    assert_no_orphans(&stack).await;
}

/// Two clients of one database.
#[tokio::test]
async fn a_permit_has_one_holder_until_it_is_released_or_expires() {
    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(200);
    let database = TestDatabase::new().await;
    let mut one = database.pool.acquire().await.unwrap();
    let mut other = database.pool.acquire().await.unwrap();
    slots::create(&mut one, "openai", 2).await.unwrap();
    slots::create(&mut other, "openai", 2).await.unwrap();
    let first = slots::take(&mut one, "openai", 2, 11, LONG)
        .await
        .unwrap()
        .unwrap();
    let second = slots::take(&mut other, "openai", 2, 22, SHORT)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(first.number, second.number);
    assert_eq!(slots::take(&mut one, "openai", 2, 33, LONG).await.unwrap(), None);
    assert_eq!(
        slots::take(&mut one, "yandex", 2, 33, LONG).await.unwrap(),
        None,
        "not made"
    );

    // Kept, it outlives the time that it was taken for; not kept, it is somebody else's.
    assert!(
        slots::keep(&mut other, "openai", second, SHORT * 3)
            .await
            .unwrap()
    );
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(slots::take(&mut one, "openai", 2, 33, LONG).await.unwrap(), None);
    tokio::time::sleep(SHORT * 2).await;
    assert!(!slots::keep(&mut other, "openai", second, LONG).await.unwrap());
    let third = slots::take(&mut one, "openai", 2, 33, LONG)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(third.number, second.number);
    // Its former holder cannot release it any more.
    slots::release(&mut other, "openai", second).await.unwrap();
    assert_eq!(
        slots::take(&mut other, "openai", 2, 44, LONG).await.unwrap(),
        None
    );

    slots::release(&mut one, "openai", first).await.unwrap();
    // A smaller limit counts from now on.
    assert_eq!(
        slots::take(&mut other, "openai", 0, 44, LONG).await.unwrap(),
        None
    );
    assert!(
        slots::take(&mut other, "openai", 2, 44, LONG)
            .await
            .unwrap()
            .is_some()
    );
}

/// Yandex indexes ten things at once and refuses an eleventh: three workers together never ask for it.
#[tokio::test]
async fn a_fleet_never_asks_for_more_indexing_than_the_provider_takes() {
    let options = Options {
        profile: Profile::Yandex,
        yandex_accepts_strategy: true,
        indexing_ms_base: 400,
        indexing_ms_per_kb: 0.0,
        ..Options::default()
    };
    let stack = Stack::builder()
        .emulator(Emulator::builder().options(options))
        .start()
        .await;
    stack.connect("yandex").await;
    let _workers = [stack.worker("one"), stack.worker("two"), stack.worker("three")];
    let jobs = builds(&stack, "yandex", 12, 3).await;
    all_done(&stack, &jobs).await;
    assert_eq!(effects(&stack, Effect::Attached).len(), 36);
    let refused: Vec<_> = stack
        .control()
        .ledger(&LedgerQuery::default())
        .into_iter()
        .filter(|entry| entry.status == Some(429))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert_no_orphans(&stack).await;
}
