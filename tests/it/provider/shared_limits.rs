//! What the processes of a fleet share about a provider: one access token, one request budget, one limit of indexing.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rag_emulator::{
    Action, Builder, Effect, Emulator, LedgerQuery, Options, Profile, RetryAfter, Rule, When,
};
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::json;

use crate::fixtures::indexes::{fixed, prose};
use crate::fixtures::ledger::{assert_no_orphans, effects};

const LIMIT: Duration = Duration::from_mins(1);
const PROVIDER_TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/providers/tests/it");

fn service_account_key() -> String {
    std::fs::read_to_string(Path::new(PROVIDER_TESTS).join("service-account-key.json")).unwrap()
}

fn iam() -> Builder {
    Emulator::builder().options(Options {
        profile: Profile::Yandex,
        iam_public_key: Some(Path::new(PROVIDER_TESTS).join("service-account-key.pub.pem")),
        iam_key_id: Some("ajeb4canarykeyid0000".to_owned()),
        iam_service_account_id: Some("ajeg3serviceaccount0".to_owned()),
        indexing_ms_base: 5,
        indexing_ms_per_kb: 0.0,
        ..Options::default()
    })
}

/// Makes `indexes` of `files` files each, builds them all at once and waits for the last.
async fn build_all(stack: &Stack, provider: &str, indexes: usize, files: usize) {
    let client = &stack.client;
    let mut jobs = Vec::new();
    for i in 0..indexes {
        let index = client.create_index("handbook", provider).await;
        for n in 0..files {
            let text = prose(&format!("i{i}w{n}x"), 40);
            let file = client.upload(&format!("page-{i}-{n}.md"), &text, None).await;
            client.link(&index, &file).await;
        }
        jobs.push(index);
    }
    for index in &mut jobs {
        *index = client.build(index).await;
    }
    for job in jobs {
        let job = client.finished(&job, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
        assert_eq!(job["attempts"], 0, "{job}");
    }
}

fn tokens_issued(stack: &Stack) -> usize {
    let entries = stack.control().ledger(&LedgerQuery::default());
    entries
        .iter()
        .filter(|entry| entry.effect == Effect::TokenIssued)
        .count()
}

#[tokio::test]
async fn two_workers_get_one_token_for_a_service_account() {
    let stack = Stack::builder()
        .emulator(iam())
        .setting_of_emulator("YC_IAM_URL", |emulator| {
            format!("{}/iam/v1/tokens", emulator.origin())
        })
        .start()
        .await;
    let credentials = json!({"service_account_key": service_account_key(), "folder_id": "b1gfolder"});
    stack
        .connect_with(
            "yandex",
            json!({"auth_type": "service_account", "credentials": credentials}),
        )
        .await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    build_all(&stack, "yandex", 6, 2).await;
    assert_eq!(tokens_issued(&stack), 1);
    assert_no_orphans(&stack).await;
    let row = stack
        .admin
        .get("/admin/providers/connections/yandex")
        .await
        .expect(200);
    assert_eq!(row["has_token"], true, "{row}");
    assert!(row["token_expires_at"].is_string(), "{row}");

    // It is stored sealed, and a refused one is replaced once.
    let stored: String =
        sqlx::query_scalar("SELECT token_enc FROM rag_provider_connections WHERE id = 'yandex'")
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
    assert!(!stored.contains("t1.") && stored.contains("\"kid\""), "{stored}");
    assert!(!stack.logs().contains("t1."), "a token in a log");
}

#[tokio::test]
async fn the_environment_supplies_what_the_row_lacks() {
    let key = STANDARD.encode(service_account_key());
    let stack = Stack::builder()
        .emulator(iam())
        .setting("YC_SA_KEY_JSON_B64", &key)
        .setting("YC_FOLDER_ID", "b1gfromtheenvironment")
        .setting_of_emulator("YC_SA_KEY_ORIGINS", rag_emulator::Emulator::origin)
        .setting_of_emulator("YC_IAM_URL", |emulator| {
            format!("{}/iam/v1/tokens", emulator.origin())
        })
        .start()
        .await;
    stack
        .connect_with("yandex", json!({"auth_type": "service_account"}))
        .await;
    let row = stack
        .admin
        .get("/admin/providers/connections/yandex")
        .await
        .expect(200);
    assert_eq!(row["has_credentials"], false, "{row}");
    let _worker = stack.worker("one");
    build_all(&stack, "yandex", 1, 2).await;
    assert_eq!(tokens_issued(&stack), 1);
}

/// An admin of connections must not be able to send the operator's key to a host of their own.
#[tokio::test]
async fn the_environments_key_goes_to_no_other_host() {
    let key = STANDARD.encode(service_account_key());
    let elsewhere = iam().api_key(PROVIDER_KEY).start().await.unwrap();
    let stack = Stack::builder()
        .emulator(iam())
        .setting("YC_SA_KEY_JSON_B64", &key)
        .setting_of_emulator("YC_SA_KEY_ORIGINS", Emulator::origin)
        .setting_of_emulator("YC_IAM_URL", |emulator| {
            format!("{}/iam/v1/tokens", emulator.origin())
        })
        .start()
        .await;
    let path = "/admin/providers/connections/yandex";
    let moved = json!({"auth_type": "service_account", "base_url": elsewhere.url()});
    let refused = stack.admin.post(path, &moved).await.expect(422);
    assert!(refused.to_string().contains("YC_SA_KEY_ORIGINS"), "{refused}");
    stack
        .connect_with("yandex", json!({"auth_type": "service_account"}))
        .await;
    let refused = stack
        .admin
        .patch(path, &json!({"base_url": elsewhere.url()}))
        .await
        .expect(422);
    assert!(refused.to_string().contains("YC_SA_KEY_ORIGINS"), "{refused}");

    // A row of before there was such a rule.
    sqlx::query("UPDATE rag_provider_connections SET base_url = ? WHERE id = 'yandex'")
        .bind(elsewhere.url())
        .execute(&stack.database.pool)
        .await
        .unwrap();
    let _worker = stack.worker("worker");
    let client = &stack.client;
    let index = client.create_index("handbook", "yandex").await;
    let file = client.upload("page.md", &prose("w", 40), None).await;
    client.link(&index, &file).await;
    let job = client.build(&index).await;
    let waiting = eventually("the build to wait", LIMIT, || async {
        let job = client.job(&job).await;
        job.to_string().contains("YC_SA_KEY_ORIGINS").then_some(job)
    })
    .await;
    assert_eq!(waiting["attempts"], 0, "{waiting}");
    assert_eq!(tokens_issued(&stack), 0);
    assert!(
        elsewhere.control().rates().prefixes.is_empty(),
        "nothing was sent there"
    );
}

#[tokio::test]
async fn a_fleet_keeps_to_its_request_limit() {
    const LIMIT_PER_SECOND: u32 = 20;
    let stack = Stack::start().await;
    let own = json!({
        "auth_type": "api_key", "credentials": {"api_key": PROVIDER_KEY},
        "max_requests_per_second": LIMIT_PER_SECOND,
    });
    stack.connect_with("openai", own).await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    let begin = std::time::Instant::now();
    build_all(&stack, "openai", 8, 12).await;
    let rate = stack.control().rates().prefixes["*"];
    assert!(rate.total > 110, "{rate:?}");
    assert!(rate.max_per_second <= 22, "{rate:?}");
    // And uses it: held back no longer than the limit makes it.
    let spent = begin.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let needed = rate.total as f64 / f64::from(LIMIT_PER_SECOND);
    assert!(spent < needed * 3.0 + 5.0, "{spent} s for {rate:?}");
    assert_no_orphans(&stack).await;
}

#[tokio::test]
async fn one_workers_429_makes_all_back_off() {
    let emulator = Emulator::builder().indexing(5, 0.0).ledger_reads();
    let stack = Stack::builder().emulator(emulator).start().await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    build_all(&stack, "openai", 2, 1).await;
    let limited = Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            times: Some(1),
            ..When::default()
        },
        then: Action::RateLimit {
            retry_after: Some(RetryAfter::Seconds(6)),
        },
    };
    stack.control().add_fault(limited).unwrap();
    let client = &stack.client;
    let mut jobs = Vec::new();
    for i in 0..6 {
        let index = client.create_index("handbook", "openai").await;
        let file = client
            .upload(&format!("late-{i}.md"), &prose(&format!("l{i}x"), 40), None)
            .await;
        client.link(&index, &file).await;
        jobs.push(client.build(&index).await);
    }
    for job in jobs {
        let job = client.finished(&job, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
        assert_eq!(job["attempts"], 0, "{job}");
    }
    let ledger = stack.control().ledger(&LedgerQuery::default());
    let refused = ledger.iter().find(|entry| entry.status == Some(429)).unwrap();
    let after = |seconds| refused.at + chrono::TimeDelta::seconds(seconds);
    // What was on its way, and what had looked half a second before, may have come yet.
    let called: Vec<_> = ledger
        .iter()
        .filter(|entry| (after(3)..after(6)).contains(&entry.at) && &*entry.operation != "indexing")
        .collect();
    assert!(called.is_empty(), "calls while the pause lasts: {called:#?}");
}

/// Yandex indexes ten batches at once and refuses an eleventh.
#[tokio::test]
async fn attaching_waits_until_the_provider_may_index_more() {
    let options = Options {
        profile: Profile::Yandex,
        yandex_accepts_strategy: true,
        indexing_ms_base: 700,
        indexing_ms_per_kb: 0.0,
        ..Options::default()
    };
    let stack = Stack::builder()
        .emulator(Emulator::builder().options(options))
        .start()
        .await;
    stack.connect("yandex").await;
    let _worker = stack.worker("one");
    let client = &stack.client;
    let index = client.create_index("handbook", "yandex").await;
    for n in 0..14 {
        let text = prose(&format!("w{n}x"), 40);
        let file = client
            .upload(&format!("page-{n}.md"), &text, Some(fixed(200 + n, 50)))
            .await;
        client.link(&index, &file).await;
    }
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    assert_eq!(effects(&stack, Effect::Attached).len(), 14);
    assert!(
        !stack.logs().contains("concurrent indexing operations exceeded"),
        "refused"
    );
    assert_no_orphans(&stack).await;
}
