//! Counts of files are kept for a moment, but no caller can tell by its own changes: not even if another server of the API
//! took them.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, MySqlPool};
use tokio::time::Instant;

use crate::harness::{Api, id};

/// Two servers of the API, and an index at whose provider two of three files are indexed.
struct Setting {
    api: Api,
    elsewhere: Api,
    index: String,
    files: Vec<String>,
}

impl Setting {
    async fn new(pool: MySqlPool) -> Self {
        let api = Api::new(pool).await;
        let elsewhere = api.another().await;
        api.make_connection().await;
        let index = api.make_index().await;
        let mut files = Vec::new();
        for name in ["one.txt", "two.txt", "three.txt"] {
            files.push(id(&elsewhere.upload(name, name).await));
        }
        let setting = Self {
            api,
            elsewhere,
            index,
            files,
        };
        setting.sql("UPDATE rag_indexes SET external_id = 'vs_1'").await;
        setting
            .change("PUT", "indexes/{index}/files", &setting.composition(&[0, 1]), 200)
            .await;
        setting
            .sql(
                "INSERT INTO rag_provider_file_uploads \
                   (id, provider_id, local_file_id, external_file_id, content_sha256, status) \
                 SELECT UUID(), 'openai', id, CONCAT('file-', id), sha256, 'uploaded' FROM rag_files \
                 WHERE file_name <> 'three.txt'",
            )
            .await;
        setting
            .sql(
                "INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, \
                   content_sha256, size_bytes, state) \
                 SELECT UUID(), l.index_id, 'vs_1', f.id, CONCAT('file-', f.id), f.sha256, f.size_bytes, 'completed' \
                 FROM rag_files f JOIN rag_index_files l ON l.file_id = f.id",
            )
            .await;
        setting
    }

    async fn sql(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&self.api.db)
            .await
            .unwrap();
    }

    fn composition(&self, files: &[usize]) -> Value {
        let files: Vec<Value> = files.iter().map(|n| json!({"file_id": self.files[*n]})).collect();
        json!({"files": files})
    }

    /// By the other server. The path may speak of `{index}`, `{0}`, `{1}`, `{2}`.
    async fn change(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let mut path = format!("/api/v1/{}", path.replace("{index}", &self.index));
        for (n, file) in self.files.iter().enumerate() {
            path = path.replace(&format!("{{{n}}}"), file);
        }
        let call = self.elsewhere.call(method, &path);
        let call = match body {
            Value::Null => call,
            Value::String(text) => call.header("content-type", "text/plain").body(text.clone()),
            body => call.json(body),
        };
        let answer = call.send().await;
        if status == 204 {
            assert_eq!(answer.status.as_u16(), 204, "{method} {path}");
            return Value::Null;
        }
        answer.expect(status)
    }

    async fn status(&self, api: &Api) -> Value {
        let path = format!("/api/v1/indexes/{}/status", self.index);
        api.get(&path).await.expect(200)
    }

    /// (pending, completed, failed)
    async fn counts(&self) -> (u64, u64, u64) {
        let status = self.status(&self.api).await;
        let of = |name: &str| status["file_counts"][name].as_u64().unwrap();
        assert_eq!(of("total"), of("pending") + of("completed") + of("failed"));
        (of("pending"), of("completed"), of("failed"))
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_callers_change_is_in_the_next_answer(pool: MySqlPool) {
    let setting = Setting::new(pool).await;
    let small = json!({"chunking_strategy": {"type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}}});
    let none = json!({"chunking_strategy": null});
    let (link, file, index) = ("indexes/{index}/files/{0}", "files/{0}", "indexes/{index}");
    let steps = [
        ("POST", "indexes/{index}/files/{2}", json!({}), 201, (1, 2, 0)),
        ("PATCH", link, small.clone(), 200, (2, 1, 0)),
        ("PATCH", link, none.clone(), 200, (1, 2, 0)),
        ("PATCH", file, small.clone(), 200, (2, 1, 0)),
        ("PATCH", file, none.clone(), 200, (1, 2, 0)),
        ("PATCH", index, small, 200, (3, 0, 0)),
        ("PATCH", index, none, 200, (1, 2, 0)),
        ("DELETE", "indexes/{index}/files/{2}", Value::Null, 204, (0, 2, 0)),
        ("PUT", "files/{1}/content", json!("new contents"), 200, (1, 1, 0)),
        ("PUT", "files/{1}/content", json!("two.txt"), 200, (0, 2, 0)),
        (
            "PUT",
            "indexes/{index}/files",
            setting.composition(&[2, 1]),
            200,
            (1, 1, 0),
        ),
        ("DELETE", "files/{2}?force=true", Value::Null, 204, (0, 1, 0)),
    ];
    assert_eq!(setting.counts().await, (0, 2, 0));
    for (method, path, body, status, counts) in steps {
        // Counts are kept now, if they are at all.
        setting.counts().await;
        setting.change(method, path, &body, status).await;
        assert_eq!(setting.counts().await, counts, "{method} {path} {body}");
    }

    let copies = "admin/providers/openai/file-uploads";
    let copy = setting.change("GET", copies, &Value::Null, 200).await;
    let mut copy = copy["items"].as_array().unwrap().iter();
    let copy = id(copy
        .find(|copy| copy["local_file_id"] == setting.files[1].as_str())
        .unwrap());
    let path = format!("{copies}/{copy}");
    setting.counts().await;
    setting
        .change("PATCH", &path, &json!({"status": "pending"}), 200)
        .await;
    assert_eq!(setting.counts().await, (1, 0, 0));
    setting.sql("DELETE FROM rag_index_attachments").await;
    setting
        .sql("UPDATE rag_provider_file_uploads SET status = 'failed'")
        .await;
    let setting = Setting {
        // Which has kept nothing of what was changed behind its back.
        api: setting.api.another().await,
        ..setting
    };
    assert_eq!(setting.counts().await, (0, 0, 1));
    setting.change("DELETE", &path, &Value::Null, 204).await;
    assert_eq!(setting.counts().await, (1, 0, 0));

    let job = id(&setting
        .change("POST", "indexes/{index}/build", &Value::Null, 202)
        .await);
    assert_eq!(setting.status(&setting.api).await["job"]["id"], job);
    setting
        .change("POST", &format!("jobs/{job}/cancel"), &Value::Null, 200)
        .await;
    assert_eq!(setting.status(&setting.api).await["job"], Value::Null);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_active_job_is_as_it_is_now(pool: MySqlPool) {
    let setting = Setting::new(pool).await;
    let build = setting
        .change("POST", "indexes/{index}/build", &Value::Null, 202)
        .await;
    let job = async || {
        setting.status(&setting.api).await;
        let mut status = setting.status(&setting.api).await;
        status["job"].take()
    };
    assert_eq!(
        (id(&job().await), job().await["progress"].take()),
        (id(&build), Value::Null)
    );
    // As a worker would.
    setting
        .sql("UPDATE queue_jobs SET state = 'running', claim_no = 1")
        .await;
    assert_eq!(job().await["state"], "running");
    let (index, build) = (&setting.index, id(&build));
    setting
        .sql(&format!(
            "INSERT INTO rag_index_builds (job_id, index_id, domain_id, step) VALUES ('{build}', '{index}', 'tenant-1', 'x'); \
             UPDATE rag_indexes SET last_job_id = '{build}'"
        ))
        .await;
    assert_eq!(job().await["progress"]["files_uploaded"], 0);
    setting
        .sql("UPDATE rag_index_builds SET files_uploaded = 1, updated_at = UTC_TIMESTAMP(6)")
        .await;
    assert_eq!(job().await["progress"]["files_uploaded"], 1);
    setting
        .change("POST", &format!("jobs/{build}/cancel"), &Value::Null, 202)
        .await;
    assert_eq!(job().await["cancel_requested"], true);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_workers_do_is_seen_within_a_second_and_at_once_when_the_build_ends(pool: MySqlPool) {
    let setting = Setting::new(pool).await;
    let state = |state: &str| format!("UPDATE rag_index_attachments SET state = '{state}'");
    // One try may take longer than anything is kept.
    let mut was_kept = false;
    for _ in 0..50 {
        setting.sql(&state("completed")).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(setting.counts().await, (0, 2, 0));
        setting.sql(&state("failed")).await;
        was_kept = setting.counts().await == (0, 2, 0);
        if was_kept {
            break;
        }
    }
    assert!(was_kept, "counted again for each answer");
    let changed = Instant::now();
    while setting.counts().await != (0, 0, 2) {
        assert!(changed.elapsed() < Duration::from_secs(10), "kept for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    setting.sql(&state("completed")).await;
    setting
        .sql("UPDATE rag_indexes SET indexing_status = 'done'")
        .await;
    assert_eq!(setting.counts().await, (0, 2, 0));
}
