//! What credentials are for and what becomes of them: changing the key that seals, while the service runs, and a provider
//! that does not take them.

use std::collections::BTreeMap;
use std::time::Duration;

use rag_emulator::{Action, Rule, When};
use rag_secrets::Keyring;
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::{Value, json};

use crate::build::index_with;

const LIMIT: Duration = Duration::from_secs(30);
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
    sqlx::query("UPDATE rag_provider_connections SET credentials_enc = ? WHERE id = 'sentralix'")
        .bind(legacy.to_string())
        .execute(&stack.database.pool)
        .await
        .unwrap();
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
            times: Some(1),
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

    let job = stack.client.finished(&job, LIMIT).await;
    assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    let row = stack
        .admin
        .get("/admin/providers/connections/openai")
        .await
        .expect(200);
    assert_eq!(row["last_error"], Value::Null, "{row}");
}
