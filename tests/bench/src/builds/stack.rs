//! A database, an API and workers of one run, as a user has them: released programs, settings left at their defaults unless
//! the run is about them.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use rag_bench::programs::{cpu_us, free_address, peak_mib, program, until_it_listens};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, MySqlPool, Row as _};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::provider::Provider;
use crate::usage::Usage;

/// Requests of this program to the API at the same time.
const CALLERS: usize = 16;
/// The API sets so many files of an index in one call.
const FILES_OF_A_CALL: usize = 10_000;
/// Between two looks at the jobs.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Stack<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) pool: MySqlPool,
    name: String,
    folder: TempDir,
    env: Vec<(String, String)>,
    api: String,
    key: String,
    admin_key: String,
    http: reqwest::Client,
    _api: Child,
}

/// Killed when dropped.
pub(crate) struct Worker(Child);

impl Worker {
    fn pid(&self) -> Result<u32> {
        self.0.id().context("the worker runs")
    }
}

impl<'a> Stack<'a> {
    pub(crate) async fn start(provider: &'a Provider) -> Result<Self> {
        let server = std::env::var("DATABASE_URL").context("DATABASE_URL names the server to measure on")?;
        let name = format!("build_bench_{}", uuid());
        let (base, query) = server.split_once('?').unwrap_or((&server, ""));
        let (base, _) = base.rsplit_once('/').context("DATABASE_URL names no database")?;
        let uri = format!("{base}/{name}?{query}");
        let admin = MySqlPool::connect(&server).await?;
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&admin).await?;
        let folder = tempfile::tempdir()?;
        let api = free_address()?;
        let env = settings(&uri, folder.path(), &api);
        command("rag-api", &env, &["migrate"]).await?;
        let admin_key = command(
            "rag-api",
            &env,
            &["keys", "create", "--name", "bench", "--role", "admin"],
        )
        .await?;
        let key = command(
            "rag-api",
            &env,
            &["keys", "create", "--name", "bench", "--all-domains"],
        )
        .await?;
        let running = start("rag-api", &["serve"], &env, &folder.path().join("api.log"))?;
        until_it_listens(&api).await?;
        let stack = Self {
            provider,
            pool: MySqlPoolOptions::new().max_connections(2).connect(&uri).await?,
            name,
            folder,
            env,
            api,
            key,
            admin_key,
            http: reqwest::Client::new(),
            _api: running,
        };
        let connection = json!({
            "auth_type": "api_key", "credentials": {"api_key": "bench"}, "base_url": provider.url,
        });
        let path = "/admin/providers/connections/openai";
        stack.call_as_admin(Method::POST, path, &connection).await?;
        Ok(stack)
    }

    /// The database goes; the programs end with this value.
    pub(crate) async fn end(self) -> Result<()> {
        let drop = format!("DROP DATABASE {}", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&self.pool).await?;
        Ok(())
    }

    /// One that is ready.
    pub(crate) async fn worker(&self, settings: &[(&str, &str)]) -> Result<Worker> {
        let address = free_address()?;
        let mut env = self.env.clone();
        env.push(("WORKER_LISTEN".to_owned(), address.clone()));
        let own = settings.iter();
        env.extend(own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let log = self.folder.path().join(format!("worker-{address}.log"));
        let worker = Worker(start("rag-worker", &[], &env, &log)?);
        until_it_listens(&address).await?;
        Ok(worker)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("http://{}/api/v1{path}", self.api))
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        send(self.authorized(method, path).json(body)).await
    }

    async fn call_as_admin(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = self.request(method, path).bearer_auth(&self.admin_key);
        send(request.json(body)).await
    }

    fn authorized(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path)
            .bearer_auth(&self.key)
            .header("X-Domain-Id", "bench")
    }

    /// All files of a folder; answers their ids.
    pub(crate) async fn upload(&self, folder: &Path) -> Result<Vec<String>> {
        let mut paths = std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        paths.sort();
        let uploads = paths.into_iter().map(|path| async move {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let part = Part::bytes(std::fs::read(&path)?).file_name(name);
            id(&send(
                self.authorized(Method::POST, "/files")
                    .multipart(Form::new().part("file", part)),
            )
            .await?)
        });
        futures::stream::iter(uploads)
            .buffered(CALLERS)
            .try_collect()
            .await
    }

    /// An index of these files.
    pub(crate) async fn index(&self, files: &[String]) -> Result<String> {
        let body = json!({"name": "bench", "provider_type": "openai"});
        let index = id(&self.call(Method::POST, "/indexes", &body).await?)?;
        let (at_once, others) = files.split_at(files.len().min(FILES_OF_A_CALL));
        let members: Vec<Value> = at_once.iter().map(|file| json!({"file_id": file})).collect();
        let path = format!("/indexes/{index}/files");
        self.call(Method::PUT, &path, &json!({"files": members})).await?;
        let links = others.iter().map(|file| {
            let path = format!("{path}/{file}");
            async move { self.call(Method::POST, &path, &json!({})).await }
        });
        let links = futures::stream::iter(links).buffer_unordered(CALLERS);
        links.try_for_each(|_| std::future::ready(Ok(()))).await?;
        Ok(index)
    }

    /// So many indexes of the same files.
    pub(crate) async fn indexes(&self, count: usize, files: &[String]) -> Result<Vec<String>> {
        let making = (0..count).map(|_| self.index(files));
        futures::stream::iter(making)
            .buffer_unordered(CALLERS)
            .try_collect()
            .await
    }

    pub(crate) async fn enqueue(&self, index: &str) -> Result<()> {
        let path = format!("/indexes/{index}/build");
        self.call(Method::POST, &path, &json!({})).await?;
        Ok(())
    }

    pub(crate) async fn enqueue_all(&self, indexes: &[String]) -> Result<()> {
        let requests = indexes.iter().map(|index| self.enqueue(index));
        let requests = futures::stream::iter(requests).buffer_unordered(CALLERS);
        requests.try_for_each(|()| std::future::ready(Ok(()))).await
    }

    /// Jobs that are not over.
    pub(crate) async fn active_jobs(&self) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM queue_jobs WHERE state IN ('scheduled', 'ready', 'blocked', 'running') \
                   AND kind IN ('index_build', 'provider_sync')";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// Builds these indexes to the end, from the first request on; what the workers and the database had to do for it.
    pub(crate) async fn build(&self, indexes: &[String], workers: &[Worker]) -> Result<Usage> {
        let usage = self.measure(workers, self.enqueue_all(indexes)).await?;
        let sql = "SELECT COUNT(*) FROM rag_indexes WHERE indexing_status <> 'done'";
        let undone: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await?;
        ensure!(undone == 0, "{undone} indexes are not done");
        Ok(usage)
    }

    /// Syncs the provider to the end; answers the sync's result too.
    pub(crate) async fn sync(&self, query: &str, workers: &[Worker]) -> Result<(Usage, Value)> {
        let path = format!("/admin/providers/openai/sync?{query}");
        let mut job = String::new();
        let usage = self
            .measure(workers, async {
                job = id(&self.call_as_admin(Method::POST, &path, &json!({})).await?)?;
                Ok(())
            })
            .await?;
        let path = format!("/admin/providers/openai/syncs/{job}");
        let mut over = self.call_as_admin(Method::GET, &path, &Value::Null).await?;
        ensure!(over["output"]["status"] == "done", "the sync is not done: {over}");
        Ok((usage, over["output"].take()))
    }

    /// From a request for jobs until all of them are over.
    async fn measure(&self, workers: &[Worker], request: impl Future<Output = Result<()>>) -> Result<Usage> {
        let pids = workers.iter().map(Worker::pid).collect::<Result<Vec<_>>>()?;
        let (calls, cpu, counters) = (self.provider.calls().await?, cpu(&pids)?, self.counters().await?);
        let began = Instant::now();
        request.await?;
        let mut looks = 1.0;
        while self.active_jobs().await? > 0 {
            looks += 1.0;
            tokio::time::sleep(PAUSE).await;
        }
        let wall = began.elapsed().as_secs_f64();
        let now = self.counters().await?;
        Ok(Usage {
            wall,
            cpu: cpu_seconds(&pids, cpu)?,
            peak_mib: peak(workers)?,
            statements: now.0 - counters.0 - looks,
            commits: now.1 - counters.1,
            calls: self.provider.calls().await?.since(&calls),
        })
    }

    /// Statements and commits of the server since its start.
    async fn counters(&self) -> Result<(f64, f64)> {
        let sql = "SHOW GLOBAL STATUS WHERE variable_name IN ('Com_commit', 'Questions')";
        let rows = sqlx::raw_sql(sql).fetch_all(&self.pool).await?;
        let values = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get::<String, _>(1)?.parse()?)));
        let values: std::collections::BTreeMap<String, f64> = values.collect::<Result<_>>()?;
        Ok((values["Questions"], values["Com_commit"]))
    }

    /// What the server calls itself.
    pub(crate) async fn server(&self) -> Result<String> {
        Ok(sqlx::query_scalar("SELECT VERSION()")
            .fetch_one(&self.pool)
            .await?)
    }

    /// From a build's request to the provider's first call of it.
    pub(crate) async fn first_call(&self, index: &str) -> Result<f64> {
        let began_at: DateTime<Utc> = Utc::now();
        self.enqueue(index).await?;
        while self.active_jobs().await? > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let called_at = self.provider.last_store_made_at().await?;
        Ok((called_at - began_at).as_seconds_f64())
    }
}

/// The greatest of these workers, in MiB.
pub(crate) fn peak(workers: &[Worker]) -> Result<f64> {
    let peaks = workers.iter().map(|worker| peak_mib(worker.pid()?));
    Ok(peaks.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max))
}

fn cpu(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| cpu_us(*pid)).sum()
}

fn cpu_seconds(pids: &[u32], before_us: f64) -> Result<f64> {
    Ok((cpu(pids)? - before_us) / 1e6)
}

fn settings(uri: &str, folder: &Path, api: &str) -> Vec<(String, String)> {
    let files = folder.join("files").display().to_string();
    [
        ("DATABASE_URI", uri),
        ("FILES_ROOT", &files),
        ("API_LISTEN", api),
        ("PROVIDER_SECRETS_KEY", "a key that only benchmarks use"),
        ("PROVIDER_ALLOW_LOOPBACK_HTTP", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Runs a program to its end; answers what it printed.
async fn command(name: &str, env: &[(String, String)], arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program(name)?);
    let output = command.args(arguments).envs(env.iter().cloned()).output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {arguments:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn start(name: &str, arguments: &[&str], env: &[(String, String)], log: &Path) -> Result<Child> {
    let mut command = Command::new(program(name)?);
    command
        .args(arguments)
        .envs(env.iter().cloned())
        .kill_on_drop(true);
    let started = command
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log)?)
        .spawn();
    started.with_context(|| name.to_owned())
}

async fn send(request: reqwest::RequestBuilder) -> Result<Value> {
    let answer = request.send().await?;
    let (status, path) = (answer.status(), answer.url().path().to_owned());
    let body = answer.text().await?;
    ensure!(status.is_success(), "{path}: {status}: {body}");
    Ok(serde_json::from_str(&body)?)
}

fn id(body: &Value) -> Result<String> {
    Ok(body["id"].as_str().context("an id")?.to_owned())
}

fn uuid() -> String {
    format!("{:016x}", rand::random::<u64>())
}
