//! Our programs, and the server they work at.

use std::collections::BTreeSet;
use std::time::Duration;

use rag_emulator::{Emulator, Profile};
use rag_tests::{PROVIDER_KEY, Program, Stack, eventually};
use serde_json::{Value, json};

use super::{Probe, RealServer, Server};
use crate::fixtures::jobs::search_orphans;

/// The provider type under which any OpenAI-compatible server is connected.
pub(crate) const PROVIDER: &str = "sentralix";
/// Real servers share the machine with everything else here.
pub(crate) const LIMIT: Duration = Duration::from_mins(4);

/// One case's API, database and server.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) stack: Stack,
    pub(crate) server: Server,
}

impl Site {
    pub(crate) async fn emulated(profile: Profile) -> Self {
        let emulator = Emulator::builder()
            .profile(profile)
            .indexing(5, 0.0)
            .embedding_delays();
        let stack = Stack::builder().emulator(emulator);
        let stack = stack.setting("ORPHANS_MIN_AGE_SECONDS", "1").start().await;
        stack.connect(PROVIDER).await;
        let server = Server::of(&stack);
        Self { stack, server }
    }

    /// At a server that is already there, and has nothing on it from now on.
    pub(crate) async fn real(real: &RealServer) -> Self {
        let stack = Stack::builder()
            .setting("ORPHANS_MIN_AGE_SECONDS", "1")
            .start()
            .await;
        let server = Server::new(&real.url, &real.key);
        server.clear().await;
        let body = json!({"auth_type": "api_key", "credentials": {"api_key": real.key}});
        stack.connect_to(PROVIDER, &real.url, body).await;
        Self { stack, server }
    }

    /// For plain questions to the emulator.
    pub(crate) fn probe(&self) -> Probe {
        Probe::new(&self.stack.emulator.url(), PROVIDER_KEY)
    }

    pub(crate) fn worker(&self) -> Program {
        self.stack.worker("worker")
    }

    /// Uploads a file and links it.
    pub(crate) async fn add(&self, index: &str, name: &str, text: &[u8], strategy: Option<Value>) -> String {
        let file = self.stack.client.upload(name, text, strategy).await;
        self.stack.client.link(index, &file).await;
        file
    }

    /// Builds to the end; answers the job, whatever became of it.
    pub(crate) async fn build(&self, index: &str) -> Value {
        let client = &self.stack.client;
        client.finished(&client.build(index).await, LIMIT).await
    }

    /// Builds, demands success, and that the store holds exactly what is linked.
    pub(crate) async fn built(&self, index: &str) {
        let job = self.build(index).await;
        self.assert_built(index, &job).await;
    }

    pub(crate) async fn assert_built(&self, index: &str, job: &Value) {
        assert_eq!(job["state"], "done", "{job}");
        let row = self.stack.client.index(index).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job} {row}");
        let views = self.stack.client.provider_files(index).await;
        for view in &views {
            assert_eq!(view["status"], "completed", "{view}");
        }
        assert_eq!(
            self.attached(index).await,
            copies(&views),
            "the store and our rows"
        );
    }

    pub(crate) async fn store(&self, index: &str) -> String {
        let row = self.stack.client.index(index).await;
        row["external_id"]
            .as_str()
            .unwrap_or_else(|| panic!("no store: {row}"))
            .to_owned()
    }

    /// Ids of the files that the server shows in the index's store as completed.
    pub(crate) async fn attached(&self, index: &str) -> BTreeSet<String> {
        let files = self.server.store_files(&self.store(index).await).await;
        let ids = files.iter().map(|file| {
            assert_eq!(file["status"], "completed", "{file}");
            file["id"].as_str().unwrap().to_owned()
        });
        ids.collect()
    }

    /// What a rebuild must not change: stores, files, and what is attached where since when.
    pub(crate) async fn snapshot(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for store in self.server.stores().await {
            let id = store["id"].as_str().unwrap();
            all.push(json!([id, store["created_at"]]));
            for file in self.server.store_files(id).await {
                all.push(json!([id, file["id"], file["created_at"]]));
            }
        }
        let files = self.server.files().await;
        all.extend(files.iter().map(|file| json!([file["id"], file["created_at"]])));
        all.sort_by_key(Value::to_string);
        all
    }

    /// Waits until the server holds this many files.
    pub(crate) async fn uploaded(&self, count: usize) {
        eventually("the uploads", LIMIT, || async {
            (self.server.files().await.len() >= count).then_some(())
        })
        .await;
    }

    /// Deletes every index and file, searches for orphans, and demands that the server is empty.
    pub(crate) async fn leave_nothing(self) {
        let _worker = self.stack.worker("cleaner");
        let client = &self.stack.client;
        for kind in ["indexes", "files"] {
            let page = client.get(&format!("/{kind}?limit=100")).await.expect(200);
            for item in page["items"].as_array().unwrap() {
                let path = format!("/{kind}/{}", item["id"].as_str().unwrap());
                let answer = client.delete(&path).await;
                if answer.status == 204 {
                    // Nothing of it is at the provider: it is gone at once.
                    continue;
                }
                let job = answer.expect(202);
                let job = client.finished(job["id"].as_str().unwrap(), LIMIT).await;
                assert_eq!(job["state"], "done", "{path}: {job}");
            }
        }
        // What is younger than that is left alone.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let report = search_orphans(&self.stack, PROVIDER, "delete", &json!({})).await;
        let (stores, files) = (self.server.stores().await, self.server.files().await);
        assert!(
            stores.is_empty() && files.is_empty(),
            "left at the server: {stores:#?} {files:#?}\nthe search for orphans said {report:#}"
        );
    }
}

/// What the views say our files are called at the provider.
fn copies(views: &[Value]) -> BTreeSet<String> {
    let attachments = views
        .iter()
        .flat_map(|view| view["attachments"].as_array().unwrap());
    attachments
        .map(|attachment| attachment["external_file_id"].as_str().unwrap().to_owned())
        .collect()
}
