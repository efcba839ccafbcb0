//! Every error answer is a problem with the request's id, whoever made it.

use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::harness::Api;

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_router_and_the_extractors_speak_problem_json(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.get("/nothing").await.expect_problem(404, "not-found");
    api.get("/api/v1/nothing").await.expect_problem(404, "not-found");
    let answer = api.call("DELETE", "/api/v1/files").send().await;
    answer.expect_problem(405, "method-not-allowed");
    assert!(answer.headers["allow"].to_str().unwrap().contains("GET"));
    let plain = api
        .call("POST", "/api/v1/indexes")
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await;
    plain.expect_problem(415, "unsupported-media-type");
    let large = json!({"name": "x".repeat(200_000), "provider_type": "openai"});
    api.post("/api/v1/indexes", &large)
        .await
        .expect_problem(413, "content-too-large");
    api.get("/api/v1/files/not-an-id")
        .await
        .expect_problem(404, "not-found");
    api.get("/api/v1/files/%FF")
        .await
        .expect_problem(404, "not-found");
}

/// Each operation of the document, with the ids of nothing in its path.
fn operations() -> Vec<(String, String, Value)> {
    let document = serde_json::to_value(rag_api::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parts = path.split('/').map(|part| match part {
                "{provider_type}" => "openai",
                part if part.starts_with('{') => "6b0c1d7e-55a2-4c0e-9d8e-2f1f0a3b4c5d",
                part => part,
            });
            let path = parts.collect::<Vec<_>>().join("/");
            operations.push((method.to_uppercase(), path, operation.clone()));
        }
    }
    operations
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_an_operation_does_not_take_is_refused(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let mut refused = (0, 0);
    for (method, path, operation) in operations() {
        if !path.starts_with("/api/v1/") {
            continue;
        }
        let call = |path: &str| {
            let call = api.call(&method, path);
            if path.contains("/admin/") {
                call.key(api.admin_key())
            } else {
                call
            }
        };
        if operation.get("requestBody").is_none() {
            let answer = call(&path).json(&json!({"recreate": true})).send().await;
            let problem = answer.expect_problem(400, "malformed-request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("takes no body"), "{method} {path}: {problem}");
            assert_eq!(detail.contains("recreate"), path.ends_with("/build"), "{problem}");
            refused.0 += 1;
            // Many clients send this with every POST.
            for nothing in ["{}", " ", "null"] {
                let answer = call(&path).body(nothing).send().await;
                let text = String::from_utf8_lossy(&answer.bytes).into_owned();
                assert!(!text.contains("takes no body"), "{method} {path}: {text}");
            }
        }
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        if !parameters.clone().any(|parameter| parameter["in"] == "query") {
            let answer = call(&format!("{path}?page_size=5")).json(&json!({})).send().await;
            let problem = answer.expect_problem(400, "malformed-request");
            assert!(
                problem["detail"].as_str().unwrap().contains("page_size"),
                "{method} {path}: {problem}"
            );
            refused.1 += 1;
        }
    }
    assert!(refused.0 > 35 && refused.1 > 35, "{refused:?}");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_domain_must_be_there_and_sane(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let path = "/api/v1/files";
    api.call("GET", path)
        .without("x-domain-id")
        .send()
        .await
        .expect_problem(400, "invalid-domain");
    api.call("GET", path)
        .domain("")
        .send()
        .await
        .expect_problem(400, "invalid-domain");
    api.call("GET", path)
        .domain(&"x".repeat(129))
        .send()
        .await
        .expect_problem(400, "invalid-domain");
    api.call("GET", path)
        .domain(" x ")
        .send()
        .await
        .expect_problem(400, "invalid-domain");
    for domain in ["x", "домен", &"ж".repeat(128), "../../etc", "a'b\"c"] {
        api.call("GET", path).domain(domain).send().await.expect(200);
    }
    // Hostile as a folder, fine as a key; and case matters.
    let form = [("file", Some("a.txt"), "x")];
    api.call("POST", path)
        .domain("../../etc")
        .form(&form)
        .send()
        .await
        .expect(201);
    assert!(
        api.stored()[0].to_str().unwrap().contains("/~"),
        "{:?}",
        api.stored()
    );
    let upper = api
        .call("POST", path)
        .domain("Tenant")
        .form(&form)
        .send()
        .await
        .expect(201);
    let lower = api
        .call("GET", &format!("{path}/{}", upper["id"].as_str().unwrap()))
        .domain("tenant")
        .send()
        .await;
    lower.expect_problem(404, "not-found");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn request_ids_go_through(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let answer = api
        .call("GET", "/api/v1/files/x")
        .header("x-request-id", "trace-1")
        .send()
        .await;
    assert_eq!(answer.expect_problem(404, "not-found")["request_id"], "trace-1");
    let answer = api
        .call("GET", "/api/v1/files")
        .header("x-request-id", "trace-2")
        .send()
        .await;
    assert_eq!(answer.headers["x-request-id"], "trace-2");
    let fresh = api.get("/api/v1/files").await;
    assert_eq!(fresh.headers["x-request-id"].len(), 36);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn without_its_database_it_is_alive_but_not_ready(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.get("/health/ready").await.expect(200);
    sqlx::query("DELETE FROM _sqlx_migrations ORDER BY version DESC LIMIT 1")
        .execute(&api.db)
        .await
        .unwrap();
    let body = api.get("/health/ready").await.expect_problem(503, "unavailable");
    assert!(
        body["detail"].as_str().unwrap().contains("rag-api migrate"),
        "{body}"
    );
    api.db.close().await;
    api.get("/health/live").await.expect(200);
    api.get("/health/ready").await.expect_problem(503, "unavailable");
    let answer = api.get("/api/v1/files").await;
    answer.expect_problem(503, "unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_request_that_takes_too_long_is_given_up(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_REQUEST_TIMEOUT_SECONDS", "1")]).await;
    let index = api.make_index().await;
    let mut other = api.db.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM rag_indexes WHERE id = ? FOR UPDATE")
        .bind(&index)
        .execute(&mut *other)
        .await
        .unwrap();
    let path = format!("/api/v1/indexes/{index}");
    let patch = json!({"name": "New"});
    let answer = api.call("PATCH", &path).json(&patch).send().await;
    answer.expect_problem(503, "unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    other.rollback().await.unwrap();
    api.call("PATCH", &path).json(&patch).send().await.expect(200);
}
