//! An application of its own for each test, and a small client for it.

use std::path::PathBuf;

use apalis_mariadb::{Queue, QueueConfig};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use rag_api::{App, KeyCache, Parts, Role};
use rag_connections::Connections;
use rag_domain::ApiKeyId;
use rag_files::FileStore;
use rag_providers::{NetworkPolicy, Registry};
use rag_secrets::Keyring;
use rag_settings::Settings;
use rag_telemetry::Metrics;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{Connection as _, MySqlConnection, MySqlPool};
use tower::ServiceExt as _;

pub(crate) const DOMAIN: &str = "tenant-1";
const SECRETS_KEY: &str = "a c4n4ry key of these tests";

pub(crate) struct Api {
    pub(crate) db: MySqlPool,
    pub(crate) queue: Queue,
    pub(crate) settings: Settings,
    router: Router,
    folder: tempfile::TempDir,
    /// An admin key.
    key: String,
}

/// A request that is being put together.
pub(crate) struct Call<'a> {
    api: &'a Api,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Body,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Api {
    /// With keys required, small limits, and plain http to loopback providers.
    pub(crate) async fn new(pool: MySqlPool) -> Self {
        Self::with(pool, &[]).await
    }

    pub(crate) async fn with(pool: MySqlPool, settings: &[(&str, &str)]) -> Self {
        pool.close().await;
        Self::at(&pool.connect_options(), settings).await
    }

    /// Another server with the same database, and a folder of its own.
    pub(crate) async fn another(&self) -> Self {
        Self::at(&self.db.connect_options(), &[]).await
    }

    async fn at(database: &MySqlConnectOptions, settings: &[(&str, &str)]) -> Self {
        rag_canary::watch_logs();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::from_lookup(|name| {
            let own = settings
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, value)| (*value).to_owned());
            own.or_else(|| match name {
                "DATABASE_URI" => Some("mysql://unused/unused".to_owned()),
                "API_MAX_FILE_BYTES" => Some("200000".to_owned()),
                "API_MAX_BODY_BYTES" => Some("100000".to_owned()),
                "API_UPLOAD_IDLE_SECONDS" => Some("1".to_owned()),
                _ => None,
            })
        })
        .unwrap();
        // The pool of the test has neither READ COMMITTED nor UTC.
        let db = rag_db::connect(database.clone(), 16).await.unwrap();
        let queue = Queue::new(db.clone(), QueueConfig::default());
        let network = NetworkPolicy {
            allow_http_loopback: true,
            allow_private: false,
        };
        let keyring = Keyring::from_setting(SECRETS_KEY).unwrap();
        let app = App::new(Parts {
            db: db.clone(),
            files: FileStore::at(folder.path()),
            queue: queue.clone(),
            connections: Connections::new(Registry::builtin(), Some(keyring), network),
            settings: settings.clone(),
            metrics: Metrics::detached().unwrap(),
            keys: KeyCache::default(),
        });
        let mut api = Self {
            db,
            queue,
            settings,
            router: rag_api::router(app),
            folder,
            key: String::new(),
        };
        api.key = api.make_key(Role::Admin, None).await;
        api
    }

    pub(crate) async fn make_key(&self, role: Role, domains: Option<&[&str]>) -> String {
        let key = rag_api::new_key();
        let domains: Option<Vec<String>> =
            domains.map(|domains| domains.iter().map(|domain| (*domain).to_owned()).collect());
        let hash = rag_api::fingerprint(key.expose_secret());
        let mut connection = self.db.acquire().await.unwrap();
        rag_db::api_keys::insert(
            &mut connection,
            ApiKeyId::new(),
            "test",
            role.as_str(),
            domains.as_deref(),
            &hash,
        )
        .await
        .unwrap();
        key.expose_secret().to_owned()
    }

    /// For requests over a real connection.
    pub(crate) fn admin_key(&self) -> &str {
        &self.key
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// Asks until the answer has this status.
    pub(crate) async fn eventually(&self, path: &str, status: u16) -> Answer {
        for _ in 0..200 {
            let answer = self.get(path).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("GET {path} is never answered with {status}");
    }

    /// The jobs, once there are so many.
    pub(crate) async fn eventually_jobs(&self, count: usize) -> Vec<Value> {
        for _ in 0..200 {
            let answer = self.get("/api/v1/jobs").await;
            let jobs = answer.json()["items"].as_array().cloned().unwrap_or_default();
            if jobs.len() == count {
                return jobs;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("there are never {count} jobs");
    }

    /// A call by an admin about [`DOMAIN`].
    pub(crate) fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call {
            api: self,
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Body::empty(),
        }
        .header("authorization", &format!("Bearer {}", self.key))
        .header("x-domain-id", DOMAIN)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path).json(body).send().await
    }

    pub(crate) async fn upload(&self, name: &str, contents: &str) -> Value {
        let answer = self
            .call("POST", "/api/v1/files")
            .form(&[("file", Some(name), contents)])
            .send()
            .await;
        answer.expect(201)
    }

    pub(crate) async fn make_index(&self) -> String {
        let body = json!({"name": "Contracts", "provider_type": "openai"});
        id(&self.post("/api/v1/indexes", &body).await.expect(201))
    }

    pub(crate) async fn make_connection(&self) {
        let body = json!({"auth_type": "api_key", "credentials": {"api_key": "sk-c4n4ry-hunter2"}});
        self.post("/api/v1/admin/providers/connections/openai", &body)
            .await
            .expect(201);
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&self.db).await.unwrap()
    }

    /// Every file below FILES_ROOT.
    pub(crate) fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }
}

/// Whatever the test was about, no secret may lie open in its database.
impl Drop for Api {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let options = (*self.db.connect_options()).clone();
        // The test's own runtime is on its way out.
        let search = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut db = MySqlConnection::connect_with(&options).await.unwrap();
                rag_canary::database::search(&mut db).await
            })
        });
        let leaks = search.join().expect("the search for leaked secrets ends");
        assert!(leaks.is_empty(), "secrets leaked: {leaks:#?}");
    }
}

pub(crate) fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

impl Call<'_> {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .insert(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    pub(crate) fn domain(self, domain: &str) -> Self {
        self.header("x-domain-id", domain)
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// A form of parts (name, file name, contents).
    pub(crate) fn form(self, parts: &[(&str, Option<&str>, &str)]) -> Self {
        let mut body = String::new();
        for (name, file_name, contents) in parts {
            let file_name = file_name
                .map(|name| format!("; filename=\"{name}\""))
                .unwrap_or_default();
            let head = format!("Content-Disposition: form-data; name=\"{name}\"{file_name}");
            body.extend(["--XX\r\n", &head, "\r\n\r\n", contents, "\r\n"]);
        }
        body.push_str("--XX--\r\n");
        self.header("content-type", "multipart/form-data; boundary=XX")
            .body(body)
    }

    /// Begins the call; the answer's body is not read.
    pub(crate) fn start(self) -> tokio::task::JoinHandle<Response> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.path)
            .body(self.body)
            .unwrap();
        *request.headers_mut() = self.headers;
        let router = self.api.router();
        tokio::spawn(async move { router.oneshot(request).await.unwrap() })
    }

    pub(crate) async fn send(self) -> Answer {
        let answer = self.send_for_a_key().await;
        rag_canary::assert_none("an answer", &answer.bytes);
        answer
    }

    /// For the one answer that may have a secret in its body.
    pub(crate) async fn send_for_a_key(self) -> Answer {
        let response = self.start().await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        rag_canary::assert_none("an answer's headers", format!("{:?}", parts.headers).as_bytes());
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The answer must have this status; its body may be anything.
    #[track_caller]
    pub(crate) fn expect_bytes(&self, status: u16) {
        let text = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(500)]);
        assert_eq!(self.status.as_u16(), status, "{text}");
    }

    /// The JSON body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status.as_u16(), status, "{text}");
        if self.bytes.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The body of an answer that must be a complete problem of this status and type.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, kind: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(body["type"], kind, "{body}");
        assert_eq!(body["status"], status);
        assert!(
            !body["title"].as_str().unwrap().is_empty() && !body["detail"].as_str().unwrap().is_empty(),
            "{body}"
        );
        assert_eq!(
            body["request_id"],
            self.headers["x-request-id"].to_str().unwrap(),
            "R-B8"
        );
        body
    }

    pub(crate) fn fields(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| error["field"].as_str().unwrap().to_owned())
            .collect()
    }
}
