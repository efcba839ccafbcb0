//! Downloads: the answer's body as a stream that cannot stall for ever and does not end early unnoticed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use reqwest::Response;

use super::call::Call;
use super::outcome::Exchange;
use super::redact::Redactor;
use super::transport::Transport;
use crate::connection::Permit;
use crate::error::{ErrorKind, ProviderError};
use crate::types::FileContent;

/// Less than this in a whole stall time is as good as nothing.
const MIN_PROGRESS_BYTES: u64 = 16 * 1024;

impl Transport {
    /// Sends a call and hands out its body. Tried again until the body begins, not after.
    pub(crate) async fn content(&self, call: Call) -> Result<FileContent, ProviderError> {
        let whole = self.timeouts().whole_call;
        let (response, permit) = self
            .repeating(&call, Some(whole), |time| self.content_once(&call, time))
            .await?;
        let content_type = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let size_bytes = response.content_length();
        let download = Download {
            response,
            _permit: permit,
            request_id: self.exchange(&call).client_request_id,
            call,
            redactor: self.redactor().clone(),
            stall: self.timeouts().stall,
            received: 0,
            promised: size_bytes,
            waited: Duration::ZERO,
            window_bytes: 0,
        };
        let stream = stream::try_unfold(download, |mut download| async move {
            let chunk = download.next().await?;
            Ok(chunk.map(|chunk| (chunk, download)))
        });
        Ok(FileContent {
            content_type,
            size_bytes,
            stream: stream.boxed(),
        })
    }

    async fn content_once(&self, call: &Call, time: Duration) -> Result<(Response, Permit), ProviderError> {
        let exchange = self.exchange(call);
        let (request, permit) = self.prepare(&exchange).await?;
        let answer = async {
            let response = request.send().await.map_err(|error| exchange.broken(&error))?;
            exchange.accept(response).await
        };
        let late = |_| exchange.timed_out(&format!("no answer within {time:?}"), true);
        let response = tokio::time::timeout(time, answer).await.map_err(late)??;
        Ok((response, permit))
    }
}

struct Download {
    response: Response,
    /// The exchange goes on until the body has been read.
    _permit: Permit,
    call: Call,
    request_id: String,
    redactor: Redactor,
    stall: Duration,
    received: u64,
    promised: Option<u64>,
    /// Time spent waiting for the provider (not for the consumer) since progress was last judged, and what came in it.
    waited: Duration,
    window_bytes: u64,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>, ProviderError> {
        let started = Instant::now();
        let Ok(read) = tokio::time::timeout(self.stall, self.response.chunk()).await else {
            return Err(self.error(ErrorKind::Timeout, &format!("no byte came for {:?}", self.stall)));
        };
        self.waited += started.elapsed();
        let chunk = read.map_err(|error| {
            let message = format!("the connection broke after {} bytes", self.received);
            self.error(ErrorKind::Unavailable, &message)
                .with_source(error.without_url())
        })?;
        let Some(chunk) = chunk else {
            return match self.promised {
                Some(promised) if promised != self.received => Err(self.error(
                    ErrorKind::Protocol,
                    &format!("the file ends after {} of {promised} bytes", self.received),
                )),
                _ => Ok(None),
            };
        };
        self.received += chunk.len() as u64;
        self.window_bytes += chunk.len() as u64;
        if self.waited >= self.stall {
            if self.window_bytes < MIN_PROGRESS_BYTES {
                let message = format!("only {} bytes came in {:?}", self.window_bytes, self.waited);
                return Err(self.error(ErrorKind::Timeout, &message));
            }
            self.waited = Duration::ZERO;
            self.window_bytes = 0;
        }
        Ok(Some(chunk))
    }

    fn error(&self, kind: ErrorKind, message: &str) -> ProviderError {
        let exchange = Exchange {
            call: &self.call,
            redactor: &self.redactor,
            client_request_id: self.request_id.clone(),
        };
        exchange.error(kind, message)
    }
}
