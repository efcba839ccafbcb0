//! rag-api as the demo needs it: one function per request, the parts of the answers that are shown. Requests are sent
//! once; nothing is retried here.

use reqwest::multipart::{Form, Part};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use crate::documents::Document;
use crate::error::DemoError;

type Result<T> = std::result::Result<T, DemoError>;

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) http: Client,
    base: String,
    domain: String,
    admin_key: String,
    service_key: String,
}

#[derive(Debug, Deserialize)]
struct Created {
    id: String,
}

/// A job, as far as it is shown.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) attempts: u32,
    pub(crate) last_error: Option<String>,
    pub(crate) progress: Option<Counts>,
}

/// How far a build is.
#[expect(clippy::struct_field_names, reason = "the API's names")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) files_total: u64,
    pub(crate) files_uploaded: u64,
    pub(crate) files_attached: u64,
    pub(crate) files_completed: u64,
    pub(crate) files_failed: u64,
}

impl Job {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "cancelled")
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct IndexStatus {
    pub(crate) indexing_status: String,
    pub(crate) external_id: Option<String>,
    pub(crate) last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Items<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// A file of the index and its state at the provider.
#[derive(Debug, Deserialize)]
pub(crate) struct ProviderFile {
    pub(crate) file: File,
    pub(crate) status: String,
    pub(crate) chunking_strategy: Option<Value>,
    /// Text, or the provider's `{code, message}`.
    pub(crate) last_error: Option<Value>,
}

#[expect(clippy::struct_field_names, reason = "the API's names")]
#[derive(Debug, Deserialize)]
pub(crate) struct File {
    pub(crate) id: String,
    pub(crate) file_name: String,
    pub(crate) size_bytes: u64,
}

impl Api {
    pub(crate) fn new(base: &str, domain: &str, admin_key: &str, service_key: &str) -> Result<Self> {
        let client = Client::builder().build();
        Ok(Self {
            http: client.map_err(|source| DemoError::Transport {
                what: "preparing HTTP".to_owned(),
                source,
            })?,
            base: format!("{}/api/v1", base.trim_end_matches('/')),
            domain: domain.to_owned(),
            admin_key: admin_key.to_owned(),
            service_key: service_key.to_owned(),
        })
    }

    /// Creates the connection, or changes the one that is there.
    pub(crate) async fn connect_provider(&self, provider_type: &str, url: &str, key: &str) -> Result<()> {
        let path = format!("/admin/providers/connections/{provider_type}");
        let body = json!({
            "base_url": url, "auth_type": "api_key", "credentials": {"api_key": key}, "is_enabled": true,
        });
        let what = "setting the provider connection";
        let request = |method| {
            self.request(method, &path)
                .bearer_auth(&self.admin_key)
                .json(&body)
        };
        let answer = transport(what, request(Method::POST).send().await)?;
        if answer.status() == StatusCode::CONFLICT {
            accepted(what, transport(what, request(Method::PATCH).send().await)?).await?;
        } else {
            accepted(what, answer).await?;
        }
        Ok(())
    }

    pub(crate) async fn create_index(&self, body: &Value) -> Result<String> {
        let request = self.service(Method::POST, "/indexes").json(body);
        Ok(answer::<Created>("creating the index", request).await?.id)
    }

    /// Streams the document; it is never in memory as a whole.
    pub(crate) async fn upload(&self, document: &Document) -> Result<String> {
        let file = tokio::fs::File::open(&document.path).await;
        let file = file.map_err(|source| DemoError::File {
            path: document.path.clone(),
            source,
        })?;
        let body = Body::wrap_stream(ReaderStream::new(file));
        let part =
            Part::stream_with_length(body, document.size_bytes).file_name(document.upload_name.clone());
        let form = Form::new()
            .text("chunking_strategy", document.strategy().to_string())
            .part("file", part);
        let request = self.service(Method::POST, "/files").multipart(form);
        Ok(
            answer::<Created>(&format!("uploading {}", document.shown), request)
                .await?
                .id,
        )
    }

    pub(crate) async fn link(&self, index_id: &str, file_id: &str, order: usize) -> Result<()> {
        let request = self.service(Method::POST, &format!("/indexes/{index_id}/files/{file_id}"));
        send("linking a file", request.json(&json!({"include_order": order}))).await?;
        Ok(())
    }

    pub(crate) async fn build(&self, index_id: &str) -> Result<Job> {
        let request = self.service(Method::POST, &format!("/indexes/{index_id}/build"));
        answer("starting the build", request).await
    }

    pub(crate) async fn job(&self, job_id: &str) -> Result<Job> {
        answer(
            "asking for the job",
            self.service(Method::GET, &format!("/jobs/{job_id}")),
        )
        .await
    }

    pub(crate) async fn index_status(&self, index_id: &str) -> Result<IndexStatus> {
        answer(
            "asking for the index's status",
            self.service(Method::GET, &format!("/indexes/{index_id}/status")),
        )
        .await
    }

    /// All pages.
    pub(crate) async fn provider_files(&self, index_id: &str) -> Result<Vec<ProviderFile>> {
        let mut files = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut request = self.service(Method::GET, &format!("/indexes/{index_id}/provider-files"));
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Items<ProviderFile> = answer("asking for the files' states", request).await?;
            files.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(files);
            }
        }
    }

    /// A request with the service key, in the demo's domain.
    pub(crate) fn service(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(&self.service_key)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .header("X-Domain-Id", &self.domain)
    }
}

/// Sends and decodes a successful answer.
pub(crate) async fn answer<T: DeserializeOwned>(what: &str, request: RequestBuilder) -> Result<T> {
    transport(what, send(what, request).await?.json().await)
}

async fn send(what: &str, request: RequestBuilder) -> Result<Response> {
    accepted(what, transport(what, request.send().await)?).await
}

pub(crate) fn transport<T>(what: &str, result: reqwest::Result<T>) -> Result<T> {
    result.map_err(|source| DemoError::Transport {
        what: what.to_owned(),
        source,
    })
}

/// The answer if it is a success, else what its body says.
pub(crate) async fn accepted(what: &str, answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default();
    Err(DemoError::Refused {
        what: what.to_owned(),
        status,
        message: complaint(&body),
    })
}

/// `detail` or `title` of a problem body, `error.message` of a provider's, else the text.
fn complaint(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let found = [&json["detail"], &json["error"]["message"], &json["title"]]
        .into_iter()
        .find_map(Value::as_str);
    found.unwrap_or(body).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_part_of_a_refusal_is_shown() {
        for (body, shown) in [
            (
                r#"{"type":"x","title":"Conflict","detail":"The index is being built."}"#,
                "The index is being built.",
            ),
            (r#"{"title":"Conflict","status":409}"#, "Conflict"),
            (
                r#"{"error":{"message":"No such vector store"}}"#,
                "No such vector store",
            ),
            ("upstream is away\n", "upstream is away"),
        ] {
            assert_eq!(complaint(body), shown);
        }
    }
}
