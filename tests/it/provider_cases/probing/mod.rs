//! What a server does, call by call: the same plain requests at any server, each with a short verdict. So a real server and
//! the emulator's profile of it are held side by side, and the tables of `docs/providers.md` are made.

mod questions;

use std::fmt::Write as _;
use std::time::Duration;

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

/// A question, and the server's answer to it in a few words.
pub(crate) type Verdict = (&'static str, String);

/// One server, asked directly.
#[derive(Debug)]
pub(crate) struct Probe {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// Status and body.
#[derive(Debug)]
struct Seen(u16, Value);

impl Seen {
    /// The status, and of an error where its message is.
    fn shape(&self) -> String {
        let Self(status, body) = self;
        let place = [
            ("error.message", &body["error"]["message"]),
            ("error.detail", &body["error"]["detail"]),
            ("detail", &body["detail"]),
        ];
        match place.iter().find(|(_, value)| !value.is_null()) {
            Some((place, _)) => format!("{status}, {place}"),
            None => status.to_string(),
        }
    }

    fn id(&self) -> String {
        self.1["id"]
            .as_str()
            .unwrap_or_else(|| panic!("no id: {self:?}"))
            .to_owned()
    }
}

const TEXT: &str =
    "Customers can return a product within fourteen days, and refunds go to the original card.";
/// Of a form that every server takes for an id of its own.
const NO_FILE: &str = "file-00000000000000000000000000000000";
const NO_STORE: &str = "vs_00000000000000000000000000000000";
const NO_BATCH: &str = "vsfb_00000000000000000000000000000000";

impl Probe {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_mins(1))
            .build()
            .unwrap();
        Self {
            http,
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Asks everything, one after the other.
    pub(crate) async fn ask(&self) -> Vec<Verdict> {
        vec![
            ("batch with `files`", self.batch(true).await),
            ("batch with `file_ids`", self.batch(false).await),
            (
                "store and listing while a batch runs",
                self.while_a_batch_runs().await,
            ),
            ("batch that is cancelled", self.cancelled_batch().await),
            ("answer of a single attach", self.single_attach().await),
            ("attaching again with another strategy", self.again().await),
            ("an empty file", self.empty_file().await),
            (
                "unknown store",
                self.get(&format!("/vector_stores/{NO_STORE}")).await.shape(),
            ),
            (
                "unknown store's files",
                self.get(&format!("/vector_stores/{NO_STORE}/files"))
                    .await
                    .shape(),
            ),
            ("file that is not attached", self.not_attached(Method::GET).await),
            (
                "detaching what is not attached",
                self.not_attached(Method::DELETE).await,
            ),
            ("unknown batch", self.unknown_batch().await),
            (
                "unknown file",
                self.get(&format!("/files/{NO_FILE}")).await.shape(),
            ),
            (
                "connection after an unknown store",
                self.connection_after_missing().await,
            ),
            ("wrong URL", self.get("/nowhere").await.shape()),
            (
                "wrong key",
                Self::new(&self.url, "sk-wrong")
                    .get("/vector_stores")
                    .await
                    .shape(),
            ),
            ("`metadata` after an update of it", self.metadata().await),
            ("17 pairs of metadata", self.many_pairs().await),
            ("`expires_after`", self.expiry().await),
            ("life of a file", self.life_of_a_file().await),
            ("file name `Возврат 1.md`", self.name().await),
            ("`limit` of files", self.limit().await),
            ("a cursor that names nothing", self.cursor().await),
            ("search", self.search().await),
            ("search without `rewrite_query`", self.bare_search().await),
            ("after a File was deleted", self.deleted_file().await),
            ("`/uploads`", self.uploads().await),
        ]
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Seen {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        Seen(
            response.status().as_u16(),
            response.json().await.unwrap_or_default(),
        )
    }

    async fn get(&self, path: &str) -> Seen {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Seen {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn file(&self, name: &str, text: &str) -> Value {
        let part = Part::bytes(text.as_bytes().to_vec()).file_name(name.to_owned());
        let form = Form::new().text("purpose", "assistants").part("file", part);
        let request = self
            .http
            .post(format!("{}/files", self.url))
            .bearer_auth(&self.key);
        let response = request.multipart(form).send().await.unwrap();
        response.json().await.unwrap()
    }

    async fn new_file(&self, text: &str) -> String {
        Seen(200, self.file("page.md", text).await).id()
    }

    async fn store(&self) -> String {
        self.post(
            "/vector_stores",
            json!({"name": "probe", "metadata": {"mark": "a"}}),
        )
        .await
        .id()
    }

    async fn listed(&self, store: &str) -> Vec<Value> {
        let page = self.get(&format!("/vector_stores/{store}/files")).await;
        page.1["data"]
            .as_array()
            .unwrap_or_else(|| panic!("{page:?}"))
            .clone()
    }

    async fn attach(&self, store: &str, file: &str) -> Seen {
        self.post(&format!("/vector_stores/{store}/files"), json!({"file_id": file}))
            .await
    }

    /// Attaches, and waits for the end.
    async fn attached(&self, store: &str, text: &str) -> String {
        let file = self.new_file(text).await;
        self.attach(store, &file).await;
        self.ended(store, &file).await;
        file
    }

    async fn ended(&self, store: &str, file: &str) -> Value {
        let mut seen = Value::Null;
        for _ in 0..200 {
            seen = self.get(&format!("/vector_stores/{store}/files/{file}")).await.1;
            if matches!(
                seen["status"].as_str(),
                Some("completed" | "failed" | "cancelled")
            ) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        seen
    }
}

/// `what | OpenAI | the server`, in Markdown.
pub(crate) fn table(openai: &[Verdict], server: &[Verdict]) -> String {
    let mut text = "| what | OpenAI, as the emulator plays it | this server |\n|---|---|---|\n".to_owned();
    for ((what, usual), (_, seen)) in openai.iter().zip(server) {
        let seen = if usual == seen { "the same" } else { seen };
        let _ = writeln!(text, "| {what} | {usual} | {seen} |");
    }
    text
}
