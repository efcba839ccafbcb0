//! R-B2: indexes and what belongs to them.

use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::harness::{Api, id};

const INDEXES: &str = "/api/v1/indexes";

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_index_is_made_read_changed_and_deleted(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let body = json!({
        "name": "Contracts", "description": "d", "provider_type": "openai", "metadata": {"a": 1},
        "chunking_strategy": {"type": "auto"}, "expires_after": {"anchor": "last_active_at", "days": 7},
    });
    let answer = api.post(INDEXES, &body).await;
    let index = answer.expect(201);
    let path = format!("{INDEXES}/{}", id(&index));
    assert_eq!(answer.headers["location"], path);
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&index[field], value, "{field}");
    }
    assert_eq!(
        (&index["indexing_status"], &index["external_id"]),
        (&json!("not_indexed"), &json!(null))
    );
    assert_eq!(api.get(&path).await.expect(200), index);
    assert_eq!(api.get(INDEXES).await.expect(200)["items"], json!([index]));

    let patch = json!({"name": "New", "description": null, "metadata": {"b": 2}});
    let changed = api.call("PATCH", &path).json(&patch).send().await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["description"], &changed["metadata"]),
        (&json!("New"), &json!(null), &json!({"b": 2}))
    );
    assert_eq!(
        changed["chunking_strategy"],
        json!({"type": "auto"}),
        "what is absent stays"
    );
    api.call("PATCH", &path)
        .json(&json!({"provider_type": "sentralix"}))
        .send()
        .await
        .expect_problem(422, "validation-failed");

    api.call("DELETE", &path).send().await.expect(204);
    api.get(&path).await.expect_problem(404, "not-found");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn bad_indexes_are_refused_with_every_wrong_field(pool: MySqlPool) {
    let api = Api::new(pool).await;
    //
    let body = api
        .post(INDEXES, &json!({"name": "x", "provider_type": "acme"}))
        .await
        .expect_problem(404, "unknown-provider");
    assert!(body["detail"].as_str().unwrap().contains("openai"), "{body}");
    let wrong = json!({"name": " ", "provider_type": "openai", "metadata": [], "chunking_strategy": {"type": "static"}});
    let answer = api.post(INDEXES, &wrong).await;
    answer.expect_problem(422, "validation-failed");
    assert_eq!(answer.fields(), ["name", "chunking_strategy", "metadata"]);
    api.post(INDEXES, &json!({"provider_type": "openai"}))
        .await
        .expect_problem(422, "validation-failed");
    api.post(
        INDEXES,
        &json!({"name": "x".repeat(256), "provider_type": "openai"}),
    )
    .await
    .expect_problem(422, "validation-failed");
    api.call("POST", INDEXES)
        .header("content-type", "application/json")
        .body("{")
        .send()
        .await
        .expect_problem(400, "malformed-request");
    assert_eq!(api.count("rag_indexes").await, 0);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn files_are_linked_ordered_changed_and_unlinked(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let index = api.make_index().await;
    let files = format!("{INDEXES}/{index}/files");
    let (a, b) = (
        id(&api.upload("a.txt", "a").await),
        id(&api.upload("b.txt", "b").await),
    );
    let link = api.call("POST", &format!("{files}/{a}")).send().await.expect(201);
    assert_eq!(
        (&link["include_order"], &link["file"]["file_name"]),
        (&json!(0), &json!("a.txt"))
    );
    let strategy =
        json!({"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 0}});
    let link = api
        .post(&format!("{files}/{b}"), &json!({"chunking_strategy": strategy}))
        .await
        .expect(201);
    assert_eq!(
        (&link["include_order"], &link["chunking_strategy"]),
        (&json!(1), &strategy)
    );
    api.call("POST", &format!("{files}/{a}"))
        .send()
        .await
        .expect_problem(409, "conflict");

    let order = |answer: Value| -> Vec<String> {
        answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["file_id"].as_str().unwrap().to_owned())
            .collect()
    };
    api.call("PATCH", &format!("{files}/{a}"))
        .json(&json!({"include_order": 5}))
        .send()
        .await
        .expect(200);
    assert_eq!(order(api.get(&files).await.expect(200)), [b.clone(), a.clone()]);
    let cleared = api
        .call("PATCH", &format!("{files}/{b}"))
        .json(&json!({"chunking_strategy": null}))
        .send()
        .await;
    assert_eq!(cleared.expect(200)["chunking_strategy"], json!(null));

    let far = json!({"include_order": 2_147_483_648_u32});
    api.call("PATCH", &format!("{files}/{a}"))
        .json(&far)
        .send()
        .await
        .expect_problem(422, "validation-failed");

    let composition = json!({"files": [{"file_id": a, "chunking_strategy": strategy}, {"file_id": b}]});
    let set = api
        .call("PUT", &files)
        .json(&composition)
        .send()
        .await
        .expect(200);
    assert_eq!(order(set), [a.clone(), b.clone()]);
    let twice = json!({"files": [{"file_id": a}, {"file_id": a}, {"file_id": "x"}]});
    let answer = api.call("PUT", &files).json(&twice).send().await;
    answer.expect_problem(422, "validation-failed");
    assert_eq!(answer.fields(), ["files[1].file_id", "files[2].file_id"]);

    api.call("DELETE", &format!("{files}/{a}"))
        .send()
        .await
        .expect(204);
    api.call("DELETE", &format!("{files}/{a}"))
        .send()
        .await
        .expect_problem(404, "not-found");
    api.call("PATCH", &format!("{files}/{a}"))
        .json(&json!({}))
        .send()
        .await
        .expect_problem(404, "not-found");
    assert_eq!(order(api.get(&files).await.expect(200)), [b]);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn another_domain_sees_and_links_nothing(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let index = api.make_index().await;
    let file = id(&api.upload("a.txt", "a").await);
    let answer = api
        .call("POST", "/api/v1/files")
        .domain("tenant-2")
        .form(&[("file", Some("b"), "b")])
        .send()
        .await;
    let foreign = id(&answer.expect(201));
    // R-B2: a file of another domain can't be linked.
    api.call("POST", &format!("{INDEXES}/{index}/files/{foreign}"))
        .send()
        .await
        .expect_problem(404, "not-found");
    let both = json!({"files": [{"file_id": file}, {"file_id": foreign}]});
    api.call("PUT", &format!("{INDEXES}/{index}/files"))
        .json(&both)
        .send()
        .await
        .expect_problem(404, "not-found");
    assert_eq!(api.count("rag_index_files").await, 0);

    let empty = json!({});
    for (method, path, body) in [
        ("GET", format!("/api/v1/files/{file}"), None),
        ("GET", format!("/api/v1/files/{file}/download"), None),
        ("PATCH", format!("/api/v1/files/{file}"), Some(&empty)),
        ("DELETE", format!("/api/v1/files/{file}"), None),
        ("GET", format!("{INDEXES}/{index}"), None),
        ("PATCH", format!("{INDEXES}/{index}"), Some(&empty)),
        ("DELETE", format!("{INDEXES}/{index}"), None),
        ("GET", format!("{INDEXES}/{index}/files"), None),
        ("POST", format!("{INDEXES}/{index}/files/{foreign}"), None),
        ("POST", format!("{INDEXES}/{index}/build"), None),
        ("POST", format!("{INDEXES}/{index}/build?dry_run=true"), None),
        ("GET", format!("{INDEXES}/{index}/status"), None),
        ("GET", format!("{INDEXES}/{index}/provider-files"), None),
    ] {
        let mut call = api.call(method, &path).domain("tenant-2");
        if let Some(body) = body {
            call = call.json(body);
        }
        call.send().await.expect_problem(404, "not-found");
    }
    assert_eq!(api.count("queue_jobs").await, 0);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_index_with_a_store_is_hidden_and_deleted_by_a_job(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let index = api.make_index().await;
    let path = format!("{INDEXES}/{index}");
    api.call("POST", &format!("{path}/build"))
        .send()
        .await
        .expect(202);
    // Nobody has begun the build: nothing is left of the index.
    api.call("DELETE", &path).send().await.expect(204);
    assert_eq!(
        (
            api.count("rag_indexes").await,
            api.count("rag_index_builds").await
        ),
        (0, 0)
    );

    let built = api.make_index().await;
    sqlx::query("UPDATE rag_indexes SET external_id = 'vs_1' WHERE id = ?")
        .bind(&built)
        .execute(&api.db)
        .await
        .unwrap();
    let built = format!("{INDEXES}/{built}");
    api.call("DELETE", &built)
        .domain("tenant-2")
        .send()
        .await
        .expect_problem(404, "not-found");
    let request = api.call("DELETE", &built);
    let answer = request.header("prefer", "wait=1").send().await;
    assert_eq!(answer.headers["preference-applied"], "wait=1");
    let job = answer.expect(202);
    assert_eq!(job["kind"], "index_delete", "{job}");
    api.get(&built).await.expect_problem(404, "not-found");
    assert_eq!(
        api.get(INDEXES).await.expect(200)["items"],
        serde_json::json!([]),
        "hidden at once"
    );
    api.call("DELETE", &built)
        .send()
        .await
        .expect_problem(404, "not-found");
    assert_eq!(api.count("rag_indexes").await, 1, "until the provider is clean");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn ten_thousand_files_are_set_at_once(pool: MySqlPool) {
    let api = Api::with(pool, &[("API_MAX_BODY_BYTES", "2000000")]).await;
    let index = api.make_index().await;
    let path = format!("{INDEXES}/{index}/files");
    let own = |n: u32| format!("22222222-2222-4222-8222-{n:012}");
    for domain in ["tenant-1", "tenant-2"] {
        let from = if domain == "tenant-1" { 0 } else { 20_000 };
        let sql = format!(
            "INSERT INTO rag_files (id, domain_id, file_name, file_type, size_bytes, sha256, local_path) \
             SELECT CONCAT('22222222-2222-4222-8222-', LPAD(seq, 12, '0')), '{domain}', 'a', 'text/plain', 1, '', '' \
             FROM seq_{from}_to_{}",
            from + 10_000
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&api.db)
            .await
            .unwrap();
    }
    let set = async |ids: Vec<u32>| {
        let files: Vec<Value> = ids.into_iter().map(|n| json!({"file_id": own(n)})).collect();
        api.call("PUT", &path).json(&json!({"files": files})).send().await
    };
    let order = |body: &Value| -> Vec<String> {
        let items = body["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["file_id"].as_str().unwrap().to_owned())
            .collect()
    };

    let backwards: Vec<u32> = (0..10_000).rev().collect();
    let body = set(backwards.clone()).await.expect(200);
    assert_eq!(
        order(&body),
        backwards.iter().map(|n| own(*n)).collect::<Vec<_>>()
    );
    let linked_at = body["items"][0]["created_at"].clone();
    // One too many, one twice, one of another domain, one that is not there: nothing changes.
    set((0..10_001).collect())
        .await
        .expect_problem(422, "validation-failed");
    let twice = set(vec![1, 2, 1]).await;
    twice.expect_problem(422, "validation-failed");
    assert_eq!(twice.fields(), ["files[2].file_id"]);
    for stranger in [20_001, 15_000] {
        let problem = set(vec![1, stranger]).await.expect_problem(404, "not-found");
        assert!(
            problem["detail"].as_str().unwrap().contains(&own(stranger)),
            "{problem}"
        );
    }
    let body = api.get(&path).await.expect(200);
    assert_eq!(order(&body).len(), 10_000);

    let body = set(vec![5, 9_999, 7]).await.expect(200);
    assert_eq!(order(&body), [own(5), own(9_999), own(7)]);
    assert_eq!(
        body["items"][1]["created_at"], linked_at,
        "it was in the index all the time"
    );
    assert_eq!(api.count("rag_index_files").await, 3);
}
