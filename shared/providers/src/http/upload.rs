//! Uploads: a multipart form whose file part streams from its source with a known length, watched for progress.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Response};
use tokio::sync::Notify;

use super::call::Call;
use super::outcome::Exchange;
use super::transport::{Answer, Transport};
use crate::error::{Effect, ErrorKind, ProviderError};
use crate::types::{ByteStream, UploadSource};

/// Less than this in a whole stall time is as good as nothing.
const MIN_PROGRESS_BYTES: u64 = 16 * 1024;

/// A form with one file in it.
pub(crate) struct MultipartFile {
    /// Sent before the file, so that a server can refuse before it reads on.
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) file_field: &'static str,
    pub(crate) file_name: String,
    pub(crate) content_type: String,
    pub(crate) source: Arc<dyn UploadSource>,
    /// The piece of the source to send.
    pub(crate) offset: u64,
    pub(crate) size_bytes: u64,
    /// The source must end where the piece ends.
    pub(crate) to_the_end: bool,
}

impl Transport {
    /// Sends a form and reads the answer as JSON. Tried again only if no connection stood, or if the call is marked as
    /// repeatable.
    pub(crate) async fn upload(&self, call: &Call, file: &MultipartFile) -> Result<Answer, ProviderError> {
        self.repeating(call, None, |_| self.upload_once(call, file)).await
    }

    async fn upload_once(&self, call: &Call, file: &MultipartFile) -> Result<Answer, ProviderError> {
        let exchange = self.exchange(call);
        let stream = file.source.open(file.offset).await.map_err(|error| {
            exchange
                .error(ErrorKind::InvalidRequest, "the file could not be read")
                .with_source(error)
        })?;
        let progress = Arc::new(Progress::default());
        let body = Body::wrap_stream(measured(stream, file, Arc::clone(&progress)));
        let part = Part::stream_with_length(body, file.size_bytes)
            .file_name(file.file_name.clone())
            .mime_str(&file.content_type)
            .map_err(|error| exchange.broken(&error))?;
        let form = file
            .fields
            .iter()
            .fold(Form::new(), |form, (name, value)| form.text(*name, value.clone()))
            .part(file.file_field, part);
        let (request, _permit) = self.prepare(&exchange).await?;
        let sending = request.multipart(form).send();
        let response = self.watched(&exchange, sending, &progress).await?;
        let time = self.timeouts().upload_answer;
        let late = |_| exchange.timed_out(&format!("no answer within {time:?}"), true);
        tokio::time::timeout(time, exchange.json(response))
            .await
            .map_err(late)?
    }

    /// Waits for the head of the answer as long as bytes move, and then for a fixed time.
    async fn watched(
        &self,
        exchange: &Exchange<'_>,
        sending: impl Future<Output = Result<Response, reqwest::Error>>,
        progress: &Progress,
    ) -> Result<Response, ProviderError> {
        let timeouts = self.timeouts();
        let mut sending = std::pin::pin!(sending);
        let mut moved_before = 0;
        let outcome = loop {
            tokio::select! {
                outcome = &mut sending => break outcome,
                () = progress.finished.notified() => {
                    let late = |_| {
                        let message = format!("no answer within {:?} of the last byte", timeouts.upload_answer);
                        exchange.timed_out(&message, true)
                    };
                    break tokio::time::timeout(timeouts.upload_answer, &mut sending).await.map_err(late)?;
                }
                () = tokio::time::sleep(timeouts.stall) => {
                    let moved = progress.moved.load(Ordering::Relaxed);
                    if moved - moved_before < MIN_PROGRESS_BYTES {
                        return Err(stalled(exchange, moved, timeouts.stall));
                    }
                    moved_before = moved;
                }
            }
        };
        outcome.map_err(|error| {
            if let Some(reason) = progress.source_failure() {
                return exchange.error(ErrorKind::InvalidRequest, &reason);
            }
            let mut error = exchange.broken(&error);
            // Cut off within the body: the provider never had the file.
            if !progress.all_sent.load(Ordering::Relaxed) {
                error.effect = Effect::None;
            }
            error
        })
    }
}

fn stalled(exchange: &Exchange<'_>, moved: u64, stall: Duration) -> ProviderError {
    exchange.timed_out(
        &format!("the upload stalled for {stall:?} after {moved} bytes"),
        false,
    )
}

/// How far the sending of one body has come.
#[derive(Default)]
struct Progress {
    moved: AtomicU64,
    all_sent: AtomicBool,
    finished: Notify,
    failure: Mutex<Option<String>>,
}

impl Progress {
    fn source_failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn fail(&self, reason: &str) -> io::Error {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        io::Error::other(reason.to_owned())
    }

    fn finish(&self) {
        self.all_sent.store(true, Ordering::Relaxed);
        self.finished.notify_one();
    }
}

/// Exactly the announced bytes, or an error: a form that lies about its length would poison the connection.
fn measured(
    source: ByteStream,
    file: &MultipartFile,
    progress: Arc<Progress>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let to_the_end = file.to_the_end;
    stream::try_unfold(
        (source, file.size_bytes, progress),
        move |(mut source, left, progress)| async move {
            if left == 0 && !to_the_end {
                progress.finish();
                return Ok(None);
            }
            let chunk = loop {
                match source.next().await {
                    Some(Ok(chunk)) if chunk.is_empty() => {}
                    Some(Ok(chunk)) => break Some(chunk),
                    Some(Err(error)) => {
                        return Err(progress.fail(&format!("the file could not be read: {}", error.kind())));
                    }
                    None => break None,
                }
            };
            match chunk {
                None if left == 0 => {
                    progress.finish();
                    Ok(None)
                }
                None => Err(progress.fail(&format!("the file is {left} bytes shorter than announced"))),
                Some(chunk) if chunk.len() as u64 > left && to_the_end => {
                    Err(progress.fail("the file is longer than announced"))
                }
                Some(chunk) => {
                    let chunk = chunk.slice(..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    let moved = chunk.len() as u64;
                    progress.moved.fetch_add(moved, Ordering::Relaxed);
                    Ok(Some((chunk, (source, left - moved, progress))))
                }
            }
        },
    )
}
