//! connections to providers. Secrets go in and never come out.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::harness::Api;

const CONNECTIONS: &str = "/api/v1/admin/providers/connections";
const OPENAI: &str = "/api/v1/admin/providers/connections/openai";

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn credentials_are_sealed_and_never_shown(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let body = json!({"auth_type": "api_key", "credentials": {"api_key": "sk-c4n4ry-hunter2"}});
    let made = api.post(OPENAI, &body).await;
    let shown = made.expect(201);
    assert_eq!(
        (&shown["has_credentials"], &shown["is_enabled"]),
        (&json!(true), &json!(true))
    );
    let again = api.post(OPENAI, &body).await;
    again.expect(200);
    let list = api.get(CONNECTIONS).await;
    assert_eq!(list.expect(200)["items"].as_array().unwrap().len(), 1);
    for answer in [
        made,
        again,
        list,
        api.get(OPENAI).await,
        api.get("/api/v1/providers").await,
    ] {
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("hunter2"));
    }
    let stored: String =
        sqlx::query_scalar("SELECT CAST(credentials_enc AS CHAR) FROM rag_provider_connections")
            .fetch_one(&api.db)
            .await
            .unwrap();
    assert!(!stored.contains("hunter2"), "{stored}");
    api.call("DELETE", OPENAI).send().await.expect(204);
    api.call("DELETE", OPENAI)
        .send()
        .await
        .expect_problem(404, "not-found");
    api.get(OPENAI).await.expect_problem(404, "not-found");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn bad_connections_are_refused_by_the_providers_rules(pool: MySqlPool) {
    let api = Api::new(pool).await;
    for (body, field) in [
        (json!({"auth_type": "magic"}), "auth_type"),
        (json!({"auth_type": "api_key"}), "credentials.api_key"),
        (
            json!({"auth_type": "api_key", "credentials": {"api_key": 1}}),
            "credentials.api_key",
        ),
        (
            json!({"auth_type": "api_key", "credentials": {"api_key": "k-c4n4ry", "pin": "1"}}),
            "credentials.pin",
        ),
        (
            json!({"auth_type": "api_key", "credentials": "k-c4n4ry"}),
            "credentials",
        ),
        (
            json!({"auth_type": "api_key", "credentials": {"api_key": "k-c4n4ry"}, "base_url": "ftp://x"}),
            "base_url",
        ),
        (
            json!({"auth_type": "api_key", "credentials": {"api_key": "k-c4n4ry"}, "base_url": "https://169.254.169.254/"}),
            "base_url",
        ),
        (
            json!({"auth_type": "api_key", "credentials": {"api_key": "k-c4n4ry"}, "max_concurrent_requests": 0}),
            "max_concurrent_requests",
        ),
        (json!({"auth_type": "api_key", "colour": "red"}), "colour"),
    ] {
        let answer = api.post(OPENAI, &body).await;
        answer.expect_problem(422, "validation-failed");
        assert_eq!(answer.fields(), [field]);
    }
    let body = json!({"auth_type": "none"});
    api.post(&format!("{CONNECTIONS}/acme"), &body)
        .await
        .expect_problem(404, "not-found");
    assert_eq!(api.count("rag_provider_connections").await, 0);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn credentials_do_not_follow_to_another_host(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let patch = |body: Value| api.call("PATCH", OPENAI).json(&body).send();
    sqlx::query("UPDATE rag_provider_connections SET last_error = 'x', token_enc = '{}'")
        .execute(&api.db)
        .await
        .unwrap();
    let toggled = patch(json!({"is_enabled": false})).await.expect(200);
    //
    assert_eq!(
        (
            &toggled["is_enabled"],
            &toggled["last_error"],
            &toggled["has_credentials"]
        ),
        (&json!(false), &json!(null), &json!(true))
    );
    let same_host = patch(json!({"base_url": "https://api.openai.com/v2"}))
        .await
        .expect(200);
    assert_eq!(same_host["has_credentials"], true);
    let moved = patch(json!({"base_url": "https://evil.example.com/v1"})).await;
    moved.expect_problem(422, "validation-failed");
    assert_eq!(
        moved.fields(),
        ["credentials.api_key"],
        "they have to be sent again"
    );
    let sent =
        patch(json!({"base_url": "https://proxy.example.com/v1", "credentials": {"api_key": "new"}})).await;
    assert_eq!(sent.expect(200)["has_credentials"], true);
    let cleared = patch(json!({"credentials": null})).await;
    cleared.expect_problem(422, "validation-failed");
    assert_eq!(
        patch(json!({})).await.expect(200)["base_url"],
        "https://proxy.example.com/v1"
    );
}

/// Said of one account, it must not be believed of another.
#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_exclusive_account_is_declared_and_does_not_outlive_a_change_of_account(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let plain = json!({"auth_type": "api_key", "credentials": {"api_key": "sk-c4n4ry-hunter2"}});
    assert_eq!(api.post(OPENAI, &plain).await.expect(201)["exclusive"], false);
    let key = json!({"api_key": "sk-c4n4ry-hunter3"});
    let patch = |body: Value| api.call("PATCH", OPENAI).json(&body).send();
    for (change, left) in [
        (json!({"is_enabled": false}), true),
        (json!({"max_requests_per_second": 5}), true),
        (json!({"base_url": "https://api.openai.com/v2"}), true),
        (json!({"credentials": key}), false),
        (json!({"credentials": key, "exclusive": true}), true),
        (
            json!({"base_url": "https://elsewhere.example/v1", "credentials": key}),
            false,
        ),
        (json!({"exclusive": true}), true),
        (json!({"exclusive": false}), false),
    ] {
        patch(json!({"exclusive": true})).await.expect(200);
        let changed = patch(change.clone()).await;
        assert_eq!(changed.expect(200)["exclusive"], left, "{change}");
    }
    assert_eq!(api.post(OPENAI, &plain).await.expect(200)["exclusive"], false);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn health_asks_the_provider_and_records_what_it_found(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let health = "/api/v1/admin/providers/openai/health";
    api.get(health).await.expect_problem(404, "not-found");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let provider = Router::new().route(
        "/v1/vector_stores",
        get(async |headers: axum::http::HeaderMap| {
            if headers["authorization"] == "Bearer good-c4n4ry" {
                let list = json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false});
                (axum::http::StatusCode::OK, axum::Json(list))
            } else {
                let error = json!({"error": {"message": "bad key", "type": "invalid_request_error", "code": "invalid_api_key"}});
                (axum::http::StatusCode::UNAUTHORIZED, axum::Json(error))
            }
        }),
    );
    tokio::spawn(async move { axum::serve(listener, provider).await });
    let connection = |key: &str| json!({"base_url": format!("http://{address}/v1"), "auth_type": "api_key", "credentials": {"api_key": key}});

    api.post(OPENAI, &connection("good-c4n4ry")).await.expect(201);
    let unknown = api.get("/api/v1/providers/openai/health").await.expect(200);
    assert_eq!(unknown["status"], "unknown");
    //
    let found = api.get(health).await.expect(200);
    assert_eq!(
        (&found["status"], &found["error"]),
        (&json!("ok"), &json!(null)),
        "{found}"
    );
    assert!(api.get(OPENAI).await.expect(200)["last_healthcheck_at"].is_string());

    api.post(OPENAI, &connection("bad-c4n4ry")).await.expect(200);
    let found = api.get(health).await.expect(200);
    assert_eq!(found["status"], "failing", "{found}");
    assert!(
        api.get(OPENAI).await.expect(200)["last_error"]
            .as_str()
            .unwrap()
            .contains("bad key")
    );
    let seen = api.get("/api/v1/providers/openai/health").await.expect(200);
    assert_eq!(seen["status"], "failing");
    assert!(seen.get("last_error").is_none(), "R-B5: {seen}");

    api.call("PATCH", OPENAI)
        .json(&json!({"is_enabled": false}))
        .send()
        .await
        .expect(200);
    assert_eq!(api.get(health).await.expect(200)["status"], "disabled");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_search_needs_a_built_index_and_names_local_files(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let provider = Router::new().route(
        "/v1/vector_stores/vs_1/search",
        axum::routing::post(async |axum::Json(body): axum::Json<Value>| {
            assert_eq!(body["max_num_results"], 3);
            let hit = json!({"file_id": "file-1", "filename": "x", "score": 0.5, "attributes": {}, "content": [{"type": "text", "text": "found"}]});
            axum::Json(json!({"object": "vector_store.search_results.page", "search_query": ["q"], "data": [hit], "has_more": false, "next_page": null}))
        }),
    );
    tokio::spawn(async move { axum::serve(listener, provider).await });
    let connection = json!({"base_url": format!("http://{address}/v1"), "auth_type": "api_key", "credentials": {"api_key": "k-c4n4ry"}});
    api.post(OPENAI, &connection).await.expect(201);

    let index = api.make_index().await;
    let file = api.upload("local.txt", "x").await;
    let file_id = file["id"].as_str().unwrap();
    api.call("POST", &format!("/api/v1/indexes/{index}/files/{file_id}"))
        .send()
        .await
        .expect(201);
    let search = format!("/api/v1/indexes/{index}/search");
    let query = json!({"query": "q", "max_num_results": 3});
    // R-B6
    api.post(&search, &query).await.expect_problem(409, "conflict");
    sqlx::query("UPDATE rag_indexes SET external_id = 'vs_1'")
        .execute(&api.db)
        .await
        .unwrap();
    sqlx::query("INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, content_sha256, size_bytes, state) VALUES (UUID(), ?, 'vs_1', ?, 'file-1', '', 1, 'completed')")
        .bind(&index)
        .bind(file_id)
        .execute(&api.db)
        .await
        .unwrap();
    let found = api.post(&search, &query).await.expect(200);
    assert_eq!(found["items"][0]["file_id"], file_id);
    assert_eq!(
        (&found["items"][0]["file_name"], &found["items"][0]["content"]),
        (&json!("local.txt"), &json!([{"type": "text", "text": "found"}]))
    );
    sqlx::query("UPDATE rag_indexes SET external_id = 'vs_2'")
        .execute(&api.db)
        .await
        .unwrap();
    api.post(&search, &query)
        .await
        .expect_problem(502, "provider-failed");
    for wrong in [
        json!({"query": ""}),
        json!({"query": []}),
        json!({"query": "q", "max_num_results": 51}),
        json!({}),
    ] {
        api.post(&search, &wrong)
            .await
            .expect_problem(422, "validation-failed");
    }
}

/// Workers may use what they read of a connection for 100 ms.
#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_change_is_answered_once_every_process_has_noticed_it(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let connection = json!({"auth_type": "api_key", "credentials": {"api_key": "k"}});
    api.post(OPENAI, &connection).await.expect(201);
    let noticed = Duration::from_millis(100);
    let off = json!({"is_enabled": false});

    let begun = Instant::now();
    api.call("PATCH", OPENAI).json(&off).send().await.expect(200);
    assert!(begun.elapsed() > noticed, "switched off");

    let begun = Instant::now();
    api.post(OPENAI, &connection).await.expect(200);
    assert!(begun.elapsed() > noticed, "made anew");

    let begun = Instant::now();
    api.call("DELETE", OPENAI).send().await.expect(204);
    assert!(begun.elapsed() > noticed, "deleted");
}
