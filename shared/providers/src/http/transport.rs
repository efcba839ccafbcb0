//! The client of one connection: sends calls, and sends them again where that is safe and soon.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use http::HeaderMap;
use reqwest::RequestBuilder;
use tracing::{Instrument, debug, debug_span};
use url::Url;
use uuid::Uuid;

use super::auth::Authorizer;
use super::call::Call;
use super::guard::GuardedResolver;
pub(crate) use super::outcome::Answer;
use super::outcome::Exchange;
use super::redact::Redactor;
use crate::connection::{NetworkPolicy, Permit, Refusal, RequestBudget, Timeouts};
use crate::error::{Effect, ErrorKind, ProviderError};
use crate::operation::Operation;

/// Tries after the first. Few: patience is the queue's, which keeps it in a row and frees the slot.
const MAX_REPEATS: usize = 2;
/// A longer `Retry-After` goes back to the caller.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A kept connection that a server closed without saying so breaks the next request; short keeping makes that rare.
const KEEP_IDLE: Duration = Duration::from_secs(15);

/// What a transport is built from.
pub(crate) struct TransportConfig {
    pub(crate) provider_type: &'static str,
    /// Checked by the guard.
    pub(crate) base_url: Url,
    pub(crate) network: NetworkPolicy,
    pub(crate) timeouts: Timeouts,
    /// Sent with every call.
    pub(crate) headers: HeaderMap,
    pub(crate) auth: Arc<dyn Authorizer>,
    pub(crate) budget: Option<Arc<dyn RequestBudget>>,
    pub(crate) redactor: Redactor,
}

pub(crate) struct Transport {
    client: reqwest::Client,
    config: TransportConfig,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("provider_type", &self.config.provider_type)
            .field("base_url", &self.config.base_url.as_str())
            .finish_non_exhaustive()
    }
}

/// An HTTP client that goes only where it may.
fn guarded_client(resolver: GuardedResolver, timeouts: Timeouts) -> Result<reqwest::Client, ProviderError> {
    // The process needs one crypto provider; the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("rag-indexer/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would do the connecting, past the guard.
        .no_proxy()
        .dns_resolver(Arc::new(resolver))
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(KEEP_IDLE)
        .tcp_keepalive(Duration::from_secs(30))
        .tcp_nodelay(true)
        .build()
        .map_err(|error| {
            ProviderError::new(
                ErrorKind::Disabled,
                Operation::Connect,
                "the HTTP client could not be built",
            )
            .with_source(error)
        })
}

impl Transport {
    pub(crate) fn new(config: TransportConfig) -> Result<Self, ProviderError> {
        let resolver = GuardedResolver::for_url(&config.base_url, config.network);
        let client = guarded_client(resolver, config.timeouts)?;
        Ok(Self { client, config })
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.config.timeouts
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.config.redactor
    }

    /// Sends a call and reads its answer as JSON.
    pub(crate) async fn json(&self, call: &Call) -> Result<Answer, ProviderError> {
        let whole = call.time.unwrap_or(self.config.timeouts.whole_call);
        self.repeating(call, Some(whole), |time| {
            self.json_once(call, call.time.unwrap_or(time))
        })
        .await
    }

    async fn json_once(&self, call: &Call, time: Duration) -> Result<Answer, ProviderError> {
        let exchange = self.exchange(call);
        let (mut request, _permit) = self.prepare(&exchange).await?;
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answer = async {
            let response = request.send().await.map_err(|error| exchange.broken(&error))?;
            exchange.json(response).await
        };
        let late = |_| exchange.timed_out(&format!("no answer within {time:?}"), true);
        tokio::time::timeout(time, answer).await.map_err(late)?
    }

    pub(crate) fn exchange<'a>(&'a self, call: &'a Call) -> Exchange<'a> {
        Exchange {
            call,
            redactor: &self.config.redactor,
            client_request_id: Uuid::new_v4().to_string(),
        }
    }

    /// Takes one request out of the budget and makes it ready, without a body. The permit is to live as long as the exchange.
    pub(crate) async fn prepare(
        &self,
        exchange: &Exchange<'_>,
    ) -> Result<(RequestBuilder, Permit), ProviderError> {
        let call = exchange.call;
        // Before leave is asked for: getting a token may take seconds, in which the connection may be changed.
        let header = self.config.auth.header().await?;
        let permit = match &self.config.budget {
            None => Permit::free(),
            Some(budget) => budget.acquire(call.operation).await.map_err(|refused| {
                let mut error = match &refused.reason {
                    Refusal::Rate => exchange.error(
                        ErrorKind::RateLimited,
                        "this connection's own request budget is used up",
                    ),
                    Refusal::Exhausted(exhausted) => {
                        let message = format!("nothing was sent, for the account is {exhausted}");
                        let mut error = exchange.error(ErrorKind::QuotaExceeded, &message);
                        error.exhausted = Some(exhausted.what);
                        error
                    }
                    Refusal::ConnectionChanged(why) => {
                        exchange.error(ErrorKind::Disabled, &format!("nothing was sent: {why}"))
                    }
                };
                error.retry_after = Some(refused.retry_after);
                error
            })?,
        };
        let mut request = self
            .client
            .request(call.method.clone(), call.url(&self.config.base_url))
            .headers(self.config.headers.clone())
            .header("x-client-request-id", &exchange.client_request_id);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(header) = header {
            request = request.header(http::header::AUTHORIZATION, header);
        }
        Ok((request, permit))
    }

    /// Runs `attempt` (which is given the time it may take) until it succeeds or another try is unsafe, useless, or too far
    /// off. Without `whole` there is no limit on the sum of the tries, and an attempt watches its own time.
    pub(crate) async fn repeating<T, F>(
        &self,
        call: &Call,
        whole: Option<Duration>,
        mut attempt: impl FnMut(Duration) -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let span = debug_span!(
            "provider.call",
            provider = self.config.provider_type,
            operation = call.operation.as_str()
        );
        let started = Instant::now();
        let mut delays = backoff();
        let mut renewed = false;
        let tries = async {
            loop {
                let left = whole.map_or(Duration::MAX, |whole| whole.saturating_sub(started.elapsed()));
                let mut error = match attempt(self.config.timeouts.per_try.min(left)).await {
                    Ok(result) => return Ok(result),
                    Err(error) => error,
                };
                // Getting a token has its own tries; what fails there is not about this call.
                if error.operation != call.operation {
                    return Err(error);
                }
                self.report_limit(&mut error).await;
                if error.status == Some(401) && !renewed && self.config.auth.renew().await {
                    renewed = true;
                    continue;
                }
                let Some(delay) = delay_before_repeat(call, &error, &mut delays) else {
                    return Err(error);
                };
                if whole.is_some_and(|whole| started.elapsed() + delay >= whole) {
                    return Err(error);
                }
                debug!(%error, ?delay, "trying again");
                tokio::time::sleep(delay).await;
            }
        };
        let result = tries.instrument(span).await;
        self.report_end(call.operation, result.as_ref().err()).await;
        result
    }

    /// What the end of a call says of the connection, if it says anything.
    async fn report_end(&self, operation: Operation, error: Option<&ProviderError>) {
        let Some(budget) = &self.config.budget else { return };
        match error {
            None => budget.accepted(operation).await,
            // Without a status it is our own budget that refused.
            Some(error) if error.kind == ErrorKind::QuotaExceeded && error.status.is_none() => {}
            Some(error) if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::QuotaExceeded) => {
                budget.refused(error).await;
            }
            Some(_) => {}
        }
    }

    /// The whole fleet backs off. Where the provider did not say for how long, the caller is told what the fleet does.
    async fn report_limit(&self, error: &mut ProviderError) {
        if error.kind == ErrorKind::RateLimited
            && error.status.is_some()
            && let Some(budget) = &self.config.budget
        {
            let pause = budget.rate_limited(error.operation, error.retry_after).await;
            error.retry_after = pause.or(error.retry_after);
        }
    }
}

fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(MAX_REPEATS)
        .with_jitter()
        .build()
}

/// `None`: the error goes back to the caller.
fn delay_before_repeat(
    call: &Call,
    error: &ProviderError,
    delays: &mut impl Iterator<Item = Duration>,
) -> Option<Duration> {
    let passing = matches!(
        error.kind,
        ErrorKind::RateLimited | ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Protocol
    );
    // A redirect, or a page where JSON should be refused with 404, is answered the same way next time.
    let settled = error.kind == ErrorKind::Protocol && error.status.is_some();
    // Without a status and without effect: the connection never stood.
    let unsent = error.status.is_none()
        && error.effect == Effect::None
        && matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Timeout);
    if !passing || settled || !(call.is_repeatable() || unsent) {
        return None;
    }
    let delay = delays.next()?;
    match error.retry_after {
        Some(wish) if wish > LONGEST_WAIT => None,
        Some(wish) => Some(wish.max(delay / 4)),
        None => Some(delay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind, status: Option<u16>, effect: Effect) -> ProviderError {
        ProviderError {
            status,
            ..ProviderError::new(kind, Operation::AttachFile, "").with_effect(effect)
        }
    }

    fn repeats(call: &Call, error: &ProviderError) -> bool {
        delay_before_repeat(call, error, &mut backoff()).is_some()
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let read = Call::get(Operation::GetFile, &["files", "f"]).unwrap();
        let delete = Call::delete(Operation::DeleteFile, &["files", "f"]).unwrap();
        let search = Call::post(Operation::SearchVectorStore, &["vector_stores", "v", "search"]).unwrap();
        let write = Call::post(Operation::AttachFile, &["vector_stores", "v", "files"]).unwrap();
        for (kind, status, effect, safe, unsafe_) in [
            (ErrorKind::Unavailable, None, Effect::None, true, true),
            (ErrorKind::Timeout, None, Effect::None, true, true),
            (ErrorKind::Unavailable, None, Effect::Unknown, true, false),
            (ErrorKind::Timeout, None, Effect::Unknown, true, false),
            (ErrorKind::Unavailable, Some(503), Effect::Unknown, true, false),
            (ErrorKind::RateLimited, Some(429), Effect::None, true, false),
            (ErrorKind::Protocol, None, Effect::Unknown, true, false),
            (ErrorKind::Protocol, Some(302), Effect::None, false, false),
            (ErrorKind::QuotaExceeded, Some(429), Effect::None, false, false),
            (ErrorKind::NotFound, Some(404), Effect::None, false, false),
            (ErrorKind::Unauthorized, Some(401), Effect::None, false, false),
            (ErrorKind::Disabled, None, Effect::None, false, false),
        ] {
            let error = error(kind, status, effect);
            for call in [&read, &delete, &search] {
                assert_eq!(repeats(call, &error), safe, "{call:?} {error}");
            }
            assert_eq!(repeats(&write, &error), unsafe_, "{error}");
        }
    }

    #[test]
    fn a_short_wish_is_obeyed_and_a_long_one_goes_back() {
        let read = Call::get(Operation::GetFile, &["files", "f"]).unwrap();
        let mut limited = error(ErrorKind::RateLimited, Some(429), Effect::None);
        limited.retry_after = Some(Duration::from_secs(3));
        assert_eq!(
            delay_before_repeat(&read, &limited, &mut backoff()),
            Some(Duration::from_secs(3))
        );
        limited.retry_after = Some(Duration::from_secs(6));
        assert_eq!(delay_before_repeat(&read, &limited, &mut backoff()), None);
    }

    /// A name that was harmless when it was stored, and resolves inwards now.
    #[tokio::test]
    async fn an_address_that_is_refused_at_connect_time_is_not_connected_to() {
        let resolver = GuardedResolver::answering(NetworkPolicy::default(), &["169.254.169.254", "10.0.0.1"]);
        let client = guarded_client(resolver, Timeouts::default()).unwrap();
        let error = client
            .get("https://provider.example/v1/files")
            .send()
            .await
            .unwrap_err();
        let broken = super::super::classify::broken(&error);
        assert_eq!(
            (broken.kind, broken.sent),
            (ErrorKind::Disabled, false),
            "{}",
            broken.message
        );
        assert!(broken.message.contains("not allowed"), "{}", broken.message);
    }

    #[test]
    fn repeats_end() {
        assert_eq!(backoff().count(), MAX_REPEATS);
    }
}
