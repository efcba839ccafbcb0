//! The questions of a probe, each with its verdict.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{NO_BATCH, NO_FILE, NO_STORE, Probe, TEXT};
use crate::fixtures::indexes::fixed;

impl Probe {
    pub(super) async fn batch(&self, with_files: bool) -> String {
        let (store, file) = (self.store().await, self.new_file(TEXT).await);
        let body = if with_files {
            json!({"files": [{"file_id": file, "chunking_strategy": fixed(200, 50)}]})
        } else {
            json!({"file_ids": [file], "chunking_strategy": fixed(200, 50)})
        };
        let batch = self
            .post(&format!("/vector_stores/{store}/file_batches"), body)
            .await;
        if batch.0 != 200 {
            return batch.shape();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let counted = &batch.1["file_counts"]["total"];
        let mut attached = self.listed(&store).await.len();
        // What was counted comes in, sooner or later.
        for _ in 0..60 {
            if attached > 0 || counted == &json!(0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            attached = self.listed(&store).await.len();
        }
        format!("counts {counted}, attaches {attached}")
    }

    /// A store with a batch whose files take three seconds.
    pub(super) async fn running(&self) -> Result<(String, String), String> {
        let store = self.store().await;
        let mut files = Vec::new();
        for n in 0..2 {
            files.push(self.new_file(&format!("slow embedding 3000\n{n} {TEXT}")).await);
        }
        let path = format!("/vector_stores/{store}/file_batches");
        let batch = self.post(&path, json!({"file_ids": files})).await;
        if batch.0 != 200 {
            return Err(batch.shape());
        }
        let batch = batch.id();
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok((store, batch))
    }

    pub(super) async fn while_a_batch_runs(&self) -> String {
        let (store, _) = match self.running().await {
            Ok(running) => running,
            Err(refused) => return refused,
        };
        let seen = self.get(&format!("/vector_stores/{store}")).await.1;
        let (status, listed) = (seen["status"].as_str().unwrap(), self.listed(&store).await.len());
        format!(
            "{status}, total {}, {listed} of 2 listed",
            seen["file_counts"]["total"]
        )
    }

    pub(super) async fn cancelled_batch(&self) -> String {
        let (store, batch) = match self.running().await {
            Ok(running) => running,
            Err(refused) => return refused,
        };
        let path = format!("/vector_stores/{store}/file_batches/{batch}");
        self.post(&format!("{path}/cancel"), json!({})).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let seen = self.get(&path).await.1;
        let open = &seen["file_counts"]["in_progress"];
        format!("{}, {open} of 2 in_progress", seen["status"].as_str().unwrap())
    }

    pub(super) async fn single_attach(&self) -> String {
        let (store, file) = (
            self.store().await,
            self.new_file(&format!("slow embedding 1000\n{TEXT}")).await,
        );
        let seen = self.attach(&store, &file).await;
        format!("{}, {}", seen.0, seen.1["status"].as_str().unwrap_or("no status"))
    }

    pub(super) async fn again(&self) -> String {
        let (store, file) = (self.store().await, self.new_file(TEXT).await);
        let path = format!("/vector_stores/{store}/files");
        for strategy in [fixed(200, 50), fixed(400, 100)] {
            self.post(&path, json!({"file_id": file, "chunking_strategy": strategy}))
                .await;
            self.ended(&store, &file).await;
        }
        let seen = self.ended(&store, &file).await;
        format!(
            "{} tokens",
            seen["chunking_strategy"]["static"]["max_chunk_size_tokens"]
        )
    }

    pub(super) async fn empty_file(&self) -> String {
        let (store, file) = (self.store().await, self.new_file("").await);
        self.attach(&store, &file).await;
        let seen = self.ended(&store, &file).await;
        format!(
            "{}, {}",
            seen["status"].as_str().unwrap_or("gone"),
            seen["last_error"]["code"].as_str().unwrap_or("-")
        )
    }

    pub(super) async fn not_attached(&self, method: Method) -> String {
        let path = format!("/vector_stores/{}/files/{NO_FILE}", self.store().await);
        self.call(method, &path, None).await.shape()
    }

    pub(super) async fn unknown_batch(&self) -> String {
        let path = format!("/vector_stores/{}/file_batches/{NO_BATCH}", self.store().await);
        self.get(&path).await.shape()
    }

    pub(super) async fn connection_after_missing(&self) -> String {
        let address = self.url.trim_start_matches("http://").trim_end_matches("/v1");
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET /v1/vector_stores/{NO_STORE} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.key
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        // Its end, or two seconds of silence.
        let reading = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut text)).await;
        let said = String::from_utf8_lossy(&text)
            .to_lowercase()
            .contains("connection: close");
        match (reading.is_ok(), said) {
            (false, _) => "stays open".to_owned(),
            (true, true) => "closed, as announced".to_owned(),
            (true, false) => "closed without a word".to_owned(),
        }
    }

    pub(super) async fn metadata(&self) -> String {
        let store = self.store().await;
        let path = format!("/vector_stores/{store}");
        let before = self.get(&path).await.1;
        let after = self.post(&path, json!({"metadata": {"other": "b"}})).await.1;
        let keys = |store: &Value| store["metadata"].as_object().unwrap().len();
        let (before, after) = (keys(&before), keys(&after));
        let file = self.new_file(TEXT).await;
        self.attach(&store, &file).await;
        let attached = self.ended(&store, &file).await;
        let attached = attached["status"].as_str().unwrap_or("missing").to_owned();
        format!("{before} keys, then {after}; an attach then: {attached}")
    }

    pub(super) async fn many_pairs(&self) -> String {
        let pairs: serde_json::Map<String, Value> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
        self.post("/vector_stores", json!({"name": "pairs", "metadata": pairs}))
            .await
            .shape()
    }

    pub(super) async fn expiry(&self) -> String {
        let body = json!({"name": "expiring", "expires_after": {"anchor": "last_active_at", "days": 7}});
        let store = self.post("/vector_stores", body).await.1;
        if store["expires_at"].is_null() {
            "shown, without effect".to_owned()
        } else {
            "expires".to_owned()
        }
    }

    pub(super) async fn life_of_a_file(&self) -> String {
        let file = self.file("page.md", TEXT).await;
        match (file["expires_at"].as_i64(), file["created_at"].as_i64()) {
            (Some(end), Some(begin)) => format!("{} days", (end - begin) / 86_400),
            _ => "for ever".to_owned(),
        }
    }

    pub(super) async fn name(&self) -> String {
        let file = self.file("Возврат 1.md", TEXT).await;
        format!("`{}`", file["filename"].as_str().unwrap())
    }

    pub(super) async fn limit(&self) -> String {
        let page = self.get("/files?limit=2").await.1;
        let count = page["data"].as_array().unwrap().len();
        if count == 2 {
            "is kept".to_owned()
        } else {
            "is ignored".to_owned()
        }
    }

    pub(super) async fn cursor(&self) -> String {
        let path = format!("/vector_stores/{}/files?after={NO_FILE}", self.store().await);
        self.get(&path).await.shape()
    }

    pub(super) async fn found(&self, store: &str, query: &str) -> Vec<Value> {
        let body = json!({"query": query, "max_num_results": 5, "rewrite_query": false});
        let page = self.post(&format!("/vector_stores/{store}/search"), body).await.1;
        page["data"].as_array().cloned().unwrap_or_default()
    }

    pub(super) async fn search(&self) -> String {
        let store = self.store().await;
        let file = self.attached(&store, TEXT).await;
        let found = self.found(&store, TEXT).await;
        let Some(hit) = found.first() else {
            return "finds nothing".to_owned();
        };
        let ids = if hit["file_id"] == json!(file) {
            "the file's id"
        } else if hit["attributes"]["file_id"] == json!(file) {
            "ids of its own, the file's in `attributes`"
        } else {
            "unknown ids"
        };
        let rated = if hit["score"].is_null() {
            "null"
        } else {
            "a number"
        };
        format!("{ids}; score of an equal text: {rated}")
    }

    pub(super) async fn bare_search(&self) -> String {
        let store = self.store().await;
        let body = json!({"query": "refunds", "max_num_results": 5});
        self.post(&format!("/vector_stores/{store}/search"), body)
            .await
            .shape()
    }

    pub(super) async fn deleted_file(&self) -> String {
        let store = self.store().await;
        let file = self.attached(&store, TEXT).await;
        self.call(Method::DELETE, &format!("/files/{file}"), None).await;
        let (listed, found) = (
            self.listed(&store).await.len(),
            self.found(&store, "refunds card").await.len(),
        );
        let yes_no = |count: usize| if count > 0 { "still" } else { "no longer" };
        format!("{} listed, {} found", yes_no(listed), yes_no(found))
    }

    pub(super) async fn uploads(&self) -> String {
        let body =
            json!({"bytes": 10, "filename": "a.md", "mime_type": "text/markdown", "purpose": "assistants"});
        self.post("/uploads", body).await.shape()
    }
}
