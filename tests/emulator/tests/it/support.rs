//! A small client, so that tests read as what is asked and what comes back.

use rag_emulator::{Action, Builder, Emulator, Rule, StoreFileSnapshot, When};
use reqwest::{Method, RequestBuilder, Response, multipart};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) struct Client {
    pub http: reqwest::Client,
    pub emulator: Emulator,
    key: String,
}

/// With indexing that takes no time worth naming.
pub(crate) async fn start() -> Client {
    with(Emulator::builder().indexing(1, 0.0)).await
}

pub(crate) async fn with(builder: Builder) -> Client {
    // Fails when another test was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    Client {
        http,
        emulator: builder.start().await.unwrap(),
        key: "Bearer key".to_owned(),
    }
}

impl Client {
    pub(crate) fn set_authorization(&mut self, value: &str) {
        value.clone_into(&mut self.key);
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.emulator.url());
        self.http.request(method, url).header("authorization", &self.key)
    }

    /// Status and JSON, whatever they are.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        read(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        ok(self.call(Method::GET, path, None).await)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        ok(self.call(Method::POST, path, Some(body)).await)
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        ok(self.call(Method::DELETE, path, None).await)
    }

    /// The status and the error of a call that must fail.
    pub(crate) async fn refused(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, body) = self.call(method, path, body).await;
        assert!(status >= 400, "{path} answered {status} {body}");
        (status, body["error"].clone())
    }

    pub(crate) async fn refused_post(&self, path: &str, body: Value) -> (u16, Value) {
        self.refused(Method::POST, path, Some(body)).await
    }

    pub(crate) fn upload_request(&self, name: &str, bytes: impl Into<Vec<u8>>) -> RequestBuilder {
        let file = multipart::Part::bytes(bytes.into())
            .file_name(name.to_owned())
            .mime_str("text/plain")
            .unwrap();
        let form = multipart::Form::new()
            .text("purpose", "assistants")
            .part("file", file);
        self.request(Method::POST, "/files").multipart(form)
    }

    /// The id of the new file.
    pub(crate) async fn upload(&self, name: &str, bytes: impl Into<Vec<u8>>) -> String {
        id(&ok(
            read(self.upload_request(name, bytes).send().await.unwrap()).await
        ))
    }

    /// The id of a new store.
    pub(crate) async fn store(&self) -> String {
        id(&self.post("/vector_stores", json!({ "name": "store" })).await)
    }

    /// Waits until the file has left `in_progress`.
    pub(crate) async fn settled(&self, store: &str, file: &str) -> Value {
        until("the file to be indexed", async || {
            let shown = self.get(&format!("/vector_stores/{store}/files/{file}")).await;
            (shown["status"] != "in_progress").then_some(shown)
        })
        .await
    }

    /// The indexing of all files waits until the gate is opened.
    pub(crate) fn hold_indexing(&self, gate: &str) {
        let gate = gate.to_owned();
        self.fault(When::default(), Action::HoldIndexing { gate });
    }

    pub(crate) fn open_gate(&self, gate: &str) {
        self.emulator.control().open_gate(gate);
    }

    pub(crate) async fn attach(&self, store: &str, body: Value) -> Value {
        let file = body["file_id"].as_str().unwrap().to_owned();
        self.post(&format!("/vector_stores/{store}/files"), body).await;
        self.settled(store, &file).await
    }

    pub(crate) fn fault(&self, when: When, then: Action) {
        self.emulator.control().add_fault(Rule { when, then }).unwrap();
    }

    /// What the control API knows of a store's file.
    pub(crate) fn inside(&self, store: &str, file: &str) -> StoreFileSnapshot {
        let stores = self.emulator.control().state().stores;
        let store = stores.into_iter().find(|found| &*found.id == store).unwrap();
        store
            .files
            .into_iter()
            .find(|found| &*found.file_id == file)
            .unwrap()
    }
}

/// Asks until the answer is there.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "waited in vain for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub(crate) fn ok((status, body): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{body}");
    body
}

pub(crate) fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

pub(crate) fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(id).collect()
}

pub(crate) fn on(operation: &str) -> When {
    When {
        operation: Some(operation.to_owned()),
        ..When::default()
    }
}

/// `count` words, each of which is one token.
pub(crate) fn words(count: usize) -> String {
    (0..count)
        .map(|n| format!("word{n}"))
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn fixed(size: u32, overlap: u32) -> Value {
    json!({ "type": "static", "static": { "max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap } })
}
