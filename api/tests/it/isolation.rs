//! generated: every operation of the document that names something of a domain is called for another domain.

use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::harness::{Api, id};

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn ids_of_another_domain_are_ids_of_nothing(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let (index, file) = (api.make_index().await, id(&api.upload("a.txt", "text").await));
    let link = format!("/api/v1/indexes/{index}/files/{file}");
    api.call("POST", &link).send().await.expect(201);
    let build = format!("/api/v1/indexes/{index}/build");
    let job = id(&api.call("POST", &build).send().await.expect(202));
    // What the stranger has of its own, to be mixed with what it has not.
    let strangers = json!({"name": "Mine", "provider_type": "openai"});
    let call = api.call("POST", "/api/v1/indexes").domain("tenant-2");
    let own = id(&call.json(&strangers).send().await.expect(201));

    let before = dump(&api).await;
    let document = serde_json::to_value(rag_api::document()).unwrap();
    let mut called = 0;
    for (template, item) in document["paths"].as_object().unwrap() {
        if !["{index_id}", "{file_id}", "{job_id}"]
            .iter()
            .any(|name| template.contains(name))
        {
            continue;
        }
        let mut paths = vec![template.replace("{index_id}", &index)];
        if template.contains("{index_id}") && template.contains("{file_id}") {
            paths.push(template.replace("{index_id}", &own));
        }
        for (method, operation) in item.as_object().unwrap() {
            for path in &paths {
                let path = path.replace("{file_id}", &file).replace("{job_id}", &job);
                let call = api
                    .call(&method.to_uppercase(), &path)
                    .domain("tenant-2")
                    .header("idempotency-key", "k");
                let call = match body(operation) {
                    Some(body) => call.json(&body),
                    None if operation.get("requestBody").is_none() => call,
                    None => call.header("content-type", "text/plain").body("new contents"),
                };
                let answer = call.send().await;
                assert_eq!(answer.status.as_u16(), 404, "{method} {path}");
                answer.expect_problem(404, "not-found");
                called += 1;
            }
        }
    }
    assert!(called >= 20, "{called}");
    assert_eq!(dump(&api).await, before, "nothing was changed");
    for list in ["files", "jobs"] {
        let answer = api
            .call("GET", &format!("/api/v1/{list}"))
            .domain("tenant-2")
            .send()
            .await;
        assert_eq!(answer.expect(200)["items"], json!([]), "{list}");
    }
}

/// The smallest body that the operation would take.
fn body(operation: &Value) -> Option<Value> {
    let content = &operation["requestBody"]["content"]["application/json"];
    if content.is_null() {
        return None;
    }
    Some(match operation["operationId"].as_str().unwrap() {
        "set_index_files" => json!({"files": []}),
        "search_index" => json!({"query": "anything"}),
        _ => json!({}),
    })
}

async fn dump(api: &Api) -> Vec<String> {
    let mut all = Vec::new();
    for sql in [
        "SELECT CONCAT_WS('|', id, domain_id, name, indexing_status, updated_at) FROM rag_indexes ORDER BY id",
        "SELECT CONCAT_WS('|', id, domain_id, file_name, sha256, updated_at) FROM rag_files ORDER BY id",
        "SELECT CONCAT_WS('|', index_id, file_id, include_order) FROM rag_index_files ORDER BY index_id, file_id",
        "SELECT CONCAT_WS('|', HEX(id), tenant, CAST(state AS CHAR), cancel_requested) FROM queue_jobs ORDER BY id",
    ] {
        all.extend(
            sqlx::query_scalar::<_, String>(sql)
                .fetch_all(&api.db)
                .await
                .unwrap(),
        );
    }
    all
}
