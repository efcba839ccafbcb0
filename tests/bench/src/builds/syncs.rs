//! Syncs of a provider that somebody has filled: everything is imported, and then compared.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::provider::{Pace, Provider};
use crate::report::Report;
use crate::stack::Stack;
use crate::usage::Usage;

const LATENCY_MS: u64 = 100;

/// The first sync imports all; the second one has compared all of it before.
#[expect(clippy::cast_precision_loss, reason = "figures for people, of a few digits")]
pub(crate) async fn twice(stores: usize, files_per_store: usize, report: &mut Report) -> Result<()> {
    let files = stores * files_per_store;
    let work = format!("provider sync, {files} files in {stores} stores, no latency");
    let provider = Provider::start(Pace::quick(0)).await?;
    provider.seed(stores, files_per_store).await?;
    let stack = Stack::start(&provider).await?;
    let mut usages: Vec<Usage> = Vec::new();
    for (query, program) in [("", "first"), ("compare=once", "second, compare=once")] {
        // Each has a worker of its own, whose memory is its own.
        let worker = [stack.worker(&[]).await?];
        let (usage, output) = stack.sync(query, &worker).await?;
        report.run(&work, program, Some(files as f64), &usage);
        let done = if query.is_empty() {
            &output["files_created"]
        } else {
            &output["files_skipped"]
        };
        ensure!(
            *done == json!(files) && output["errors"] == json!([]),
            "{program}: {output}"
        );
        usages.push(usage);
    }
    stack.end().await?;
    let ratio = usages[1].wall / usages[0].wall;
    let measured = format!(
        "{ratio:.3} × ({:.1} s, first {:.1} s)",
        usages[1].wall, usages[0].wall
    );
    report.at_most(
        &work,
        "wall of the second with compare=once ≤ 0.1 × the first",
        0.1,
        ratio,
        &measured,
    );
    let downloads = usages[1].calls.of("files.content");
    report.bar(
        &work,
        "the second downloads nothing",
        downloads == 0,
        &format!("{downloads} downloads"),
    );
    Ok(())
}

/// Import and full comparison of a small provider that is far away.
#[expect(clippy::cast_precision_loss, reason = "figures for people, of a few digits")]
pub(crate) async fn with_latency(report: &mut Report) -> Result<()> {
    let (stores, files_per_store) = (40, 25);
    let files = stores * files_per_store;
    let work = format!("provider sync, {files} files in {stores} stores, {LATENCY_MS} ms a call");
    let provider = Provider::start(Pace::quick(LATENCY_MS)).await?;
    provider.seed(stores, files_per_store).await?;
    let stack = Stack::start(&provider).await?;
    for program in ["first, imports all", "second, compares all"] {
        let worker = [stack.worker(&[]).await?];
        let (usage, output) = stack.sync("", &worker).await?;
        ensure!(output["errors"] == json!([]), "{program}: {output}");
        report.run(&work, program, Some(files as f64), &usage);
    }
    stack.end().await
}
