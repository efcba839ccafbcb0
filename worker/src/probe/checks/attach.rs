//! The attach methods, each tried for what it brings about rather than for what it answers: a batch that is answered with
//! `completed` may have attached nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_domain::ChunkingStrategy;
use rag_jobs::CheckResult;
use rag_providers::{
    Ability, AttachFile, Attributes, ErrorKind, Provider, ProviderError, ProviderExt as _, StoreFileStatus,
    VectorStoreFile,
};

use super::files::File;
use crate::probe::report::Probe;
use crate::probe::timed_call::{millis, timed};
use crate::step_error::StepError;

/// So long a server may take to index two small files.
const INDEXED_WITHIN: Duration = Duration::from_mins(2);
/// What is not in the listing so long after its batch has ended was not attached.
const APPEARS_WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(300);

const SMALL: ChunkingStrategy = ChunkingStrategy::fixed(200, 50);
const LARGE: ChunkingStrategy = ChunkingStrategy::fixed(400, 100);

/// One batch: what it is called in the report, and what it tells.
struct Method {
    name: &'static str,
    strategies: [ChunkingStrategy; 2],
    ability: Ability,
}

const BATCHES: [Method; 2] = [
    Method {
        name: "attach_batch_of_files",
        strategies: [SMALL, LARGE],
        ability: Ability::BatchFiles,
    },
    Method {
        name: "attach_batch_of_file_ids",
        strategies: [SMALL, SMALL],
        ability: Ability::FileBatches,
    },
];

/// Leaves all three files in the store.
pub(super) async fn run(probe: &mut Probe<'_>, store: &str, files: &[File; 3]) -> Result<(), StepError> {
    let pair = [&files[0], &files[1]];
    let mut is_in = false;
    for method in BATCHES {
        probe.scope.check_running()?;
        if is_in {
            detach(probe, store, &pair).await;
        }
        is_in = batch(probe, store, &pair, &method).await?;
    }
    single(probe, store, &files[2]).await?;
    if !is_in && probe.obstacle.is_none() {
        for file in pair {
            attach_quietly(probe, store, file).await;
        }
    }
    Ok(())
}

/// Answers whether the files are in the store.
async fn batch(
    probe: &mut Probe<'_>,
    store: &str,
    pair: &[&File; 2],
    method: &Method,
) -> Result<bool, StepError> {
    let provider = Arc::clone(&probe.scope.provider);
    let files: Vec<AttachFile> = pair
        .iter()
        .zip(method.strategies)
        .map(|(file, strategy)| request(file, Some(strategy)))
        .collect();
    let created = timed!(async { provider.create_file_batch(store, files.clone()).await });
    let latency = created.latency_ms;
    let batch = match created.result {
        Ok(batch) => batch,
        Err(error) => {
            probe.note_error(method.name, &error, latency, false);
            if error.kind == ErrorKind::Unsupported {
                probe
                    .learn(method.ability, false, "a probe found no such route")
                    .await?;
            }
            return Ok(false);
        }
    };
    let mut appears_early = false;
    let (started, mut ended_at) = (Instant::now(), None);
    let mut seen;
    loop {
        seen = found(provider.as_ref(), store, pair).await;
        appears_early |= matches!(&seen, Ok(files) if files.len() == 2 && files.iter().any(|file| !file.status.is_terminal()));
        let all_indexed = matches!(&seen, Ok(files) if files.len() == 2 && files.iter().all(|file| file.status.is_terminal()));
        if all_indexed || started.elapsed() > INDEXED_WITHIN {
            break;
        }
        if ended_at.is_none() {
            match provider.get_file_batch(store, &batch.id).await {
                Ok(now) if now.status.is_terminal() => ended_at = Some(Instant::now()),
                Ok(_) => {}
                // Then only the listing tells.
                Err(_) => ended_at = Some(Instant::now()),
            }
        }
        if ended_at.is_some_and(|ended| ended.elapsed() > APPEARS_WITHIN)
            && matches!(&seen, Ok(files) if files.is_empty())
        {
            break;
        }
        probe.scope.check_running()?;
        tokio::time::sleep(POLL_EVERY).await;
    }
    let is_in = judge_batch(probe, pair, method, &seen, latency).await?;
    if is_in && method.ability == Ability::FileBatches {
        let (result, detail) = if appears_early {
            (
                CheckResult::Works,
                "files are listed while they are being indexed",
            )
        } else {
            // Files that were indexed before the first poll are not told apart from these.
            let detail = "files were not seen in the listing before they were indexed";
            (CheckResult::Differs, detail)
        };
        probe.note("status_while_indexing", result, detail, None);
        let got = timed!(async { provider.get_file_batch(store, &batch.id).await });
        let got = probe.note_call("get_file_batch", got, false, |batch| format!("{}", batch.status));
        probe
            .learn(
                Ability::GetFileBatch,
                got.is_some(),
                "a probe asked for its own batch",
            )
            .await?;
    }
    Ok(is_in)
}

async fn judge_batch(
    probe: &mut Probe<'_>,
    pair: &[&File; 2],
    method: &Method,
    seen: &Result<Vec<VectorStoreFile>, ProviderError>,
    latency: u64,
) -> Result<bool, StepError> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            probe.note_error(method.name, error, latency, false);
            return Ok(false);
        }
    };
    let completed = seen
        .iter()
        .filter(|file| file.status == StoreFileStatus::Completed)
        .count();
    match (seen.len(), completed) {
        (2, 2) => {
            let differing = pair.iter().zip(method.strategies).filter(|(file, asked)| {
                let reported = seen.iter().find(|seen| seen.file_id() == file.id);
                let reported = reported.and_then(|seen| seen.chunking_strategy.as_ref());
                reported.is_some_and(|reported| *reported != *asked)
            });
            let (result, detail) = match differing.count() {
                0 => (CheckResult::Works, "both files are in and indexed"),
                _ => (
                    CheckResult::Differs,
                    "both files are in, with another strategy than was asked for",
                ),
            };
            probe.note(method.name, result, detail, Some(latency));
            probe
                .learn(method.ability, true, "a probe's batch was attached")
                .await?;
            Ok(true)
        }
        (0, _) => {
            let detail = "answered as a success, and nothing was attached";
            probe.note(method.name, CheckResult::Differs, detail, Some(latency));
            if method.ability == Ability::BatchFiles {
                probe
                    .learn(method.ability, false, "a probe's batch attached nothing")
                    .await?;
            }
            Ok(false)
        }
        (there, completed) => {
            let seconds = INDEXED_WITHIN.as_secs();
            let detail = format!(
                "{there} of 2 files are in after {seconds} s at the most, {completed} of them indexed"
            );
            probe.note(method.name, CheckResult::Failed, detail, Some(latency));
            Ok(there > 0)
        }
    }
}

async fn single(probe: &mut Probe<'_>, store: &str, file: &File) -> Result<(), StepError> {
    const NAME: &str = "attach_single";
    let provider = Arc::clone(&probe.scope.provider);
    let started = Instant::now();
    let attached = timed!(async { provider.attach_file(store, request(file, Some(SMALL))).await });
    let latency = attached.latency_ms;
    let attached = match attached.result {
        Ok(attached) => attached,
        Err(error) => {
            probe.note_error(NAME, &error, latency, true);
            return Ok(());
        }
    };
    let early = !attached.file.status.is_terminal();
    let status = loop {
        match provider.get_store_file(store, &attached.file.id, None).await {
            Ok(file) if file.status.is_terminal() || started.elapsed() > INDEXED_WITHIN => break file.status,
            Err(error) if started.elapsed() > INDEXED_WITHIN => {
                probe.note_error(NAME, &error, latency, true);
                return Ok(());
            }
            _ => tokio::time::sleep(POLL_EVERY).await,
        }
    };
    if status != StoreFileStatus::Completed {
        let detail = format!("the file is {status} after {} ms", millis(started));
        probe
            .obstacle
            .get_or_insert_with(|| format!("a file that was attached is not indexed: {detail}"));
        probe.note(NAME, CheckResult::Failed, detail, Some(latency));
        return Ok(());
    }
    let detail = if early {
        "answered at once, indexed later"
    } else {
        "answered when the file was indexed"
    };
    let result = if early {
        CheckResult::Works
    } else {
        CheckResult::Differs
    };
    probe.note(NAME, result, detail, Some(latency));
    probe.learn(Ability::AttachReturnsEarly, early, detail).await?;
    let again = timed!(async { provider.attach_file(store, request(file, Some(SMALL))).await });
    match again.result {
        Ok(_) => {
            let detail = "attaching a file again is harmless";
            probe.note("attach_again", CheckResult::Works, detail, Some(again.latency_ms));
        }
        Err(error) => {
            let detail = format!("attaching a file again is refused: {error}");
            probe.note(
                "attach_again",
                CheckResult::Differs,
                detail,
                Some(again.latency_ms),
            );
        }
    }
    Ok(())
}

/// So that the checks that follow find all three files; what is wrong with it has been noted.
async fn attach_quietly(probe: &Probe<'_>, store: &str, file: &File) {
    let provider = probe.scope.provider.as_ref();
    let attached = timed!(async { provider.attach_file(store, request(file, Some(SMALL))).await });
    if let Err(error) = attached.result {
        tracing::debug!(%error, "a probe's file was not attached");
        return;
    }
    let started = Instant::now();
    while started.elapsed() < INDEXED_WITHIN {
        match provider.get_store_file(store, &file.id, None).await {
            Ok(file) if file.status.is_terminal() => return,
            _ => tokio::time::sleep(POLL_EVERY).await,
        }
    }
}

/// Takes both out, for the next method.
async fn detach(probe: &mut Probe<'_>, store: &str, pair: &[&File; 2]) {
    let provider = Arc::clone(&probe.scope.provider);
    let mut slowest = 0;
    for file in pair {
        let detached = timed!(async { provider.detach_file(store, &file.id).await });
        slowest = slowest.max(detached.latency_ms);
        if let Err(error) = detached.result {
            return probe.note_error("detach", &error, detached.latency_ms, true);
        }
    }
    let started = Instant::now();
    loop {
        match found(provider.as_ref(), store, pair).await {
            Ok(left) if left.is_empty() => {
                return probe.note(
                    "detach",
                    CheckResult::Works,
                    "both files left the store",
                    Some(slowest),
                );
            }
            _ if started.elapsed() > APPEARS_WITHIN => {
                let detail = "detached files are still listed seconds later";
                return probe.note("detach", CheckResult::Differs, detail, Some(slowest));
            }
            _ => tokio::time::sleep(POLL_EVERY).await,
        }
    }
}

async fn found(
    provider: &dyn Provider,
    store: &str,
    pair: &[&File; 2],
) -> Result<Vec<VectorStoreFile>, ProviderError> {
    let mut files = provider.all_store_files(store, None).await?;
    files.retain(|file| pair.iter().any(|own| own.id == file.file_id()));
    Ok(files)
}

fn request(file: &File, chunking_strategy: Option<ChunkingStrategy>) -> AttachFile {
    AttachFile {
        file_id: file.id.clone(),
        attributes: Attributes::default(),
        chunking_strategy,
        ..AttachFile::default()
    }
}
