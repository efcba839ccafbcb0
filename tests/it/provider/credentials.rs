//! What credentials are for and what becomes of them: changing the key that seals, while the service runs, and a provider
//! that does not take them.

use std::collections::BTreeMap;
use std::time::Duration;

use rag_emulator::{Action, Rule, When};
use rag_secrets::Keyring;
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::indexes::index_with;
use crate::fixtures::jobs::retry_now;

const LIMIT: Duration = Duration::from_mins(1);
const OLD: &str = "correct horse battery staple";
const NEW: &str = "a brand new key of these tests";
/// `{"api_key":"sk-legacy"}`, sealed with `OLD` as the service's predecessor did.
const LEGACY: &str = "gAAAAABo53gAJOcMYjCG-PSRLswWexWKWUwX6WunvNskrifkA-ZswvXowDhl2dmp94Tnlhndk3hFZQYAiKthD4iuhWsg24iKSQQLvRwAMY5irrWZcFMruJQ=";

async fn sealed(stack: &Stack, provider: &str) -> Value {
    let text: String =
        sqlx::query_scalar("SELECT credentials_enc FROM rag_provider_connections WHERE id = ?")
            .bind(provider)
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn secrets_are_sealed_anew_while_the_service_runs() {
    let both = format!("{OLD},{NEW}");
    let stack = Stack::builder()
        .setting("PROVIDER_SECRETS_KEY", &both)
        .start()
        .await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    let client = &stack.client;
    client.finished(&client.build(&index).await, LIMIT).await;

    stack.connect("sentralix").await;
    let legacy = json!({"v": 1, "alg": "fernet-sha256", "token": LEGACY});
    put_sealed(&stack, "sentralix", &legacy).await;
    // The next write of the row seals it with the first key.
    let path = "/admin/providers/connections/sentralix";
    stack
        .admin
        .patch(path, &json!({"is_enabled": true}))
        .await
        .expect(200);
    let ring = Keyring::from_setting(OLD).unwrap();
    let anew = sealed(&stack, "sentralix").await;
    assert!(ring.is_current(&anew), "{anew}");
    let opened = ring.open_json("sentralix", "credentials_enc", &anew).unwrap();
    assert_eq!(opened, json!({"api_key": "sk-legacy"}));
    put_sealed(&stack, "sentralix", &legacy).await;
    let before = sealed(&stack, "openai").await;

    let new_first = format!("{NEW},{OLD}");
    let keys = [("PROVIDER_SECRETS_KEY", new_first.as_str())];
    let printed = stack.command(&["secrets", "reseal"], &keys).await;
    assert!(printed.starts_with("2 sealed anew"), "{printed}");
    let ring = Keyring::from_setting(NEW).unwrap();
    let after = sealed(&stack, "openai").await;
    assert!(ring.is_current(&after) && !ring.is_current(&before));
    let legacy = sealed(&stack, "sentralix").await;
    let opened = ring.open_json("sentralix", "credentials_enc", &legacy).unwrap();
    assert_eq!(opened, json!({"api_key": "sk-legacy"}));

    let again = stack.command(&["secrets", "reseal"], &keys).await;
    assert!(
        again.starts_with("0 sealed anew") && again.contains("2 were so already"),
        "{again}"
    );

    let (index, _) = index_with(&stack, 1).await;
    let job = client.finished(&client.build(&index).await, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
}

/// a worker that is not let in says so in the connection's row, and takes it back once it is let in again.
#[tokio::test]
async fn a_connection_that_is_refused_says_so_until_it_is_not() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let (index, _) = index_with(&stack, 1).await;
    let refusal = json!({"error": {"message": format!("Incorrect API key provided: {PROVIDER_KEY}")}});
    let rule = Rule {
        when: When {
            operation: Some("files.create".to_owned()),
            ..When::default()
        },
        then: Action::Respond {
            status: 401,
            headers: BTreeMap::new(),
            body: Some(refusal),
            text: None,
            after_effect: false,
        },
    };
    stack.control().add_fault(rule).unwrap();
    let job = stack.client.build(&index).await;
    let refused = || async {
        let row = stack
            .admin
            .get("/admin/providers/connections/openai")
            .await
            .expect(200);
        let error = row["last_error"].as_str()?;
        assert!(error.starts_with("upload_file: unauthorized (HTTP 401"), "{row}");
        Some(())
    };
    eventually("the refusal in the connection's row", LIMIT, refused).await;
    let seen = stack.client.get("/providers/openai/health").await.expect(200);
    assert_eq!(seen["status"], "failing", "{seen}");

    stack.control().clear_faults();
    retry_now(&stack.client, &job).await;
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let row = stack
        .admin
        .get("/admin/providers/connections/openai")
        .await
        .expect(200);
    assert_eq!(row["last_error"], Value::Null, "{row}");
}

async fn put_sealed(stack: &Stack, provider: &str, envelope: &Value) {
    sqlx::query(
        "UPDATE rag_provider_connections SET credentials_enc = ?, updated_at = UTC_TIMESTAMP(6) WHERE id = ?",
    )
    .bind(envelope.to_string())
    .bind(provider)
    .execute(&stack.database.pool)
    .await
    .unwrap();
}

/// The connection's `last_error`, once it says this.
async fn told(stack: &Stack, words: &str) {
    let path = "/admin/providers/connections/openai";
    let said = || async {
        let row = stack.admin.get(path).await.expect(200);
        row["last_error"].as_str()?.contains(words).then_some(())
    };
    eventually(&format!("the connection to say: {words}"), LIMIT, said).await;
}

/// whatever is wrong with a sealed value is named in `last_error` and by the health check; nothing panics, and work
/// goes on once it is mended.
#[tokio::test]
async fn credentials_that_do_not_open_are_told_and_break_nothing() {
    let stack = Stack::start().await;
    stack.connect("sentralix").await;
    let genuine = sealed(&stack, "openai").await;
    let mut flipped = genuine.clone();
    let text = genuine["ct"].as_str().unwrap();
    let other = if text.starts_with('A') { "B" } else { "A" };
    flipped["ct"] = json!(format!("{other}{}", &text[1..]));
    let foreign = Keyring::from_setting("another key than the service has")
        .unwrap()
        .seal_json("openai", "credentials_enc", &json!({"api_key": PROVIDER_KEY}))
        .unwrap();
    let cases = [
        (sealed(&stack, "sentralix").await, "belongs to another provider"),
        (flipped, "was changed"),
        (foreign, "which PROVIDER_SECRETS_KEY does not hold"),
        (json!({"v": 1, "ct": "no envelope"}), "damaged"),
        (json!({"v": 99}), "unknown version 99"),
    ];
    let health = "/admin/providers/openai/health";
    for (envelope, words) in &cases {
        put_sealed(&stack, "openai", envelope).await;
        let found = stack.admin.get(health).await.expect(200);
        assert_eq!(found["status"], "failing", "{words}: {found}");
        assert!(
            found["error"].as_str().unwrap().contains(words),
            "{words}: {found}"
        );
        told(&stack, words).await;
    }
    put_sealed(&stack, "openai", &genuine).await;
    assert_eq!(stack.admin.get(health).await.expect(200)["status"], "ok");

    // A worker without the key says so, and the job waits for one that has it.
    let (index, _) = index_with(&stack, 1).await;
    let keyless = stack.worker_with("keyless", &[("PROVIDER_SECRETS_KEY", "")]);
    let job = stack.client.build(&index).await;
    told(&stack, "PROVIDER_SECRETS_KEY is not set").await;
    keyless.kill().await;
    let _worker = stack.worker("worker");
    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(
        (&job["output"]["indexing_status"], &job["attempts"]),
        (&json!("done"), &json!(0)),
        "{job}"
    );
    assert!(!stack.logs().contains("panicked"));
}
