//! What the tenants have: indexes, files, links and versions, as the callers of the API know them. All texts have one size,
//! and the tenants use the same names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rag_tests::{Client, Stack, eventually};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Names of files, each used by everybody.
pub(super) const NAMES: usize = 12;
const INDEXES: usize = 3;
const TENANTS: [&str; 2] = ["acme", "globex"];
const TEXT_BYTES: usize = 300;
const LIMIT: Duration = Duration::from_mins(4);

pub(super) fn name(n: usize) -> String {
    format!("page-{n}.md")
}

/// What `whose` says in a version: words by which a search finds it, and by which one sees whose it is.
pub(super) fn text(whose: &str, name: &str, version: u32) -> String {
    let mut text = format!("handbook of owner {whose} name {name} version {version:06} ");
    while text.len() < TEXT_BYTES {
        text.push_str("handbook ");
    }
    text.truncate(TEXT_BYTES);
    text
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) version: u32,
}

#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) name: &'static str,
    pub(super) client: Client,
    pub(super) files: BTreeMap<String, File>,
    /// Each with the files that are linked.
    pub(super) indexes: BTreeMap<String, BTreeSet<String>>,
    jobs: Vec<String>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) tenants: Vec<Tenant>,
    next_version: u32,
}

impl Tenant {
    pub(super) fn text(&self, file: &File) -> String {
        text(self.name, &file.name, file.version)
    }

    async fn upload(&mut self, name: String, version: u32) -> String {
        let file = File { name, version };
        let id = self
            .client
            .upload(&file.name, self.text(&file).as_bytes(), None)
            .await;
        self.files.insert(id.clone(), file);
        id
    }

    async fn create_index(&mut self) -> String {
        let id = self.client.create_index("handbook", "openai").await;
        self.indexes.insert(id.clone(), BTreeSet::new());
        id
    }

    async fn link(&mut self, index: &str, file: &str) {
        let answer = self
            .client
            .post(&format!("/indexes/{index}/files/{file}"), &json!({}))
            .await;
        assert!(answer.status.is_success(), "link: {answer:?}");
        self.indexes.get_mut(index).unwrap().insert(file.to_owned());
    }

    /// Asks for a build; `false`: it is not taken now (the provider's connection, say).
    async fn build(&mut self, index: &str) {
        let job = self.client.build(index).await;
        self.jobs.push(job);
    }

    /// No text of anybody else in an answer.
    fn assert_own(&self, answer: &Value) {
        let text = answer.to_string();
        let own = format!("owner {} ", self.name);
        for (at, _) in text.match_indices("owner ") {
            assert!(text[at..].starts_with(&own), "{} is served {text}", self.name);
        }
    }
}

fn any<'a, T>(random: &mut StdRng, of: impl ExactSizeIterator<Item = &'a T>) -> Option<&'a T> {
    let mut of = of;
    match of.len() {
        0 => None,
        len => of.nth(random.random_range(0..len)),
    }
}

impl World {
    pub(super) async fn begin(stack: &Stack, random: &mut StdRng) -> Self {
        let mut tenants = Vec::new();
        for name in TENANTS {
            tenants.push(Tenant {
                name,
                client: stack.client.in_domain(name),
                files: BTreeMap::new(),
                indexes: BTreeMap::new(),
                jobs: Vec::new(),
            });
        }
        let mut world = Self {
            tenants,
            next_version: 1,
        };
        for tenant in &mut world.tenants {
            for n in 0..NAMES {
                tenant.upload(name(n), 0).await;
            }
            for _ in 0..INDEXES {
                let index = tenant.create_index().await;
                let files: Vec<String> = tenant.files.keys().cloned().collect();
                for file in files.into_iter().filter(|_| random.random_bool(0.6)) {
                    tenant.link(&index, &file).await;
                }
                tenant.build(&index).await;
            }
        }
        world
    }

    /// One thing that a caller does.
    pub(super) async fn edit(&mut self, _stack: &Stack, random: &mut StdRng) {
        let version = self.next_version;
        self.next_version += 1;
        let at = random.random_range(0..self.tenants.len());
        let tenant = &mut self.tenants[at];
        let Some(index) = any(random, tenant.indexes.keys()).cloned() else {
            tenant.create_index().await;
            return;
        };
        let file = any(random, tenant.files.keys()).cloned();
        match (random.random_range(0..14_u32), file) {
            (0..=3, Some(file)) => {
                let name = tenant.files[&file].name.clone();
                let changed = File { name, version };
                tenant
                    .client
                    .replace(&file, tenant.text(&changed).as_bytes())
                    .await;
                tenant.files.insert(file, changed);
            }
            (4 | 5, Some(file)) => {
                if tenant.indexes[&index].contains(&file) {
                    tenant.client.unlink(&index, &file).await;
                    tenant.indexes.get_mut(&index).unwrap().remove(&file);
                } else {
                    tenant.link(&index, &file).await;
                }
            }
            (6, Some(file)) => {
                let answer = tenant.client.delete(&format!("/files/{file}?force=true")).await;
                assert!(answer.status.is_success(), "{answer:?}");
                tenant.files.remove(&file);
                for links in tenant.indexes.values_mut() {
                    links.remove(&file);
                }
            }
            (7, _) => {
                let name = name(random.random_range(0..NAMES));
                let file = tenant.upload(name, version).await;
                tenant.link(&index, &file).await;
            }
            (8, _) => {
                if let Some(job) = any(random, tenant.jobs.iter()).cloned() {
                    tenant
                        .client
                        .post(&format!("/jobs/{job}/cancel"), &json!({}))
                        .await;
                }
            }
            (9, _) if tenant.indexes.len() > 1 => {
                let answer = tenant.client.delete(&format!("/indexes/{index}")).await;
                assert!(answer.status.is_success(), "{answer:?}");
                tenant.indexes.remove(&index);
            }
            (9, _) => {
                tenant.create_index().await;
            }
            (10, _) => {
                tenant
                    .client
                    .post(&format!("/indexes/{index}/sync"), &json!({}))
                    .await;
            }
            _ => tenant.build(&index).await,
        }
    }

    /// A search amid it all may fail, and may find an old version; never anything of others.
    pub(super) async fn search(&self, _stack: &Stack, random: &mut StdRng) {
        let tenant = &self.tenants[random.random_range(0..self.tenants.len())];
        let Some(index) = any(random, tenant.indexes.keys()) else {
            return;
        };
        let query = json!({"query": "handbook owner"});
        let answer = tenant
            .client
            .post(&format!("/indexes/{index}/search"), &query)
            .await;
        if answer.status.is_success() {
            tenant.assert_own(&answer.body);
        }
    }

    /// Each index is built once more; nothing is left to do.
    pub(super) async fn settle(&mut self, stack: &Stack) {
        for tenant in &mut self.tenants {
            let indexes: Vec<String> = tenant.indexes.keys().cloned().collect();
            for index in indexes {
                let built = eventually("a build that is done", LIMIT, || async {
                    let job = tenant.client.build(&index).await;
                    let job = tenant.client.finished(&job, LIMIT).await;
                    (job["output"]["indexing_status"] == "done").then_some(job)
                })
                .await;
                assert_eq!(built["state"], "done", "{built}");
            }
        }
        quiet(stack).await;
    }

    /// When it is quiet, each search answers, and what it finds is of the present versions.
    pub(super) async fn search_all(&self, _stack: &Stack) {
        for tenant in &self.tenants {
            for (index, links) in &tenant.indexes {
                let query = json!({"query": "handbook owner", "max_num_results": 50});
                let answer = tenant
                    .client
                    .post(&format!("/indexes/{index}/search"), &query)
                    .await;
                let found = answer.expect(200);
                tenant.assert_own(&found);
                let current: BTreeSet<String> = links
                    .iter()
                    .map(|file| format!("version {:06}", tenant.files[file].version))
                    .collect();
                let text = found.to_string();
                for (at, _) in text.match_indices("version 0") {
                    let version = &text[at..at + "version 000000".len()];
                    assert!(current.contains(version), "{version} of {index}: {text}");
                }
            }
        }
    }
}

/// Waits until nothing is left to be done at the provider, and what was deleted is gone.
pub(super) async fn quiet(stack: &Stack) {
    eventually(
        "the end of all work at the provider, and of all deletions",
        LIMIT,
        || async {
            let left: i64 = sqlx::query_scalar(
                "SELECT (SELECT COUNT(*) FROM rag_provider_intents) \
             + (SELECT COUNT(*) FROM rag_files WHERE deleted_at IS NOT NULL) \
             + (SELECT COUNT(*) FROM rag_indexes WHERE deleted_at IS NOT NULL)",
            )
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
            (left == 0).then_some(())
        },
    )
    .await;
}
