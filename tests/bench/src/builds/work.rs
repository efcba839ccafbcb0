//! What is measured, and the bars.

use std::time::Duration;

use anyhow::{Result, ensure};
use rag_bench::figures::median;

use crate::arguments::Arguments;
use crate::compared::Compared;
use crate::documents::{BYTES, Documents};
use crate::provider::{Calls, Pace, Provider};
use crate::report::Report;
use crate::sdk::Sdk;
use crate::stack::{Stack, peak};
use crate::syncs;
use crate::usage::Usage;

/// For `--only`. `memory` has the rebuild with it; 100,000 files and `waiting` need `--large`.
pub(crate) const NAMES: [&str; 10] = [
    "uploads",
    "indexing",
    "defaults",
    "local",
    "memory",
    "waiting",
    "first-call",
    "fleet",
    "syncs",
    "sync-latency",
];

const TRIES: usize = 30;
const WAITING: usize = 10_000;
/// Builds that wait are watched for so long.
const WATCHED: Duration = Duration::from_secs(30);
const FLEET_INDEXES: usize = 8;
const FLEET_FILES: usize = 500;

pub(crate) async fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let compared: Vec<_> = compared()
        .into_iter()
        .filter(|(name, _)| arguments.wants(name))
        .collect();
    let sdk = if compared.is_empty() {
        None
    } else {
        Some(Sdk::install().await?)
    };
    report.head(&machine(sdk.as_ref(), arguments.pairs).await?);
    if let Some(sdk) = &sdk {
        for (_, compared) in compared {
            compared.measure(sdk, arguments.pairs, report).await?;
        }
    }
    if arguments.wants("memory") {
        memory("10,000 files", 10_000, 40.0, report).await?;
        if arguments.large {
            memory("100,000 files", 100_000, 64.0, report).await?;
        }
    }
    if arguments.large && arguments.wants("waiting") {
        waiting(report).await?;
    }
    if arguments.wants("first-call") {
        first_call(report).await?;
    }
    if arguments.wants("fleet") {
        fleet(report).await?;
    }
    if arguments.wants("sync-latency") {
        syncs::with_latency(report).await?;
    }
    if arguments.wants("syncs") {
        syncs::twice(arguments.stores, arguments.files_per_store, report).await?;
    }
    Ok(())
}

async fn machine(sdk: Option<&Sdk>, pairs: usize) -> Result<String> {
    let provider = Provider::start(Pace::quick(0)).await?;
    let stack = Stack::start(&provider).await?;
    let server = stack.server().await?;
    stack.end().await?;
    let cores = std::thread::available_parallelism()?;
    let sdk = match sdk {
        Some(sdk) => format!("; {}", sdk.version().await?),
        None => String::new(),
    };
    Ok(format!(
        "{cores} cores, which all programs share; MariaDB {server}{sdk}. Files of about {BYTES} bytes. Medians of {pairs} \
         pairs in turns; what is compared with nothing ran once. CPU and memory are those of the worker, or of the SDK's process; \
         statements and commits those of the whole server."
    ))
}

fn compared() -> [(&'static str, Compared); 4] {
    let uploads = Compared {
        work: "1,000 files, 100 ms a call, 5 at once",
        files: 1000,
        pace: Pace::quick(100),
        at_once: Some(5),
        wall_ratio: 0.90,
        cpu_ratio: None,
        of_bound: Some(1.15),
    };
    let indexing = Compared {
        work: "1,000 files, 100 ms a call, 5 at once, indexing as long as uploading",
        // 1,000 files by 320 ms and 16 at once are 20 s, as are 1,000 uploads by 100 ms and 5 at once.
        pace: Pace {
            latency_ms: 100,
            indexing_ms: 320,
            indexing_at_once: 16,
        },
        wall_ratio: 0.60,
        of_bound: None,
        ..uploads
    };
    let defaults = Compared {
        work: "1,000 files, 100 ms a call, both at their defaults",
        at_once: None,
        wall_ratio: 0.35,
        of_bound: None,
        ..uploads
    };
    let local = Compared {
        work: "2,000 files, no latency, 5 at once",
        files: 2000,
        pace: Pace::quick(0),
        wall_ratio: 0.60,
        cpu_ratio: Some(0.35),
        of_bound: None,
        ..uploads
    };
    [
        ("uploads", uploads),
        ("indexing", indexing),
        ("defaults", defaults),
        ("local", local),
    ]
}

/// A build of many files, and another one of the same.
#[expect(clippy::cast_precision_loss, reason = "figures for people, of a few digits")]
async fn memory(work: &str, count: usize, limit_mib: f64, report: &mut Report) -> Result<()> {
    let documents = Documents::write(count)?;
    let provider = Provider::start(Pace::quick(0)).await?;
    let stack = Stack::start(&provider).await?;
    let files = stack.upload(documents.folder()).await?;
    let index = [stack.index(&files).await?];
    let worker = [stack.worker(&[]).await?];
    let built = stack.build(&index, &worker).await?;
    report.run(work, "ours", Some(count as f64), &built);
    let bar = format!("most memory of the worker ≤ {limit_mib:.0} MiB");
    report.at_most(
        work,
        &bar,
        limit_mib,
        built.peak_mib,
        &format!("{:.0} MiB", built.peak_mib),
    );

    let work = format!("rebuild of {work}, nothing changed");
    let rebuilt = stack.build(&index, &worker).await?;
    report.run(&work, "ours", Some(count as f64), &rebuilt);
    let calls = rebuilt.calls.total();
    let uploads = rebuilt.calls.of("files.create");
    // The bar is set for so many; for others the table of runs has the time.
    if count == 10_000 {
        let wall = format!("{:.2} s", rebuilt.wall);
        report.at_most(&work, "wall ≤ 1 s", 1.0, rebuilt.wall, &wall);
    }
    report.bar(&work, "≤ 2 provider calls", calls <= 2, &calls.to_string());
    report.bar(&work, "0 bytes sent", uploads == 0, &format!("{uploads} uploads"));
    stack.end().await
}

/// Builds whose provider does not end.
async fn waiting(report: &mut Report) -> Result<()> {
    let documents = Documents::write(1)?;
    let pace = Pace {
        latency_ms: 0,
        indexing_ms: 86_400_000,
        indexing_at_once: WAITING,
    };
    let provider = Provider::start(pace).await?;
    let stack = Stack::start(&provider).await?;
    let file = stack.upload(documents.folder()).await?;
    let indexes = stack.indexes(WAITING, &file).await?;
    let worker = [stack.worker(&[]).await?];
    stack.enqueue_all(&indexes).await?;
    let attached = |calls: &Calls| {
        let operations = ["vector_stores.files.create", "vector_stores.file_batches.create"];
        operations
            .map(|operation| calls.of(operation))
            .iter()
            .sum::<u64>()
    };
    while attached(&provider.calls().await?) < WAITING as u64 {
        ensure!(stack.active_jobs().await? > 0, "the builds are over");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    tokio::time::sleep(WATCHED).await;
    let peak = peak(&worker)?;
    let work = "10,000 builds that wait on one worker";
    report.at_most(
        work,
        "most memory of the worker ≤ 64 MiB",
        64.0,
        peak,
        &format!("{peak:.0} MiB"),
    );
    stack.end().await
}

/// From the request to the provider, where nothing else happens.
async fn first_call(report: &mut Report) -> Result<()> {
    let documents = Documents::write(1)?;
    let provider = Provider::start(Pace::quick(0)).await?;
    let stack = Stack::start(&provider).await?;
    let file = stack.upload(documents.folder()).await?;
    let _worker = stack.worker(&[]).await?;
    let mut times = Vec::new();
    for index in stack.indexes(TRIES, &file).await? {
        // Not in step with what the worker does at intervals.
        tokio::time::sleep(Duration::from_millis(rand::random_range(300..600))).await;
        times.push(stack.first_call(&index).await? * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let most = times.last().copied().unwrap_or_default();
    let middle = median(times);
    let measured = format!("{middle:.0} ms, at most {most:.0} ms in {TRIES} tries");
    report.at_most(
        "request of a build → first call at the provider, idle",
        "p50 ≤ 80 ms",
        80.0,
        middle,
        &measured,
    );
    stack.end().await
}

/// The same builds on one worker and on four. Each takes two at once, so that a fleet shares them.
#[expect(clippy::cast_precision_loss, reason = "figures for people, of a few digits")]
async fn fleet(report: &mut Report) -> Result<()> {
    let work = "8 builds of 500 files, 100 ms a call, 8 at once a worker";
    let documents = Documents::write(FLEET_INDEXES * FLEET_FILES)?;
    let mut usages: Vec<Usage> = Vec::new();
    for count in [1, 4] {
        let provider = Provider::start(Pace::quick(100)).await?;
        let stack = Stack::start(&provider).await?;
        let files = stack.upload(documents.folder()).await?;
        let mut indexes = Vec::new();
        for files in files.chunks(FLEET_FILES) {
            indexes.push(stack.index(files).await?);
        }
        let mut workers = Vec::new();
        for _ in 0..count {
            workers.push(
                stack
                    .worker(&[("BUILD_UPLOAD_CONCURRENCY", "8"), ("WORKER_CONCURRENCY", "2")])
                    .await?,
            );
        }
        let usage = stack.build(&indexes, &workers).await?;
        let program = format!("ours, workers: {count}");
        report.run(work, &program, Some(files.len() as f64), &usage);
        usages.push(usage);
        stack.end().await?;
    }
    let ratio = usages[1].wall / usages[0].wall;
    let calls = [usages[0].calls.total(), usages[1].calls.total()];
    let measured = format!(
        "{ratio:.2} × ({:.1} s, one worker {:.1} s)",
        usages[1].wall, usages[0].wall
    );
    report.at_most(
        work,
        "wall of 4 workers ≤ 0.35 × that of 1",
        0.35,
        ratio,
        &measured,
    );
    let same = calls[0].abs_diff(calls[1]) <= calls[0] / 50;
    report.bar(
        work,
        "same total of calls (within 2 %)",
        same,
        &format!("1 worker {}, 4 workers {}", calls[0], calls[1]),
    );
    Ok(())
}
