//! What others do at the provider behind our back: by the provider's own API, marked as external in the emulator's ledger.

use std::time::Duration;

use rag_tests::{PROVIDER_KEY, Stack, eventually};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

/// Somebody else at the provider.
pub(crate) struct Other<'a> {
    stack: &'a Stack,
    http: reqwest::Client,
}

impl<'a> Other<'a> {
    pub(crate) fn at(stack: &'a Stack) -> Self {
        Self {
            stack,
            http: reqwest::Client::new(),
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.stack.emulator.url()))
            .bearer_auth(PROVIDER_KEY)
            .header("x-emulator-external", "1")
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.json().await.unwrap()
    }

    pub(crate) async fn create_store(&self, body: &Value) -> String {
        let store = self
            .send(self.request(Method::POST, "/vector_stores").json(body))
            .await;
        store["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn update_store(&self, store: &str, body: &Value) {
        let path = format!("/vector_stores/{store}");
        self.send(self.request(Method::POST, &path).json(body)).await;
    }

    pub(crate) async fn delete_store(&self, store: &str) {
        let path = format!("/vector_stores/{store}");
        self.send(self.request(Method::DELETE, &path)).await;
    }

    pub(crate) async fn create_file(&self, name: &str, content: &[u8]) -> String {
        let part = Part::bytes(content.to_vec())
            .file_name(name.to_owned())
            .mime_str("text/plain")
            .unwrap();
        let form = Form::new().text("purpose", "assistants").part("file", part);
        let file = self
            .send(self.request(Method::POST, "/files").multipart(form))
            .await;
        file["id"].as_str().unwrap().to_owned()
    }

    /// Attaches a file, and waits until it is indexed, or has failed.
    pub(crate) async fn attach(&self, store: &str, file: &str, strategy: Option<Value>) {
        let mut body = json!({"file_id": file});
        if let Some(strategy) = strategy {
            body["chunking_strategy"] = strategy;
        }
        let path = format!("/vector_stores/{store}/files");
        self.send(self.request(Method::POST, &path).json(&body)).await;
        let path = format!("{path}/{file}");
        eventually("the file to be indexed", Duration::from_secs(20), || async {
            let file = self.send(self.request(Method::GET, &path)).await;
            (file["status"] != "in_progress").then_some(())
        })
        .await;
    }

    pub(crate) async fn detach(&self, store: &str, file: &str) {
        let path = format!("/vector_stores/{store}/files/{file}");
        self.send(self.request(Method::DELETE, &path)).await;
    }

    /// Changes a file's bytes in place.
    pub(crate) async fn replace(&self, file: &str, content: &[u8]) {
        let url = format!("{}/_emulator/files/{file}/content", self.stack.emulator.origin());
        let answer = self.http.put(url).body(content.to_vec()).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
}
