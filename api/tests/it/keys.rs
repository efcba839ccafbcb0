//! Keys over HTTP: made once, listed without themselves, revoked at once.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures::{FutureExt as _, StreamExt as _};
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
        (json!({"name": " ", "domains": "all"}), "name"),
        (json!({"name": "x", "role": "root", "domains": "all"}), "role"),
        (json!({"name": "x", "role": "admin", "domains": ["a"]}), "domains"),
        (json!({"name": "x", "role": "admin", "domains": []}), "domains"),
        (json!({"name": "x"}), "domains"),
        (json!({"name": "x", "domains": null}), "domains"),
        (json!({"name": "x", "domains": "some"}), "domains"),
        (json!({"name": "x", "domains": ["a", 1]}), "domains"),
        (json!({"name": "x", "domains": ["a", ""]}), "domains[1]"),
        (json!({"name": "x", "domains": "all", "key": "rag_mine"}), "key"),
    ] {
        let answer = api.post(KEYS, &body).await;
        answer.expect_problem(422, "validation-failed");
        assert_eq!(answer.fields(), [field], "{body}");
    }
    let call = api
        .call("POST", KEYS)
        .json(&json!({"name": "ops", "role": "admin"}));
    let admin = call.send_for_a_key().await.expect(201);
    assert_eq!(admin["domains"], json!("all"));
    let call = api.call("GET", KEYS).key(admin["key"].as_str().unwrap());
    call.send().await.expect(200);
    assert_eq!(api.count("rag_api_keys").await, 2);
}

/// An empty list is what is left when the last domain is taken out of one: it must never turn into all of them.
#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn all_domains_have_a_word_of_their_own_and_an_empty_list_is_none(pool: MySqlPool) {
    let api = Api::new(pool).await;
    for (domains, status) in [(json!([]), 403), (json!("all"), 200)] {
        let call = api
            .call("POST", KEYS)
            .json(&json!({"name": "x", "domains": domains}));
        let made = call.send_for_a_key().await.expect(201);
        assert_eq!(made["domains"], domains);
        let listed = api.get(&format!("{KEYS}/{}", id(&made))).await.expect(200);
        assert_eq!(listed["domains"], domains);
        let key = made["key"].as_str().unwrap();
        for domain in [DOMAIN, "0", "all"] {
            let answer = api.call("GET", FILES).key(key).domain(domain).send().await;
            assert_eq!(answer.status, status, "{domains} at {domain}");
        }
    }
    // Rows from before, in which NULL was written for all.
    let old = api.make_key(rag_api::Role::Service, None).await;
    api.call("GET", FILES).key(&old).send().await.expect(200);
    let listed = api.get(KEYS).await.expect(200);
    assert_eq!(
        listed["items"].as_array().unwrap().last().unwrap()["domains"],
        "all"
    );
}

/// Far shorter than what is ended here would last by itself.
const SECONDS: Duration = Duration::from_secs(8);

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_is_under_way_ends_with_its_key(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let build = format!("/api/v1/indexes/{}/build", api.make_index().await);
    let job = id(&api.call("POST", &build).send().await.expect(202));
    let events = format!("/api/v1/jobs/{job}/events");
    let file = id(&api.upload("a.txt", &"x".repeat(190_000)).await);
    let download = format!("{FILES}/{file}/download");
    let begin = async |path: &str, key: &str| -> BodyDataStream {
        let answer = api.call("GET", path).key(key).start().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let mut body = answer.into_body().into_data_stream();
        body.next().await.unwrap().unwrap();
        body
    };
    let other = api.make_key(rag_api::Role::Service, None).await;
    let mut others = begin(&events, &other).await;
    for by_another_process in [false, true] {
        let body = json!({"name": "x", "domains": [DOMAIN]});
        let made = api
            .call("POST", KEYS)
            .json(&body)
            .send_for_a_key()
            .await
            .expect(201);
        let key = made["key"].as_str().unwrap();
        let stream = begin(&events, key).await;
        let mut contents = begin(&download, key).await;
        let wait = api.call("POST", &build).key(key).header("prefer", "wait=28");
        let wait = wait.start();
        // It waits, as far as can be seen from here.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if by_another_process {
            let mut db = api.db.acquire().await.unwrap();
            let id = id(&made).parse().unwrap();
            assert!(rag_db::api_keys::revoke(&mut db, id).await.unwrap());
        } else {
            let path = format!("{KEYS}/{}", id(&made));
            api.call("DELETE", &path).send().await.expect(204);
        }
        let ended = async {
            let rest: Vec<_> = stream.collect().await;
            assert!(rest.iter().all(Result::is_ok), "a stream that ends is whole");
            assert_eq!(wait.await.unwrap().status(), 401);
            loop {
                match contents.next().await {
                    Some(Ok(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                    end => break assert!(matches!(end, Some(Err(_))), "half a file must not look whole"),
                }
            }
        };
        let ended = tokio::time::timeout(SECONDS, ended).await;
        ended.unwrap_or_else(|_| panic!("by another process: {by_another_process}: it goes on"));
    }
    assert!(
        others.next().now_or_never().is_none(),
        "another key's stream goes on"
    );
}
