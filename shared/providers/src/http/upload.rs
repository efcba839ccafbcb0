//! Uploads: a multipart form whose file part streams from its source with a known length, watched for progress, and hashed on
//! the way: what is not the bytes that were announced never arrives whole.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Response};
use sha2::{Digest as _, Sha256};
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
    pub(crate) digest: Digest,
}

/// The hash of a file that goes up in one piece or in several, one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digest {
    /// Of what the pieces before this one held.
    before: Sha256,
    /// What the whole file must have, in hex digits.
    expected: Option<String>,
    /// Of what this piece held too, once it was sent.
    after: Arc<Mutex<Sha256>>,
}

impl Digest {
    pub(crate) fn of_whole(expected: Option<String>) -> Self {
        Self {
            expected,
            ..Self::default()
        }
    }

    /// For the piece that follows.
    pub(crate) fn next(&self) -> Self {
        Self {
            before: self.after.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            expected: self.expected.clone(),
            after: Arc::default(),
        }
    }

    /// The whole file has been read.
    fn check(&self, hasher: &Sha256) -> Result<(), String> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let found = hex::encode(hasher.clone().finalize());
        if found == *expected {
            Ok(())
        } else {
            Err(format!("the file has SHA-256 {found} instead of {expected}"))
        }
    }
}

/// An upload that the provider took.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) answer: Answer,
    /// It answered before it had the last bytes: what it took is not the file. The reason is what kept them back, if anything.
    pub(crate) failure: Option<ProviderError>,
}

impl Transport {
    /// Sends a form and reads the answer as JSON. Tried again only if no connection stood, or if the call is marked as
    /// repeatable.
    pub(crate) async fn upload(&self, call: &Call, file: &MultipartFile) -> Result<Taken, ProviderError> {
        self.repeating(call, None, |_| self.upload_once(call, file)).await
    }

    async fn upload_once(&self, call: &Call, file: &MultipartFile) -> Result<Taken, ProviderError> {
        let exchange = self.exchange(call);
        let stream = file.source.open(file.offset).await.map_err(|error| {
            exchange
                .error(
                    ErrorKind::SourceUnreadable,
                    &format!("the file could not be read: {error}"),
                )
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
        let answer = tokio::time::timeout(time, exchange.json(response))
            .await
            .map_err(late)??;
        let failure = match progress.source_failure() {
            Some((kind, reason)) => Some(exchange.error(kind, &reason)),
            None if progress.all_sent.load(Ordering::Relaxed) => None,
            None => {
                let message = "the provider took a file before it had all of it";
                Some(exchange.error(ErrorKind::Protocol, message))
            }
        };
        Ok(Taken { answer, failure })
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
            if let Some((kind, reason)) = progress.source_failure() {
                return exchange.error(kind, &reason);
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
    failure: Mutex<Option<(ErrorKind, String)>>,
}

impl Progress {
    fn source_failure(&self) -> Option<(ErrorKind, String)> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The bytes cannot be read.
    fn unreadable(&self, error: &io::Error) -> io::Error {
        self.fail(
            ErrorKind::SourceUnreadable,
            format!("the file could not be read: {error}"),
        )
    }

    /// They are others than was announced.
    fn corrupt(&self, reason: String) -> io::Error {
        self.fail(ErrorKind::LocalCorruption, reason)
    }

    fn fail(&self, kind: ErrorKind, reason: String) -> io::Error {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((kind, reason.clone()));
        io::Error::other(reason)
    }

    fn finish(&self) {
        self.all_sent.store(true, Ordering::Relaxed);
        self.finished.notify_one();
    }
}

/// A piece on its way.
struct Sending {
    source: ByteStream,
    left: u64,
    to_the_end: bool,
    digest: Digest,
    hasher: Sha256,
    progress: Arc<Progress>,
}

/// Exactly the announced bytes, or an error before the last of them: a form that lies about its length would poison the
/// connection, and one that holds other bytes must not become a file.
fn measured(
    source: ByteStream,
    file: &MultipartFile,
    progress: Arc<Progress>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let sending = Sending {
        source,
        left: file.size_bytes,
        to_the_end: file.to_the_end,
        hasher: file.digest.before.clone(),
        digest: file.digest.clone(),
        progress,
    };
    stream::try_unfold((sending, false), |(mut sending, ended)| async move {
        if sending.left == 0 {
            if !ended {
                sending.end().await?;
            }
            sending.progress.finish();
            return Ok(None);
        }
        let chunk = sending.next().await?;
        if sending.left == 0 {
            sending.end().await?;
        }
        let ended = sending.left == 0;
        Ok(Some((chunk, (sending, ended))))
    })
}

impl Sending {
    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.source.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => return Ok(Some(chunk)),
                Some(Err(error)) => return Err(self.progress.unreadable(&error)),
                None => return Ok(None),
            }
        }
    }

    /// As much of what comes next as belongs to the piece.
    async fn next(&mut self) -> io::Result<Bytes> {
        let Some(chunk) = self.read().await? else {
            let reason = format!("the file is {} bytes shorter than announced", self.left);
            return Err(self.progress.corrupt(reason));
        };
        if chunk.len() as u64 > self.left && self.to_the_end {
            return Err(self.longer());
        }
        let chunk = chunk.slice(..chunk.len().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
        self.hasher.update(&chunk);
        let moved = chunk.len() as u64;
        self.left -= moved;
        self.progress.moved.fetch_add(moved, Ordering::Relaxed);
        Ok(chunk)
    }

    /// All of the piece was read; the last of it has not been sent.
    async fn end(&mut self) -> io::Result<()> {
        *self.digest.after.lock().unwrap_or_else(PoisonError::into_inner) = self.hasher.clone();
        if !self.to_the_end {
            return Ok(());
        }
        if self.read().await?.is_some() {
            return Err(self.longer());
        }
        let checked = self.digest.check(&self.hasher);
        checked.map_err(|reason| self.progress.corrupt(reason))
    }

    fn longer(&self) -> io::Error {
        self.progress
            .corrupt("the file is longer than announced".to_owned())
    }
}
