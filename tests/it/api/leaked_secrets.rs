//! The search for leaked secrets finds one wherever a program could put it.

use rag_tests::{PROVIDER_KEY, Stack};
use serde_json::json;

/// what the harness looks at when a test ends, with a secret put there by hand.
#[tokio::test]
async fn a_planted_secret_is_found_in_database_and_log() {
    let stack = Stack::start().await;
    assert_eq!(stack.leaks().await, Vec::<String>::new());
    let pool = &stack.database.pool;
    for (table, plant) in [
        (
            "rag_provider_connections",
            "UPDATE rag_provider_connections SET last_error = ?",
        ),
        (
            "rag_provider_connections",
            "UPDATE rag_provider_connections SET credentials_enc = JSON_OBJECT('api_key', ?)",
        ),
        ("rag_api_keys", "UPDATE rag_api_keys SET name = ?"),
    ] {
        let sealed = json!({"sealed": true}).to_string();
        let clean = "UPDATE rag_provider_connections SET last_error = NULL, credentials_enc = ?";
        sqlx::query(plant).bind(PROVIDER_KEY).execute(pool).await.unwrap();
        let leaks = stack.leaks().await;
        assert!(
            !leaks.is_empty()
                && leaks
                    .iter()
                    .all(|leak| leak.starts_with(&format!("table {table}: "))),
            "{plant}: {leaks:?}"
        );
        sqlx::query(clean).bind(sealed).execute(pool).await.unwrap();
        sqlx::query("UPDATE rag_api_keys SET name = 'it'")
            .execute(pool)
            .await
            .unwrap();
    }
    assert_eq!(stack.leaks().await, Vec::<String>::new());

    // A program that prints its database's address, password and all.
    let log = stack.plant_log("leaky", &stack.database.uri);
    let leaks = stack.leaks().await;
    assert!(leaks.len() == 1 && leaks[0].starts_with("a log: "), "{leaks:?}");
    std::fs::remove_file(log).unwrap();
}

/// An answer with a secret in it never gets past the client of these tests.
#[tokio::test]
#[should_panic(expected = "a secret leaked into an answer")]
async fn a_secret_in_an_answer_is_found() {
    let stack = Stack::start().await;
    let body = json!({"name": PROVIDER_KEY, "provider_type": "openai"});
    stack.client.post("/indexes", &body).await;
}
