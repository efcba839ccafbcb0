//! `GET /indexes/{id}/status` of an index with ten indexed files, against a bare select by primary key.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;

use crate::load::{Caller, median};
use crate::setting::{DOMAIN, Setting};
use crate::size;

const SLICE: Duration = Duration::from_secs(1);
const INDEX: &str = "11111111-1111-4111-8111-111111111111";
const FILES: u32 = 10;

/// One server's side of the comparison.
struct Side {
    name: &'static str,
    callers: Vec<Caller>,
    medians: Vec<f64>,
    all: Vec<f64>,
}

pub(crate) async fn measure(setting: &Setting) -> Result<()> {
    make_index(setting).await?;
    let (pairs, callers) = (size("PAIRS", 20), size("CALLERS", 8));
    let (bare, _server) = setting.bare().await?;
    let headers = format!(
        "Authorization: Bearer {}\r\nX-Domain-Id: {DOMAIN}\r\n",
        setting.key
    );
    let path = format!("/api/v1/indexes/{INDEX}/status");
    let mut sides = [
        Side::new("bare select", &bare, &format!("/{INDEX}"), "", callers).await?,
        Side::new("status", &setting.api, &path, &headers, callers).await?,
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
    println!("status: {pairs} pairs of slices of 1 s, {callers} callers, an index of {FILES} files\n");
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
    async fn new(
        name: &'static str,
        address: &str,
        path: &str,
        headers: &str,
        callers: usize,
    ) -> Result<Self> {
        let callers = (0..callers).map(|_| Caller::connect(address, path, headers));
        Ok(Self {
            name,
            callers: try_join_all(callers).await?,
            medians: Vec::new(),
            all: Vec::new(),
        })
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
async fn make_index(setting: &Setting) -> Result<()> {
    setting
        .sql(&format!(
            "INSERT INTO rag_indexes (id, domain_id, name, provider_type, external_id, indexing_status, indexed_at) \
             VALUES ('{INDEX}', '{DOMAIN}', 'handbook', 'openai', 'vs_1', 'done', UTC_TIMESTAMP(6)); \
             INSERT INTO rag_index_builds (job_id, index_id, domain_id, step) VALUES (UUID(), '{INDEX}', '{DOMAIN}', 'finish')"
        ))
        .await?;
    for n in 0..FILES {
        let file = format!("22222222-2222-4222-8222-{n:012}");
        let sha = format!("{n:064x}");
        setting
            .sql(&format!(
                "INSERT INTO rag_files (id, domain_id, file_name, file_type, size_bytes, sha256, local_path) \
                 VALUES ('{file}', '{DOMAIN}', '{n}.md', 'text/markdown', 1000, '{sha}', 'x/{n}'); \
                 INSERT INTO rag_index_files (index_id, file_id, include_order) VALUES ('{INDEX}', '{file}', {n}); \
                 INSERT INTO rag_provider_file_uploads (id, provider_id, local_file_id, external_file_id, content_sha256, status) \
                 VALUES ('33333333-3333-4333-8333-{n:012}', 'openai', '{file}', 'file_{n}', '{sha}', 'uploaded'); \
                 INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, \
                   content_sha256, size_bytes, state) \
                 VALUES ('44444444-4444-4444-8444-{n:012}', '{INDEX}', 'vs_1', '{file}', 'file_{n}', '{sha}', 1000, 'completed')"
            ))
            .await?;
    }
    Ok(())
}
