//! Background indexing: waits for a place, takes its time, reads and chunks the text, writes the result. What faults
//! do to indexing happens here too.

use crate::{
    app::App,
    chunking::{self, ChunkingError},
    fault_layer::gate_opened,
    faults::{Action, Filenames, Subject},
    state::{FileError, IndexJob, Outcome},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinHandle};

/// Held by the jobs of one attach call; counts it as open until the last of them ends.
#[derive(Debug)]
struct OpenOperation(Arc<AtomicUsize>);

impl Drop for OpenOperation {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts the jobs of one attach call; answers what to wait for, if somebody wants to wait.
pub(crate) fn start(app: &Arc<App>, jobs: Vec<IndexJob>) -> Vec<JoinHandle<()>> {
    if jobs.is_empty() {
        return Vec::new();
    }
    let at_once = app.deviations.batch_parallelism;
    let turns = (at_once > 0).then(|| Arc::new(Semaphore::new(at_once)));
    let mut running = Vec::with_capacity(jobs.len());
    app.open_operations.fetch_add(1, Ordering::AcqRel);
    let operation = Arc::new(OpenOperation(app.open_operations.clone()));
    for job in jobs {
        let names = [&*job.filename];
        let subject = Subject {
            operation: "indexing",
            method: "",
            path: "",
            filenames: Filenames::Known(&names),
        };
        let fault = app.faults.lock().pick(subject);
        let (app, operation) = (app.clone(), operation.clone());
        let stop = app.stop.clone();
        let turns = turns.clone();
        running.push(app.tasks.clone().spawn(async move {
            let work = async {
                let _turn = match &turns {
                    Some(turns) => turns.acquire().await.ok(),
                    None => None,
                };
                index(&app, &job, fault).await
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = job.cancelled.cancelled() => {}
                outcome = work => app.state.lock().finish_indexing(&job, outcome),
            }
            drop(operation);
        }));
    }
    running
}

async fn index(app: &App, job: &IndexJob, fault: Option<Action>) -> Outcome {
    let mut extra = Duration::ZERO;
    match fault {
        Some(Action::Stuck) => return std::future::pending().await,
        Some(Action::FailIndexing { code, message }) => {
            tokio::time::sleep(duration(app, job.bytes)).await;
            return Err(FileError {
                code: code.into(),
                message,
            });
        }
        Some(Action::HoldIndexing { gate }) => gate_opened(app, &gate).await,
        Some(Action::DelayIndexing { ms }) => extra = Duration::from_millis(ms),
        _ => {}
    }
    // The semaphore is never closed.
    let _place = app.places.acquire().await;
    let time = duration(app, job.bytes) + extra + asked_for(app, job);
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
    read(app, job).await
}

#[expect(clippy::cast_precision_loss, reason = "a wait does not need to be exact")]
fn duration(app: &App, bytes: u64) -> Duration {
    let per_kb = app.options.indexing_ms_per_kb.max(0.0) * (bytes as f64 / 1024.0);
    Duration::from_millis(app.options.indexing_ms_base)
        + Duration::try_from_secs_f64(per_kb / 1e3).unwrap_or_default()
}

/// What the text itself asks for, as a stub of embeddings does for real servers; only its beginning is looked at.
fn asked_for(app: &App, job: &IndexJob) -> Duration {
    const WORDS: &[u8] = b"slow embedding ";
    if !app.options.embedding_delays {
        return Duration::ZERO;
    }
    let beginning = job.body.read_range(0, job.bytes.min(64)).unwrap_or_default();
    let ms = beginning.strip_prefix(WORDS).and_then(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    });
    Duration::from_millis(ms.unwrap_or(0))
}

async fn read(app: &App, job: &IndexJob) -> Outcome {
    if let Some(error) = &job.doomed {
        return Err(error.clone());
    }
    let fail = |code: &str, message: String| FileError {
        // Other servers have one code for everything.
        code: if app.deviations.bare_errors {
            "server_error"
        } else {
            code
        }
        .into(),
        message,
    };
    let extension = job
        .filename
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    if !extension
        .as_deref()
        .is_some_and(|extension| is_supported(extension, app.options.is_yandex()))
    {
        let message = format!("The file type of '{}' is not supported.", job.filename);
        return Err(fail("unsupported_file", message));
    }
    if job.bytes == 0 {
        return Err(fail("invalid_file", "The file is empty.".to_owned()));
    }
    let (body, sizes) = (job.body.clone(), job.sizes);
    let chunked = tokio::task::spawn_blocking(move || chunking::chunk(body.reader()?, sizes)).await;
    match chunked {
        Ok(Ok(text)) if text.chunks.is_empty() => {
            Err(fail("invalid_file", "The file has no text.".to_owned()))
        }
        Ok(Ok(text)) => Ok(Arc::new(text)),
        Ok(Err(ChunkingError::NotText)) => Err(fail(
            "invalid_file",
            "The file could not be parsed: it is not UTF-8 text.".to_owned(),
        )),
        Ok(Err(ChunkingError::Io(error))) => Err(fail("server_error", error.to_string())),
        Err(panicked) => Err(fail("server_error", panicked.to_string())),
    }
}

/// OpenAI's documented list without the formats that need a parser (doc, docx, pdf, pptx): those fail here as
/// `unsupported_file` rather than pretend. Yandex takes a few more text formats.
fn is_supported(extension: &str, yandex: bool) -> bool {
    let openai = matches!(
        extension,
        "c" | "cpp"
            | "cs"
            | "css"
            | "go"
            | "html"
            | "java"
            | "js"
            | "json"
            | "md"
            | "php"
            | "py"
            | "rb"
            | "sh"
            | "tex"
            | "ts"
            | "txt"
    );
    openai || yandex && matches!(extension, "csv" | "htm" | "jsonl" | "markdown" | "xhtml" | "xml")
}
