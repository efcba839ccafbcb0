//! A caller of the API.

use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::eventually;

/// Status and JSON body of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    /// The body, if the status is as expected.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "unexpected answer: {}", self.body);
        self.body
    }
}

/// One key and one domain.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
    domain: Option<String>,
}

impl Client {
    pub fn new(base: &str, key: &str, domain: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_mins(1))
            .build()
            .unwrap();
        Self {
            http,
            base: format!("{base}/api/v1"),
            key: key.to_owned(),
            domain: domain.map(str::to_owned),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same caller in another domain.
    #[must_use]
    pub fn in_domain(&self, domain: &str) -> Self {
        Self {
            domain: Some(domain.to_owned()),
            ..self.clone()
        }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.key);
        match &self.domain {
            Some(domain) => request.header("X-Domain-Id", domain),
            None => request,
        }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the API answers");
        let status = response.status();
        // A key is shown this once, to whoever makes it.
        let shows_a_key = response.url().path() == "/api/v1/admin/keys" && status == StatusCode::CREATED;
        rag_canary::assert_none(
            "an answer's headers",
            format!("{:?}", response.headers()).as_bytes(),
        );
        let bytes = response.bytes().await.expect("the API answers with a body");
        if !shows_a_key {
            rag_canary::assert_none("an answer", &bytes);
        }
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        Answer { status, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Uploads a file; answers its id.
    pub async fn upload(&self, name: &str, content: &[u8], strategy: Option<Value>) -> String {
        let mut form = Form::new().part("file", Part::bytes(content.to_vec()).file_name(name.to_owned()));
        if let Some(strategy) = strategy {
            form = form.text("chunking_strategy", strategy.to_string());
        }
        let answer = self
            .send(self.request(Method::POST, "/files").multipart(form))
            .await;
        text(&answer.expect(201), "id")
    }

    /// Replaces the bytes of a file.
    pub async fn replace(&self, file: &str, content: &[u8]) {
        let path = format!("/files/{file}/content");
        self.send(self.request(Method::PUT, &path).body(content.to_vec()))
            .await
            .expect(200);
    }

    /// Makes an index at this provider; answers its id.
    pub async fn create_index(&self, name: &str, provider_type: &str) -> String {
        let body = json!({"name": name, "provider_type": provider_type});
        text(&self.post("/indexes", &body).await.expect(201), "id")
    }

    pub async fn link(&self, index: &str, file: &str) {
        self.post(&format!("/indexes/{index}/files/{file}"), &json!({}))
            .await
            .expect(201);
    }

    pub async fn unlink(&self, index: &str, file: &str) {
        let answer = self.delete(&format!("/indexes/{index}/files/{file}")).await;
        assert!(answer.status.is_success(), "unlink: {answer:?}");
    }

    /// Asks for a build; answers the job's id.
    pub async fn build(&self, index: &str) -> String {
        text(
            &self
                .post(&format!("/indexes/{index}/build"), &json!({}))
                .await
                .expect(202),
            "id",
        )
    }

    pub async fn job(&self, job: &str) -> Value {
        self.get(&format!("/jobs/{job}")).await.expect(200)
    }

    /// Waits until the job is over; answers it.
    pub async fn finished(&self, job: &str, limit: Duration) -> Value {
        eventually(&format!("the end of job {job}"), limit, || async {
            let body = self.job(job).await;
            matches!(body["state"].as_str(), Some("done" | "failed" | "cancelled")).then_some(body)
        })
        .await
    }

    pub async fn index(&self, index: &str) -> Value {
        self.get(&format!("/indexes/{index}")).await.expect(200)
    }

    /// The per-file view of an index.
    pub async fn provider_files(&self, index: &str) -> Vec<Value> {
        let body = self
            .get(&format!("/indexes/{index}/provider-files"))
            .await
            .expect(200);
        body["items"]
            .as_array()
            .unwrap_or_else(|| panic!("no items: {body}"))
            .clone()
    }
}

fn text(body: &Value, field: &str) -> String {
    body[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {body}"))
        .to_owned()
}
