//! What a server does, call by call: the same plain requests at any server, each with a short verdict. So a real server and
//! the emulator's profile of it are held side by side, and the tables of `docs/providers.md` are made.

use std::fmt::Write as _;
use std::time::Duration;

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

fn fixed(size: u32, overlap: u32) -> Value {
    json!({"type": "static", "static": {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}})
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

    async fn batch(&self, with_files: bool) -> String {
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
    async fn running(&self) -> Result<(String, String), String> {
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

    async fn while_a_batch_runs(&self) -> String {
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

    async fn cancelled_batch(&self) -> String {
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

    async fn single_attach(&self) -> String {
        let (store, file) = (
            self.store().await,
            self.new_file(&format!("slow embedding 1000\n{TEXT}")).await,
        );
        let seen = self.attach(&store, &file).await;
        format!("{}, {}", seen.0, seen.1["status"].as_str().unwrap_or("no status"))
    }

    async fn again(&self) -> String {
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

    async fn empty_file(&self) -> String {
        let (store, file) = (self.store().await, self.new_file("").await);
        self.attach(&store, &file).await;
        let seen = self.ended(&store, &file).await;
        format!(
            "{}, {}",
            seen["status"].as_str().unwrap_or("gone"),
            seen["last_error"]["code"].as_str().unwrap_or("-")
        )
    }

    async fn not_attached(&self, method: Method) -> String {
        let path = format!("/vector_stores/{}/files/{NO_FILE}", self.store().await);
        self.call(method, &path, None).await.shape()
    }

    async fn unknown_batch(&self) -> String {
        let path = format!("/vector_stores/{}/file_batches/{NO_BATCH}", self.store().await);
        self.get(&path).await.shape()
    }

    async fn connection_after_missing(&self) -> String {
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

    async fn metadata(&self) -> String {
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

    async fn many_pairs(&self) -> String {
        let pairs: serde_json::Map<String, Value> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
        self.post("/vector_stores", json!({"name": "pairs", "metadata": pairs}))
            .await
            .shape()
    }

    async fn expiry(&self) -> String {
        let body = json!({"name": "expiring", "expires_after": {"anchor": "last_active_at", "days": 7}});
        let store = self.post("/vector_stores", body).await.1;
        if store["expires_at"].is_null() {
            "shown, without effect".to_owned()
        } else {
            "expires".to_owned()
        }
    }

    async fn life_of_a_file(&self) -> String {
        let file = self.file("page.md", TEXT).await;
        match (file["expires_at"].as_i64(), file["created_at"].as_i64()) {
            (Some(end), Some(begin)) => format!("{} days", (end - begin) / 86_400),
            _ => "for ever".to_owned(),
        }
    }

    async fn name(&self) -> String {
        let file = self.file("Возврат 1.md", TEXT).await;
        format!("`{}`", file["filename"].as_str().unwrap())
    }

    async fn limit(&self) -> String {
        let page = self.get("/files?limit=2").await.1;
        let count = page["data"].as_array().unwrap().len();
        if count == 2 {
            "is kept".to_owned()
        } else {
            "is ignored".to_owned()
        }
    }

    async fn cursor(&self) -> String {
        let path = format!("/vector_stores/{}/files?after={NO_FILE}", self.store().await);
        self.get(&path).await.shape()
    }

    async fn found(&self, store: &str, query: &str) -> Vec<Value> {
        let body = json!({"query": query, "max_num_results": 5, "rewrite_query": false});
        let page = self.post(&format!("/vector_stores/{store}/search"), body).await.1;
        page["data"].as_array().cloned().unwrap_or_default()
    }

    async fn search(&self) -> String {
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

    async fn bare_search(&self) -> String {
        let store = self.store().await;
        let body = json!({"query": "refunds", "max_num_results": 5});
        self.post(&format!("/vector_stores/{store}/search"), body)
            .await
            .shape()
    }

    async fn deleted_file(&self) -> String {
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

    async fn uploads(&self) -> String {
        let body =
            json!({"bytes": 10, "filename": "a.md", "mime_type": "text/markdown", "purpose": "assistants"});
        self.post("/uploads", body).await.shape()
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
