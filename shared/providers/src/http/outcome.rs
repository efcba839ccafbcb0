//! One exchange with a provider, from the answer (or its absence) to a result. Every `ProviderError` that has an answer or a
//! broken connection behind it is made here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::Utc;
use http::HeaderMap;
use reqwest::Response;
use serde_json::Value;

use super::call::Call;
use super::classify;
use super::error_body::{ErrorBody, Form};
use super::redact::Redactor;
use super::retry_after::{poll_after, retry_after};
use crate::error::{Effect, ErrorKind, ProviderError};

const MAX_ERROR_BYTES: usize = 64 * 1024;

/// A usable answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) value: Value,
    pub(crate) poll_after: Option<Duration>,
    pub(crate) request_id: Option<Box<str>>,
}

/// The exchange under way: what errors need to know about it.
pub(crate) struct Exchange<'a> {
    pub(crate) call: &'a Call,
    pub(crate) redactor: &'a Redactor,
    /// Sent as `X-Client-Request-Id`.
    pub(crate) client_request_id: String,
}

impl Exchange<'_> {
    /// Reads the whole answer as JSON.
    pub(crate) async fn json(&self, response: Response) -> Result<Answer, ProviderError> {
        let response = self.accept(response).await?;
        let headers = response.headers().clone();
        let body = self.body(response, self.call.max_answer_bytes).await?;
        let value = serde_json::from_slice(&body).map_err(|error| {
            let what = match ErrorBody::read(&body) {
                ErrorBody {
                    form: Form::Empty, ..
                } => "the answer is empty".to_owned(),
                ErrorBody { message, .. } if body.trim_ascii_start().starts_with(b"<") => message,
                _ if error.is_eof() => format!("the answer ends after {} bytes, within its JSON", body.len()),
                _ => format!(
                    "the answer is no JSON (line {}, column {})",
                    error.line(),
                    error.column()
                ),
            };
            self.unusable(&headers, &what)
        })?;
        Ok(Answer {
            value,
            poll_after: poll_after(&headers),
            request_id: self
                .request_id(&headers)
                .or_else(|| Some(self.client_request_id.as_str().into())),
        })
    }

    /// Lets a success through and turns everything else into an error.
    pub(crate) async fn accept(&self, response: Response) -> Result<Response, ProviderError> {
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn refusal(&self, response: Response) -> ProviderError {
        let status = response.status();
        let headers = response.headers().clone();
        // The status alone says enough if the body breaks off or is too long.
        let body = ErrorBody::read(&read_start(response, MAX_ERROR_BYTES).await);
        let operation = self.call.operation;
        let message = match body.form {
            Form::Empty if status.is_redirection() => "redirects are not followed",
            Form::Empty => "the provider gave no reason",
            Form::Json | Form::Foreign => &body.message,
        };
        let judged = classify::judge(self.call, status, &body);
        ProviderError {
            kind: judged.kind,
            absent: judged.absent.map(Into::into),
            exhausted: judged.exhausted,
            operation,
            status: Some(status.as_u16()),
            retry_after: retry_after(&headers, Utc::now()),
            request_id: self
                .request_id(&headers)
                .or_else(|| body.request_id.as_deref().map(|id| self.redactor.clean(id)))
                .or_else(|| Some(self.client_request_id.as_str().into())),
            message: self.redactor.clean(message),
            effect: classify::effect_of_status(operation, status),
            code: body.code.as_deref().map(|code| self.redactor.clean(code)),
            source: None,
        }
    }

    async fn body(&self, mut response: Response, limit: usize) -> Result<Bytes, ProviderError> {
        let headers = response.headers().clone();
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    let message = format!("the answer is larger than {limit} bytes");
                    return Err(ProviderError {
                        kind: ErrorKind::TooLarge,
                        ..self.unusable(&headers, &message)
                    });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body.freeze()),
                Err(error) => {
                    let mut error = self.broken(&error);
                    error.request_id = self.request_id(&headers).or(error.request_id);
                    return Err(error);
                }
            }
        }
    }

    /// The answer came and makes no sense.
    fn unusable(&self, headers: &HeaderMap, message: &str) -> ProviderError {
        let mut error = self.error(ErrorKind::Protocol, message);
        error.effect = classify::effect_once_sent(self.call.operation);
        error.request_id = self.request_id(headers).or(error.request_id);
        error
    }

    /// The exchange broke. The reason is in the message, whole, so the error behind it is not kept.
    pub(crate) fn broken(&self, error: &reqwest::Error) -> ProviderError {
        let broken = classify::broken(error);
        let mut result = self.error(broken.kind, &broken.message);
        if broken.sent {
            result.effect = classify::effect_once_sent(self.call.operation);
        }
        result
    }

    fn request_id(&self, headers: &HeaderMap) -> Option<Box<str>> {
        classify::request_id(headers).map(|id| self.redactor.clean(&id))
    }

    /// No answer in time. `sent`: whether the provider may have the whole request.
    pub(crate) fn timed_out(&self, message: &str, sent: bool) -> ProviderError {
        let mut error = self.error(ErrorKind::Timeout, message);
        if sent {
            error.effect = classify::effect_once_sent(self.call.operation);
        }
        error
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: &str) -> ProviderError {
        let mut error = ProviderError::new(kind, self.call.operation, self.redactor.clean(message));
        error.request_id = Some(self.client_request_id.as_str().into());
        error.effect = Effect::None;
        error
    }
}

/// As much of a body as fits, and whatever came before it broke.
async fn read_start(mut response: Response, limit: usize) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() >= limit {
            break;
        }
    }
    body.freeze()
}
