//! `GET /indexes/{id}/status` of indexes with ten indexed files each, against a bare select by primary key: first all callers
//! ask about one index, then each about its own, then again while each is being built.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;

use crate::load::{Caller, median};
use crate::setting::{DOMAIN, Setting};
use crate::size;

const SLICE: Duration = Duration::from_secs(1);
const FILES: u32 = 10;

/// One server's side of the comparison.
struct Side {
    name: &'static str,
    callers: Vec<Caller>,
    medians: Vec<f64>,
    all: Vec<f64>,
}

pub(crate) async fn measure(setting: &Setting) -> Result<()> {
    let few_and_many = match size("CALLERS", 0) {
        0 => vec![8, 64],
        callers => vec![callers],
    };
    for n in 0..few_and_many.iter().copied().max().unwrap_or(0) {
        make_index(setting, n).await?;
    }
    let (bare, _server) = setting.bare().await?;
    for callers in &few_and_many {
        compare(setting, &bare, *callers, 1, "at rest").await?;
        compare(setting, &bare, *callers, *callers, "at rest").await?;
    }
    begin_builds(setting).await?;
    for callers in &few_and_many {
        compare(setting, &bare, *callers, 1, "being built").await?;
        compare(setting, &bare, *callers, *callers, "being built").await?;
    }
    Ok(())
}

/// An index's id.
fn index(n: usize) -> String {
    format!("11111111-1111-4111-8111-{n:012}")
}

async fn compare(setting: &Setting, bare: &str, callers: usize, indexes: usize, state: &str) -> Result<()> {
    let pairs = size("PAIRS", 20);
    let headers = format!(
        "Authorization: Bearer {}\r\nX-Domain-Id: {DOMAIN}\r\n",
        setting.key
    );
    let of = |n: usize| index(n % indexes);
    let select = async |n| Caller::connect(bare, &format!("/{}", of(n)), "").await;
    let status = async |n| {
        let path = format!("/api/v1/indexes/{}/status", of(n));
        Caller::connect(&setting.api, &path, &headers).await
    };
    let mut sides = [
        Side::new("bare select", try_join_all((0..callers).map(select)).await?),
        Side::new("status", try_join_all((0..callers).map(status)).await?),
    ];
    for side in &mut sides {
        // Until connections and prepared statements are there.
        side.ask().await?;
        side.medians.clear();
        side.all.clear();
    }
    for _ in 0..pairs {
        for side in &mut sides {
            side.ask().await?;
        }
    }
    println!(
        "status: {pairs} pairs of slices of 1 s, {callers} callers, {indexes} indexes {state}, of {FILES} files\n"
    );
    println!("| server      | median us | p99 us | answers/s |");
    println!("|-------------|-----------|--------|-----------|");
    for side in &mut sides {
        let answers = side.all.len() as f64 / pairs as f64;
        let middle = median(&mut side.all).context("no answers")?;
        let p99 = side.all[side.all.len() * 99 / 100];
        println!("| {:11} | {middle:9.0} | {p99:6.0} | {answers:9.0} |", side.name);
    }
    let [bare, status] = &sides;
    let mut ratios: Vec<f64> = status
        .medians
        .iter()
        .zip(&bare.medians)
        .map(|(status, bare)| status / bare)
        .collect();
    let ratio = median(&mut ratios).context("no pairs")?;
    println!("\nratio of the medians, median over the pairs: {ratio:.2} (wanted: at most 1.5)\n");
    Ok(())
}

impl Side {
    fn new(name: &'static str, callers: Vec<Caller>) -> Self {
        Self {
            name,
            callers,
            medians: Vec::new(),
            all: Vec::new(),
        }
    }

    async fn ask(&mut self) -> Result<()> {
        let took = try_join_all(self.callers.iter_mut().map(|caller| caller.ask(SLICE))).await?;
        let mut took: Vec<f64> = took
            .into_iter()
            .flatten()
            .map(|took| took.as_secs_f64() * 1e6)
            .collect();
        self.medians
            .push(median(&mut took).context("no answers in a slice")?);
        self.all.extend(took);
        Ok(())
    }
}

/// An index that has been built, as the worker leaves it.
async fn make_index(setting: &Setting, n: usize) -> Result<()> {
    let index = index(n);
    setting
        .sql(&format!(
            "INSERT INTO rag_indexes (id, domain_id, name, provider_type, external_id, indexing_status, indexed_at) \
             VALUES ('{index}', '{DOMAIN}', 'handbook', 'openai', 'vs_{n}', 'done', UTC_TIMESTAMP(6)); \
             INSERT INTO rag_index_builds (job_id, index_id, domain_id, step) VALUES (UUID(), '{index}', '{DOMAIN}', 'finish')"
        ))
        .await?;
    for file in 0..FILES {
        let (tail, sha) = (format!("{n:06}{file:06}"), format!("{file:064x}"));
        let id = format!("22222222-2222-4222-8222-{tail}");
        setting
            .sql(&format!(
                "INSERT INTO rag_files (id, domain_id, file_name, file_type, size_bytes, sha256, local_path) \
                 VALUES ('{id}', '{DOMAIN}', '{file}.md', 'text/markdown', 1000, '{sha}', 'x/{tail}'); \
                 INSERT INTO rag_index_files (index_id, file_id, include_order) VALUES ('{index}', '{id}', {file}); \
                 INSERT INTO rag_provider_file_uploads (id, provider_id, local_file_id, external_file_id, content_sha256, status) \
                 VALUES ('33333333-3333-4333-8333-{tail}', 'openai', '{id}', 'file_{tail}', '{sha}', 'uploaded'); \
                 INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, \
                   content_sha256, size_bytes, state) \
                 VALUES ('44444444-4444-4444-8444-{tail}', '{index}', 'vs_{n}', '{id}', 'file_{tail}', '{sha}', 1000, 'completed')"
            ))
            .await?;
    }
    Ok(())
}

/// All indexes are being built from now on, as a worker would have it.
async fn begin_builds(setting: &Setting) -> Result<()> {
    setting
        .sql(
            "INSERT INTO queue_jobs (id, kind, state, order_us, rank_us, claim_no, max_attempts, tenant, unique_key, \
               concurrency_key, payload, created_at, started_at, claimed_at) \
             SELECT UNHEX(REPLACE(job_id, '-', '')), 'index_build', 'running', \
               UNIX_TIMESTAMP(UTC_TIMESTAMP(6) + INTERVAL 1 DAY) * 1000000, UNIX_TIMESTAMP(UTC_TIMESTAMP(6)) * 1000000, 1, 8, \
               domain_id, CONCAT('index_build:', index_id), CONCAT('index:', index_id), \
               JSON_OBJECT('index_id', index_id, 'domain_id', domain_id), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) \
             FROM rag_index_builds; \
             INSERT INTO queue_unique_keys (kind, unique_key, job_id) SELECT kind, unique_key, id FROM queue_jobs; \
             UPDATE rag_indexes SET indexing_status = 'in_progress'",
        )
        .await
}
