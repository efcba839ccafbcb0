//! Who may do what.

use rag_api::Role;
use serde_json::json;
use sqlx::MySqlPool;

use crate::harness::{Api, DOMAIN};

const FILES: &str = "/api/v1/files";
const CONNECTIONS: &str = "/api/v1/admin/providers/connections";

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_matrix_of_keys_and_routes(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let admin = api.make_key(Role::Admin, None).await;
    let any_domain = api.make_key(Role::Service, None).await;
    let own_domain = api.make_key(Role::Service, Some(&[DOMAIN])).await;
    let other_domain = api.make_key(Role::Service, Some(&["tenant-2", "tenant-3"])).await;
    for (key, service, admin_route) in [
        (&admin, 200, 200),
        (&any_domain, 200, 403),
        (&own_domain, 200, 403),
        (&other_domain, 403, 403),
        (&"rag_made-up".to_owned(), 401, 401),
    ] {
        assert_eq!(api.call("GET", FILES).key(key).send().await.status, service);
        assert_eq!(
            api.call("GET", CONNECTIONS).key(key).send().await.status,
            admin_route
        );
    }
    let refused = api.call("GET", FILES).key(&other_domain).send().await;
    refused.expect_problem(403, "forbidden");
    api.call("GET", FILES)
        .key(&other_domain)
        .domain("tenant-3")
        .send()
        .await
        .expect(200);
    api.call("GET", "/api/v1/providers")
        .key(&other_domain)
        .without("x-domain-id")
        .send()
        .await
        .expect(200);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_request_needs_a_well_formed_key(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let answer = api.call("GET", FILES).without("authorization").send().await;
    answer.expect_problem(401, "unauthorized");
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    for value in ["", "Bearer", "Bearer ", "Basic abc", "rag_key"] {
        api.call("GET", FILES)
            .header("authorization", value)
            .send()
            .await
            .expect_problem(401, "unauthorized");
    }
    // Nothing is read before the key is checked.
    let upload = api
        .call("POST", FILES)
        .without("authorization")
        .form(&[("file", Some("a"), "x")])
        .send()
        .await;
    upload.expect_problem(401, "unauthorized");
    assert_eq!(api.stored().len(), 0);
    for path in [
        "/health/live",
        "/health/ready",
        "/metrics",
        "/api/v1/openapi.json",
    ] {
        let answer = api
            .call("GET", path)
            .without("authorization")
            .without("x-domain-id")
            .send()
            .await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let docs = api.call("GET", "/docs/").without("authorization").send().await;
    assert_eq!(docs.status, 200);
    assert!(String::from_utf8_lossy(&docs.bytes).contains("swagger"));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_revoked_key_is_not_taken(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let key = api.make_key(Role::Service, None).await;
    sqlx::query("UPDATE rag_api_keys SET revoked_at = UTC_TIMESTAMP(6) WHERE key_sha256 = ?")
        .bind(rag_api::fingerprint(&key))
        .execute(&api.db)
        .await
        .unwrap();
    api.call("GET", FILES)
        .key(&key)
        .send()
        .await
        .expect_problem(401, "unauthorized");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn switched_off_means_everybody(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_AUTH", "off")]).await;
    api.call("GET", FILES)
        .without("authorization")
        .send()
        .await
        .expect(200);
    let body = json!({"auth_type": "api_key", "credentials": {"api_key": "k-c4n4ry"}});
    api.call("POST", &format!("{CONNECTIONS}/openai"))
        .without("authorization")
        .json(&body)
        .send()
        .await
        .expect(201);
}
