//! Asking for syncs: who may, what is refused, and what is answered. The work itself is the worker's.

use rag_api::Role;
use rag_domain::{FindingKind, IndexId};
use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::harness::{Api, DOMAIN, id};

const PROVIDER_SYNC: &str = "/api/v1/admin/providers/openai/sync";

/// An index with a store, as a build leaves it.
async fn index_with_store(api: &Api) -> String {
    let index = api.make_index().await;
    let mut db = api.db.acquire().await.unwrap();
    let id: IndexId = index.parse().unwrap();
    rag_db::indexes::set_external_id(&mut db, id, "vs_1")
        .await
        .unwrap();
    index
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_sync_of_an_index_is_one_job_that_takes_its_turn(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let never_built = api.make_index().await;
    let path = format!("/api/v1/indexes/{never_built}/sync");
    let problem = api
        .post(&path, &Value::Null)
        .await
        .expect_problem(409, "conflict");
    assert!(
        problem["detail"].as_str().unwrap().contains("no vector store"),
        "R-7.1: {problem}"
    );

    let index = index_with_store(&api).await;
    let path = format!("/api/v1/indexes/{index}/sync");
    let answer = api.call("POST", &path).send().await;
    let job = answer.expect(202);
    assert_eq!(
        (&job["kind"], &job["index_id"]),
        (&json!("index_sync"), &json!(index))
    );
    assert_eq!(answer.headers["location"], format!("/api/v1/jobs/{}", id(&job)));
    let again = api
        .call("POST", &format!("{path}?force=true"))
        .send()
        .await
        .expect(202);
    assert_eq!(id(&again), id(&job), "one look at a time");
    let build = api
        .call("POST", &format!("/api/v1/indexes/{index}/build"))
        .send()
        .await
        .expect(202);
    assert_eq!(
        build["state"], "blocked",
        "builds and syncs of an index take turns: {build}"
    );

    api.call("POST", &path)
        .domain("tenant-2")
        .send()
        .await
        .expect_problem(404, "not-found");
    api.call("POST", &format!("{path}?forced=1"))
        .send()
        .await
        .expect_problem(400, "malformed-request");
    api.call("POST", &format!("{path}?force=maybe"))
        .send()
        .await
        .expect_problem(400, "malformed-request");
    let off = json!({"is_enabled": false});
    let connection = "/api/v1/admin/providers/connections/openai";
    api.call("PATCH", connection).json(&off).send().await.expect(200);
    api.call("POST", &path)
        .send()
        .await
        .expect_problem(409, "conflict");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_fresh_look_is_answered_at_once(pool: MySqlPool) {
    let api = Api::with(pool, &[("INDEX_SYNC_FRESH_SECONDS", "60")]).await;
    api.make_connection().await;
    let index = index_with_store(&api).await;
    let report = json!({
        "external_id": "vs_1", "store_status": "completed", "files_changed": 0, "files_missing": 0, "files_unknown": 2,
        "file_counts": {"in_progress": 0, "completed": 2, "failed": 0, "cancelled": 0},
        "indexing_status_before": "done", "indexing_status": "done", "gone": false, "detached": false,
    });
    let mut db = api.db.acquire().await.unwrap();
    rag_db::store_polls::record(&mut db, index.parse().unwrap(), &report)
        .await
        .unwrap();
    let path = format!("/api/v1/indexes/{index}/sync");
    let fresh = api.call("POST", &path).send().await.expect(200);
    assert_eq!((&fresh["id"], &fresh["job"]), (&json!(index), &Value::Null));
    assert_eq!(
        (
            &fresh["sync_report"]["fresh"],
            &fresh["sync_report"]["files_unknown"]
        ),
        (&json!(true), &json!(2))
    );
    assert_eq!(api.count("queue_jobs").await, 0);
    api.call("POST", &format!("{path}?force=true"))
        .send()
        .await
        .expect(202);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_domain_is_synced_by_one_job_of_its_own(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let path = "/api/v1/indexes/sync";
    let job = api.call("POST", path).send().await.expect(202);
    assert_eq!(
        (&job["kind"], &job["input"]["domain_id"]),
        (&json!("domain_sync"), &json!(DOMAIN))
    );
    assert_eq!(id(&api.call("POST", path).send().await.expect(202)), id(&job));
    let one = api
        .call("POST", &format!("{path}?provider_type=openai"))
        .send()
        .await
        .expect(202);
    assert_ne!(id(&one), id(&job), "another choice is another sync");
    let strangers = api.call("POST", path).domain("tenant-2").send().await.expect(202);
    assert_ne!(id(&strangers), id(&job));
    let read = format!("/api/v1/jobs/{}", id(&strangers));
    api.get(&read).await.expect_problem(404, "not-found");
    let unknown = format!("{path}?provider_type=nobody");
    api.call("POST", &unknown)
        .send()
        .await
        .expect_problem(404, "unknown-provider");
    api.call("POST", &format!("{path}?all=1"))
        .send()
        .await
        .expect_problem(400, "malformed-request");
    api.call("POST", path)
        .without("x-domain-id")
        .send()
        .await
        .expect_problem(400, "invalid-domain");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_provider_is_synced_for_admins_and_by_one_job(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.call("POST", PROVIDER_SYNC)
        .send()
        .await
        .expect_problem(409, "conflict");
    api.make_connection().await;
    let key = api.make_key(Role::Service, None).await;
    api.call("POST", PROVIDER_SYNC)
        .key(&key)
        .send()
        .await
        .expect_problem(403, "forbidden");
    api.call("POST", "/api/v1/admin/providers/nobody/sync")
        .send()
        .await
        .expect_problem(404, "not-found");
    for query in [
        "dry_run=perhaps",
        "strictly=true",
        "compare=twice",
        "compare=Once",
        "compare=",
    ] {
        let path = format!("{PROVIDER_SYNC}?{query}");
        api.call("POST", &path)
            .send()
            .await
            .expect_problem(400, "malformed-request");
    }

    let answer = api
        .call("POST", &format!("{PROVIDER_SYNC}?strict=true"))
        .send()
        .await;
    let job = answer.expect(202);
    let path = format!("/api/v1/admin/providers/openai/syncs/{}", id(&job));
    assert_eq!(answer.headers["location"], path);
    assert_eq!(
        id(&api.call("POST", PROVIDER_SYNC).send().await.expect(202)),
        id(&job)
    );
    let report = api
        .call("POST", &format!("{PROVIDER_SYNC}?dry_run=true&compare=once"))
        .send()
        .await
        .expect(202);
    assert_ne!(id(&report), id(&job), "a report may be made beside a sync");

    assert_eq!(report["input"]["compare"], "once");
    let input = &api.get(&path).await.expect(200)["input"];
    assert_eq!(
        (&input["strict"], &input["compare"]),
        (&json!(true), &json!("full"))
    );
    api.get(&path.replace("openai", "yandex"))
        .await
        .expect_problem(404, "not-found");
    let of_domain = format!("/api/v1/jobs/{}", id(&job));
    api.get(&of_domain).await.expect_problem(404, "not-found");
    let cancelled = api
        .call("POST", &format!("{path}/cancel"))
        .send()
        .await
        .expect(202);
    assert_eq!(cancelled["state"], "cancelled");
    assert_ne!(
        id(&api.call("POST", PROVIDER_SYNC).send().await.expect(202)),
        id(&job)
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn findings_are_paged(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let job = id(&api.call("POST", PROVIDER_SYNC).send().await.expect(202));
    let path = format!("/api/v1/admin/providers/openai/syncs/{job}/findings");
    let mut db = api.db.acquire().await.unwrap();
    let found: Vec<_> = (0..5).map(|n| (format!("vs_{n}"), json!({"n": n}))).collect();
    rag_db::syncs::findings::put_many(&mut db, &job, FindingKind::StoresExtra, &found)
        .await
        .unwrap();

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api
            .get(&format!("{path}?kind=stores_extra&limit=2{cursor}"))
            .await
            .expect(200);
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["detail"]["n"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(
        api.get(&format!("{path}?kind=errors")).await.expect(200)["items"],
        json!([])
    );
    for query in [
        "",
        "?kind=everything",
        "?kind=errors&limit=0",
        "?kind=errors&limit=501",
        "?kind=errors&cursor=%21",
    ] {
        api.get(&format!("{path}{query}"))
            .await
            .expect_problem(400, "malformed-request");
    }
    let elsewhere = path.replace("openai", "yandex");
    api.get(&format!("{elsewhere}?kind=errors"))
        .await
        .expect_problem(404, "not-found");
}
