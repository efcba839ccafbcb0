//! The server that a case runs at, seen through its own HTTP API: what it shows is what counts, whoever wrote it.

use std::collections::BTreeSet;
use std::time::Duration;

use rag_emulator::Profile;
use rag_tests::{PROVIDER_KEY, Stack, eventually};
use serde_json::Value;

/// A server that somebody started for us, as `cargo xtask providers` does.
#[derive(Debug, Clone)]
pub(crate) struct RealServer {
    /// `ogx` or `litellm`.
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) key: String,
    /// Holds the id of the process to kill; it comes back by itself.
    pid_file: String,
}

impl RealServer {
    /// Panics where no server is named: the cases are ignored unless somebody asks for them.
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `cargo xtask providers`"))
        };
        Self {
            name: variable("RAG_REAL_SERVER"),
            url: variable("RAG_REAL_SERVER_URL"),
            key: variable("RAG_REAL_SERVER_KEY"),
            pid_file: variable("RAG_REAL_SERVER_PID_FILE"),
        }
    }

    /// The emulator's profile that claims to behave like it.
    pub(crate) fn profile(&self) -> Profile {
        match self.name.as_str() {
            "ogx" => Profile::Ogx,
            "litellm" => Profile::Litellm,
            other => panic!("no profile for a server called {other}"),
        }
    }

    /// SIGKILL; answers once the server is back.
    pub(crate) async fn kill(&self) {
        let pid = std::fs::read_to_string(&self.pid_file).unwrap();
        let status = tokio::process::Command::new("kill")
            .args(["-9", pid.trim()])
            .status()
            .await;
        assert!(status.unwrap().success(), "kill -9 {pid}");
        let server = Server::new(&self.url, &self.key);
        eventually("the server to be back", Duration::from_mins(3), || async {
            let now = std::fs::read_to_string(&self.pid_file).unwrap_or_default();
            let answers = now != pid
                && server
                    .try_get("/vector_stores")
                    .await
                    .is_some_and(|(status, _)| status == 200);
            answers.then_some(())
        })
        .await;
    }
}

/// A caller of the server's API beside our programs.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Server {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        // A connection each: servers that end one without saying so must not disturb the test itself.
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

    pub(crate) fn of(stack: &Stack) -> Self {
        Self::new(&stack.emulator.url(), PROVIDER_KEY)
    }

    async fn try_get(&self, path: &str) -> Option<(u16, Value)> {
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.key);
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.unwrap_or_default()))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self
            .try_get(path)
            .await
            .unwrap_or_else(|| panic!("GET {path}: no answer"));
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    async fn delete(&self, path: &str) {
        let request = self
            .http
            .delete(format!("{}{path}", self.url))
            .bearer_auth(&self.key);
        let response = request.send().await.unwrap();
        assert!(
            response.status().is_success(),
            "DELETE {path}: {}",
            response.status()
        );
    }

    /// Every item of a list once, page by page; a server that ignores cursors has said everything on its first page.
    async fn list(&self, path: &str) -> Vec<Value> {
        let (mut items, mut seen, mut after) = (Vec::new(), BTreeSet::new(), String::new());
        loop {
            let page = self.get(&format!("{path}?limit=100{after}")).await;
            let data = page["data"]
                .as_array()
                .unwrap_or_else(|| panic!("{path}: {page}"));
            let known = seen.len();
            for item in data {
                if seen.insert(item["id"].to_string()) {
                    items.push(item.clone());
                }
            }
            match data.last().and_then(|last| last["id"].as_str()) {
                Some(last) if page["has_more"] == true && seen.len() > known => {
                    after = format!("&after={last}");
                }
                _ => return items,
            }
        }
    }

    pub(crate) async fn stores(&self) -> Vec<Value> {
        self.list("/vector_stores").await
    }

    pub(crate) async fn store_files(&self, store: &str) -> Vec<Value> {
        self.list(&format!("/vector_stores/{store}/files")).await
    }

    pub(crate) async fn files(&self) -> Vec<Value> {
        self.list("/files").await
    }

    /// Takes away whatever an earlier case left, so that one failure is one failure.
    pub(crate) async fn clear(&self) {
        for store in self.stores().await {
            self.delete(&format!("/vector_stores/{}", store["id"].as_str().unwrap()))
                .await;
        }
        for file in self.files().await {
            self.delete(&format!("/files/{}", file["id"].as_str().unwrap()))
                .await;
        }
    }
}
