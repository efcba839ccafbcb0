//! Random faults, kills and edits, for as long as is wanted: whatever happens, nothing of strangers is touched or served,
//! nothing of one tenant reaches another, no old version stays, and when it is quiet our stores hold exactly what they should.
//!
//! Two tenants and, where the account is shared, a stranger with a thousand files of the same names, and all texts have the
//! same size. Ten seconds in the ordinary run; `cargo xtask faults --minutes 60` goes on for an hour. The seed decides what
//! is tried in which order, not how the processes race.
//!
//! | module | what |
//! |---|---|
//! | `world` | what the tenants have, and their edits |
//! | `strangers` | the others on the account |
//! | `checks` | what must hold |

mod checks;
mod strangers;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rag_emulator::{Action, Emulator, Loss, RetryAfter, Rule, When};
use rag_tests::{PROVIDER_KEY, Program, Stack};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::fixtures::jobs::search_orphans;
use strangers::Strangers;
use world::World;

const WORKERS: usize = 2;
const DEFAULT_SECONDS: u64 = 10;

/// A number from the environment, which `cargo xtask faults` sets.
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}

#[tokio::test]
async fn beside_strangers_with_our_names_and_sizes() {
    run(false).await;
}

#[tokio::test]
async fn on_an_account_of_our_own() {
    run(true).await;
}

async fn run(exclusive: bool) {
    let seed = setting("RANDOM_FAULTS_SEED").unwrap_or_else(|| rand::rng().random());
    let seconds = setting("RANDOM_FAULTS_SECONDS").unwrap_or(DEFAULT_SECONDS);
    println!("random faults for {seconds} s, exclusive: {exclusive}, RANDOM_FAULTS_SEED={seed}");
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(20, 0.0).allow_content())
        .setting("ORPHANS_MIN_AGE_SECONDS", "2")
        // Also bounds how long an attach that a gateway lost is waited for.
        .setting("BUILD_INDEXING_TIMEOUT_SECONDS", "20")
        .start()
        .await;
    let connection = json!({
        "auth_type": "api_key", "credentials": {"api_key": PROVIDER_KEY}, "exclusive": exclusive,
    });
    stack.connect_with("openai", connection).await;
    let mut random = StdRng::seed_from_u64(seed);
    let strangers = if exclusive {
        None
    } else {
        Some(Strangers::arrive(&stack).await)
    };
    let mut world = World::begin(&stack, &mut random).await;
    let mut fleet: Vec<Program> = (0..WORKERS)
        .map(|n| stack.worker(&format!("first-{n}")))
        .collect();
    let (mut kills, mut steps) = (0, 0);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        steps += 1;
        match random.random_range(0..20_u32) {
            0 => {
                fleet.remove(random.random_range(0..WORKERS)).kill().await;
                kills += 1;
                fleet.push(stack.worker(&format!("after-{kills}")));
            }
            1..=5 => {
                stack.control().add_fault(fault(&mut random)).unwrap();
            }
            6 => stack.control().clear_faults(),
            7 => {
                let mode = if random.random_bool(0.5) {
                    "delete"
                } else {
                    "report"
                };
                stack
                    .admin
                    .post(
                        &format!("/admin/providers/openai/orphans?mode={mode}"),
                        &json!({}),
                    )
                    .await;
            }
            8 => {
                if strangers.is_some() {
                    Strangers::come(&stack, &mut random).await;
                }
            }
            9..=11 => world.search(&stack, &mut random).await,
            _ => world.edit(&stack, &mut random).await,
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
    }
    stack.control().clear_faults();
    println!("{steps} steps, {kills} kills; now it gets quiet");
    world.settle(&stack).await;
    checks::stores_are_exact(&stack, &world).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = search_orphans(&stack, "openai", "delete", &json!({})).await;
    world::quiet(&stack).await;
    let spare = checks::copies_are_exact(&stack, &world).await;
    if let Some(strangers) = &strangers {
        checks::nobody_was_touched(&stack, strangers);
    } else {
        assert_eq!(spare, 0, "every spare copy was proven by its bytes: {report}");
    }
    world.search_all(&stack).await;
    println!("{} uploads, {spare} spare copies left", checks::uploads(&stack));
}

/// Something that happens to a few requests, or to some of them until the faults are cleared.
fn fault(random: &mut StdRng) -> Rule {
    const OPERATIONS: [&str; 12] = [
        "files.create",
        "files.create",
        "files.create",
        "files.list",
        "files.delete",
        "files.content",
        "vector_stores.create",
        "vector_stores.delete",
        "vector_stores.file_batches.create",
        "vector_stores.files.create",
        "vector_stores.files.delete",
        "vector_stores.files.list",
    ];
    let operation = OPERATIONS[random.random_range(0..OPERATIONS.len())];
    let when = When {
        operation: Some(operation.to_owned()),
        times: Some(random.random_range(1..4)),
        nth: Some(random.random_range(1..4)),
        ..When::default()
    };
    Rule {
        when,
        then: action(random),
    }
}

fn action(random: &mut StdRng) -> Action {
    let how = if random.random_bool(0.5) {
        Loss::Reset
    } else {
        Loss::Close
    };
    match random.random_range(0..9_u32) {
        0 => Action::LoseRequest { how },
        1 | 2 => Action::LoseAnswer { how },
        3 => Action::RateLimit {
            retry_after: random.random_bool(0.5).then_some(RetryAfter::Milliseconds(300)),
        },
        4 => Action::TruncateJson,
        5 => Action::ResetMidBody,
        6 => Action::Delay {
            ms: random.random_range(50..1500),
        },
        _ => Action::Respond {
            status: [500, 502, 503, 504][random.random_range(0..4)],
            headers: BTreeMap::new(),
            body: None,
            text: None,
            after_effect: random.random_bool(0.5),
        },
    }
}
