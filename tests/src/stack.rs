//! Database, emulator, API and workers of one test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Mutex, Once};
use std::time::Duration;

use rag_emulator::{Builder, Control, Emulator};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{Connection as _, MySqlConnection};
use tempfile::TempDir;

use crate::program::{self, Program};
use crate::{Client, TestDatabase, eventually};

/// The domain of [`Stack::client`].
pub const DOMAIN: &str = "acme";
/// A canary: it must appear nowhere but in requests to the provider.
pub const PROVIDER_KEY: &str = "sk-c4n4ry-4f1c0e5b9a7d";

/// Everything one test needs; all of it ends with this value, and fails the test if a secret has come to light in it.
#[derive(Debug)]
pub struct Stack {
    pub database: TestDatabase,
    pub emulator: Emulator,
    pub api: Program,
    pub admin: Client,
    pub client: Client,
    pub api_url: String,
    folder: TempDir,
    env: Vec<(String, String)>,
}

/// How a test differs from the usual.
#[derive(Debug)]
pub struct StackBuilder {
    emulator: Builder,
    env: Vec<(String, String)>,
    of_emulator: Vec<(String, OfEmulator)>,
    database: Option<TestDatabase>,
    before_api: Option<String>,
}

/// A setting's value, once the emulator is up.
type OfEmulator = fn(&Emulator) -> String;

impl StackBuilder {
    /// Another emulator than one that indexes a file in a few milliseconds.
    #[must_use]
    pub fn emulator(self, emulator: Builder) -> Self {
        Self { emulator, ..self }
    }

    /// A setting for API and workers.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A setting that depends on where the emulator is.
    #[must_use]
    pub fn setting_of_emulator(mut self, name: &str, value: OfEmulator) -> Self {
        self.of_emulator.push((name.to_owned(), value));
        self
    }

    /// Commands of a shell that runs before the API, to limit what it may have: `ulimit -n 200`.
    #[must_use]
    pub fn before_api(mut self, commands: &str) -> Self {
        self.before_api = Some(commands.to_owned());
        self
    }

    /// On this database instead of one of the usual server's.
    #[must_use]
    pub fn database(mut self, database: TestDatabase) -> Self {
        self.database = Some(database);
        self
    }

    pub async fn start(self) -> Stack {
        install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let is_given = self.database.is_some();
        let database = match self.database {
            Some(database) => database,
            None => TestDatabase::new().await,
        };
        let emulator = self.emulator.api_key(PROVIDER_KEY).start().await.unwrap();
        let address = free_address();
        let mut env = settings(&database, folder.path(), &address);
        env.extend(self.env);
        let of_emulator = self.of_emulator.into_iter();
        env.extend(of_emulator.map(|(name, value)| (name, value(&emulator))));
        if is_given {
            program::output("rag-api", &["migrate"], &env).await;
        }
        let admin_key = program::output(
            "rag-api",
            &["keys", "create", "--name", "it", "--role", "admin"],
            &env,
        )
        .await;
        let service_key = program::output(
            "rag-api",
            &["keys", "create", "--name", "it", "--all-domains"],
            &env,
        )
        .await;
        let log = folder.path().join("api.log");
        let api = match &self.before_api {
            None => Program::start("rag-api", &["serve"], &env, log),
            Some(commands) => Program::start_after(commands, "rag-api", &["serve"], &env, log),
        };
        let api_url = format!("http://{address}");
        let stack = Stack {
            admin: Client::new(&api_url, &admin_key, None),
            client: Client::new(&api_url, &service_key, Some(DOMAIN)),
            database,
            emulator,
            api,
            api_url,
            folder,
            env,
        };
        stack.ready(&address).await;
        stack.connect("openai").await;
        stack
    }
}

impl Stack {
    pub fn builder() -> StackBuilder {
        StackBuilder {
            emulator: Emulator::builder().indexing(5, 0.0),
            env: Vec::new(),
            of_emulator: Vec::new(),
            database: None,
            before_api: None,
        }
    }

    /// The usual stack, without workers.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts a worker.
    pub fn worker(&self, name: &str) -> Program {
        self.worker_with(name, &[])
    }

    /// Starts a worker that has these settings changed.
    pub fn worker_with(&self, name: &str, changed: &[(&str, &str)]) -> Program {
        let mut env = self.env.clone();
        env.push(("WORKER_LISTEN".to_owned(), free_address()));
        let changed = changed
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        env.extend(changed);
        Program::start(
            "rag-worker",
            &[],
            &env,
            self.folder.path().join(format!("{name}.log")),
        )
    }

    /// Starts another API at this address, after these commands of a shell.
    pub fn api_after(&self, commands: &str, address: &str) -> Program {
        let mut env = self.env.clone();
        env.push(("API_LISTEN".to_owned(), address.to_owned()));
        let log = self.folder.path().join("another-api.log");
        Program::start_after(commands, "rag-api", &["serve"], &env, log)
    }

    /// SIGKILL for the API; another one takes its place, at the same address.
    pub async fn kill_api(&mut self) {
        self.api.signal("KILL").await;
        self.api.wait(Duration::from_secs(10)).await;
        self.api = Program::start(
            "rag-api",
            &["serve"],
            &self.env,
            self.folder.path().join("api.log"),
        );
        let address = self.api_url.trim_start_matches("http://").to_owned();
        self.ready(&address).await;
    }

    pub fn control(&self) -> Control {
        self.emulator.control()
    }

    /// Makes a connection of this provider type to the emulator.
    pub async fn connect(&self, provider_type: &str) {
        let credentials = json!({"api_key": PROVIDER_KEY});
        self.connect_with(
            provider_type,
            json!({"auth_type": "api_key", "credentials": credentials}),
        )
        .await;
    }

    /// As [`Stack::connect`], with these fields of a connection.
    pub async fn connect_with(&self, provider_type: &str, body: Value) {
        self.connect_to(provider_type, &self.emulator.url(), body).await;
    }

    /// Makes a connection to any server, with these fields.
    pub async fn connect_to(&self, provider_type: &str, base_url: &str, mut body: Value) {
        body["base_url"] = json!(base_url);
        let answer = self
            .admin
            .post(&format!("/admin/providers/connections/{provider_type}"), &body)
            .await;
        assert!(answer.status.is_success(), "connection: {answer:?}");
    }

    /// Runs a command of `rag-api` to its end, with these settings changed; answers what it printed.
    pub async fn command(&self, args: &[&str], changed: &[(&str, &str)]) -> String {
        let mut env = self.env.clone();
        env.extend(
            changed
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        program::output("rag-api", args, &env).await
    }

    /// Where secrets have come to light: the programs' logs and metrics, and the database. (Answers are looked at as they
    /// come.)
    pub async fn leaks(&self) -> Vec<String> {
        let metrics = async {
            let answer = reqwest::get(format!("{}/metrics", self.api_url)).await?;
            answer.text().await
        };
        // A test may have stopped the API.
        let metrics = metrics.await.unwrap_or_default();
        let texts = [("a log", self.logs()), ("the metrics", metrics)];
        let mut leaks: Vec<String> = texts
            .iter()
            .filter_map(|(what, text)| Some(format!("{what}: {}", rag_canary::find(text.as_bytes())?)))
            .collect();
        let options = MySqlConnectOptions::from_str(&self.database.uri).unwrap();
        let mut db = MySqlConnection::connect_with(&options).await.unwrap();
        leaks.extend(rag_canary::database::search(&mut db).await);
        leaks
    }

    /// How many contents lie in the store of files.
    pub fn stored_files(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else {
                return 0;
            };
            entries
                .map(|entry| entry.unwrap())
                // The programs' own small files in the root.
                .filter(|entry| !entry.file_name().to_string_lossy().starts_with(".rag-files-"))
                .map(|entry| entry.path())
                .map(|path| if path.is_dir() { count(&path) } else { 1 })
                .sum()
        }
        count(&self.files_root())
    }

    /// Where API and workers keep the contents of files.
    pub fn files_root(&self) -> std::path::PathBuf {
        self.folder.path().join("files")
    }

    /// Everything that the programs have logged.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                all.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
        all
    }

    /// A log as if a program had written it, for tests of the search.
    pub fn plant_log(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.log"));
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn ready(&self, address: &str) {
        let http = reqwest::Client::new();
        let url = format!("http://{address}/health/ready");
        eventually("the API to be ready", Duration::from_secs(20), || async {
            http.get(&url)
                .send()
                .await
                .ok()
                .filter(|answer| answer.status().is_success())
        })
        .await;
    }
}

/// No test can forget to look.
impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // The test's own runtime is on its way out.
        let leaks = std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(self.leaks())
            });
            looking.join().expect("the search for leaked secrets ends")
        });
        assert!(leaks.is_empty(), "secrets leaked: {leaks:#?}");
    }
}

fn settings(database: &TestDatabase, folder: &Path, api: &str) -> Vec<(String, String)> {
    let files = folder.join("files").display().to_string();
    [
        ("DATABASE_URI", database.uri.as_str()),
        ("DATABASE_MAX_CONNECTIONS", "8"),
        ("FILES_ROOT", &files),
        ("API_LISTEN", api),
        ("PROVIDER_SECRETS_KEY", "a c4n4ry key that only these tests use"),
        ("PROVIDER_ALLOW_LOOPBACK_HTTP", "true"),
        ("BUILD_POLL_MIN_MS", "50"),
        ("BUILD_POLL_MAX_MS", "500"),
        ("QUEUE_LEASE_SECONDS", "3"),
        ("MISSING_CONFIRM_SECONDS", "1"),
        ("DELETIONS_EVERY_SECONDS", "2"),
        ("WORKER_GRACE_SECONDS", "5"),
        ("RUST_LOG", "info,rag_api=debug,rag_api::http::edge=warn,rag_connections=debug,rag_db=debug,rag_providers=debug,rag_worker=debug"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// An address that nobody else gets as long as this process lives, for a program that is about to listen there.
///
/// A socket stays bound to the port without listening: the system gives the port to nobody who asks for any, and a program that
/// sets `SO_REUSEADDR`, as ours do, can listen at it all the same. A port that was only free a moment ago goes to another test's
/// server now and then, which then answers in the place of ours.
pub fn free_address() -> String {
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    RESERVED.lock().unwrap().push(socket);
    address.to_string()
}

fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another test of this process was faster.
        let _installed = rustls::crypto::ring::default_provider().install_default();
    });
}
