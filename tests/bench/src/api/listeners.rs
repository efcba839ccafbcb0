//! Many listeners to the events of a few jobs: what they cost the database, and whether one misses how its job ends.
//!
//! The jobs are rows that no worker touches; this program moves them on, as a worker would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use futures::stream;
use reqwest::{Client, Response, StatusCode};
use tokio::task::JoinSet;

use crate::setting::{DOMAIN, Setting};
use crate::size;

const FEW: usize = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// Connections that are opened at the same time.
const OPENING: usize = 200;
/// One listener in so many hangs up in the middle and comes back.
const RECONNECTS: usize = 10;
const LIMIT: Duration = Duration::from_mins(3);

#[derive(Default)]
struct Counts {
    events: AtomicUsize,
    reconnects: AtomicUsize,
    /// From now on: connecting costs statements of its own, which are not what the window is to show.
    may_reconnect: AtomicBool,
}

pub(crate) async fn measure(setting: &Setting) -> Result<()> {
    let (listeners, jobs) = (size("LISTENERS", 10_000), size("JOBS", 200));
    let client = Client::builder().build()?;
    println!("listeners: {jobs} jobs that change once a second\n");
    println!("| listeners | statements/s | events/s | reconnects | saw the end | open to end, s |");
    println!("|-----------|--------------|----------|------------|-------------|----------------|");
    for listeners in [FEW, listeners] {
        run(setting, &client, listeners, jobs).await?;
    }
    println!();
    Ok(())
}

async fn run(setting: &Setting, client: &Client, listeners: usize, jobs: usize) -> Result<()> {
    let jobs = make_jobs(setting, jobs).await?;
    let (began, counts) = (Instant::now(), Arc::<Counts>::default());
    let opened = stream::iter(0..listeners).map(|n| {
        let url = format!(
            "http://{}/api/v1/jobs/{}/events",
            setting.api,
            jobs[n % jobs.len()]
        );
        Listener::open(client.clone(), url, setting.key.clone(), n % RECONNECTS == 1)
    });
    let opened: Vec<Result<Listener>> = opened.buffer_unordered(OPENING).collect().await;
    let mut tasks = JoinSet::new();
    for listener in opened {
        let (listener, counts) = (listener?, Arc::clone(&counts));
        tasks.spawn(async move { listener.listen(&counts).await });
    }
    let (questions, events, at) = (
        questions(setting).await?,
        counts.events.load(Ordering::Relaxed),
        Instant::now(),
    );
    let mut own = 1;
    while at.elapsed() < WINDOW {
        change(setting).await?;
        own += 1;
    }
    let seconds = at.elapsed().as_secs_f64();
    let statements = self::questions(setting).await? - questions - own;
    let events = counts.events.load(Ordering::Relaxed) - events;

    counts.may_reconnect.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        change(setting).await?;
    }

    setting
        .sql("UPDATE queue_jobs SET state = 'done', order_us = 1 WHERE state = 'running'")
        .await?;
    let saw = tokio::time::timeout(LIMIT, async {
        let mut saw = 0;
        while let Some(ended) = tasks.join_next().await {
            saw += usize::from(ended??);
        }
        anyhow::Ok(saw)
    });
    let saw = saw
        .await
        .context("listeners still wait for the end of their jobs")??;
    let (open, reconnects) = (
        began.elapsed().as_secs_f64(),
        counts.reconnects.load(Ordering::Relaxed),
    );
    println!(
        "| {listeners:9} | {:12.1} | {:8.0} | {reconnects:10} | {saw:11} | {open:14.1} |",
        statements as f64 / seconds,
        events as f64 / seconds,
    );
    ensure!(saw == listeners, "{} listeners missed the end", listeners - saw);
    Ok(())
}

/// Every job gets on, and a second passes.
async fn change(setting: &Setting) -> Result<()> {
    setting
        .sql("UPDATE rag_index_builds SET files_completed = files_completed + 1 WHERE domain_id = 'bench-events'")
        .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Of the whole server.
async fn questions(setting: &Setting) -> Result<i64> {
    let (_, value): (String, String) = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Questions'")
        .fetch_one(&setting.pool)
        .await?;
    Ok(value.parse()?)
}

/// Running jobs with the row that holds their progress; answers their ids.
async fn make_jobs(setting: &Setting, count: usize) -> Result<Vec<String>> {
    setting
        .sql("DELETE FROM queue_jobs; DELETE FROM rag_index_builds WHERE domain_id = 'bench-events'")
        .await?;
    let mut jobs = Vec::with_capacity(count);
    for n in 0..count {
        let hex = format!("0190000000007000800000{n:010x}");
        let id = format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        );
        setting
            .sql(&format!(
                "INSERT INTO queue_jobs (id, kind, state, order_us, rank_us, max_attempts, tenant, payload, created_at) \
                 VALUES (UNHEX('{hex}'), 'index_build', 'running', 4102444800000000, 0, 8, '{DOMAIN}', '{{}}', UTC_TIMESTAMP(6)); \
                 INSERT INTO rag_index_builds (job_id, index_id, domain_id, step) VALUES ('{id}', UUID(), 'bench-events', 'x')"
            ))
            .await?;
        jobs.push(id);
    }
    Ok(jobs)
}

struct Listener {
    client: Client,
    url: String,
    key: String,
    response: Response,
    /// Hangs up at an event, once that is due, and comes back.
    restless: bool,
}

impl Listener {
    async fn open(client: Client, url: String, key: String, restless: bool) -> Result<Self> {
        let response = Self::connect(&client, &url, &key, None).await?;
        Ok(Self {
            client,
            url,
            key,
            response,
            restless,
        })
    }

    async fn connect(client: &Client, url: &str, key: &str, last: Option<&str>) -> Result<Response> {
        let mut request = client.get(url).bearer_auth(key).header("X-Domain-Id", DOMAIN);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        Ok(request.send().await?.error_for_status()?)
    }

    /// Listens to the end; answers whether the job was seen to be done.
    async fn listen(mut self, counts: &Counts) -> Result<bool> {
        let (mut text, mut last) = (String::new(), None);
        loop {
            let Some(bytes) = self.response.chunk().await? else {
                return Ok(false);
            };
            text.push_str(std::str::from_utf8(&bytes)?);
            while let Some((event, rest)) = text.split_once("\n\n") {
                if let Some(id) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                    last = Some(id.to_owned());
                    counts.events.fetch_add(1, Ordering::Relaxed);
                }
                if event.contains("\"state\":\"done\"") {
                    return Ok(true);
                }
                text = rest.to_owned();
            }
            if self.restless && counts.may_reconnect.load(Ordering::Relaxed) {
                self.restless = false;
                text.clear();
                self.response = Self::connect(&self.client, &self.url, &self.key, last.as_deref()).await?;
                counts.reconnects.fetch_add(1, Ordering::Relaxed);
                if self.response.status() == StatusCode::NO_CONTENT {
                    return Ok(false);
                }
            }
        }
    }
}
