//! Keys over HTTP: made once, listed without themselves, revoked at once.

use serde_json::json;
use sqlx::MySqlPool;

use crate::harness::{Api, DOMAIN, id};

const KEYS: &str = "/api/v1/admin/keys";
const FILES: &str = "/api/v1/files";

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_key_works_from_its_making_to_its_revocation(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let body = json!({"name": "backend", "domains": [DOMAIN, "tenant-7"]});
    let answer = api.call("POST", KEYS).json(&body).send_for_a_key().await;
    let made = answer.expect(201);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["location"], format!("{KEYS}/{}", id(&made)));
    assert_eq!(
        (&made["role"], &made["domains"]),
        (&json!("service"), &body["domains"])
    );
    let key = made["key"].as_str().unwrap();

    let ask = async |path: &str, domain: &str| api.call("GET", path).key(key).domain(domain).send().await;
    ask(FILES, DOMAIN).await.expect(200);
    ask(FILES, "tenant-7").await.expect(200);
    ask(FILES, "tenant-8").await.expect_problem(403, "forbidden");
    ask(KEYS, DOMAIN).await.expect_problem(403, "forbidden");

    // The key itself is nowhere but in the first answer, and not in the database.
    for path in [KEYS.to_owned(), format!("{KEYS}/{}", id(&made))] {
        let answer = api.get(&path).await;
        answer.expect(200);
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(key), "{path}");
    }
    let listed = api.get(KEYS).await.expect(200);
    let listed = listed["items"].as_array().unwrap();
    assert_eq!(listed.len(), 2, "with the one of these tests");
    assert_eq!(
        (&listed[1]["id"], &listed[1]["revoked_at"]),
        (&made["id"], &json!(null))
    );

    let path = format!("{KEYS}/{}", id(&made));
    api.call("DELETE", &path).send().await.expect(204);
    // Though it was used a moment ago.
    ask(FILES, DOMAIN).await.expect_problem(401, "unauthorized");
    api.call("DELETE", &path)
        .send()
        .await
        .expect_problem(404, "not-found");
    api.get(&path).await.expect_problem(404, "not-found");
    let listed = api.get(KEYS).await.expect(200);
    assert!(listed["items"][1]["revoked_at"].is_string(), "{listed}");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_makes_no_key_is_named(pool: MySqlPool) {
    let api = Api::new(pool).await;
    for (body, field) in [
        (json!({"name": " "}), "name"),
        (json!({"name": "x", "role": "root"}), "role"),
        (json!({"name": "x", "role": "admin", "domains": ["a"]}), "domains"),
        (json!({"name": "x", "domains": ["a", ""]}), "domains[1]"),
        (json!({"name": "x", "key": "rag_mine"}), "key"),
    ] {
        let answer = api.post(KEYS, &body).await;
        answer.expect_problem(422, "validation-failed");
        assert_eq!(answer.fields(), [field], "{body}");
    }
    let call = api
        .call("POST", KEYS)
        .json(&json!({"name": "ops", "role": "admin"}));
    let admin = call.send_for_a_key().await.expect(201);
    assert_eq!(admin["domains"], json!(null));
    let call = api.call("GET", KEYS).key(admin["key"].as_str().unwrap());
    call.send().await.expect(200);
    assert_eq!(api.count("rag_api_keys").await, 2);
}
