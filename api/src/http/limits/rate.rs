//! How many requests a second a key may send (429), by the generic cell rate algorithm of `governor`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderName, HeaderValue, header};
use rag_domain::ApiKeyId;
use rag_settings::ApiSettings;

use crate::http::auth::Caller;
use crate::http::problem::{Kind, Problem};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

type Limiter =
    RateLimiter<ApiKeyId, DefaultKeyedStateStore<ApiKeyId>, DefaultClock, StateInformationMiddleware>;

/// The keys' buckets, and the policy that answers name; none without a limit. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Rates(Option<Arc<(Limiter, HeaderValue)>>);

impl Rates {
    pub(crate) fn new(settings: &ApiSettings) -> Self {
        let Some(per_second) = settings.rate_limit_per_second else {
            return Self(None);
        };
        let burst = settings.rate_limit_burst.unwrap_or(per_second);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        // As in draft-ietf-httpapi-ratelimit-headers: so many requests (q) in so many seconds (w).
        let window = NonZeroU32::div_ceil(burst, per_second);
        let policy = HeaderValue::try_from(format!("\"key\";q={burst};w={window}"));
        let policy = policy.unwrap_or(HeaderValue::from_static("\"key\""));
        Self(Some(Arc::new((limiter, policy))))
    }

    /// Forgets the keys whose buckets are full again.
    pub(crate) fn tidy(&self) {
        if let Some(buckets) = &self.0 {
            buckets.0.retain_recent();
        }
    }
}

/// Comes after authentication and lets callers without a key pass (`API_AUTH=off`).
pub(crate) async fn limit_rate(
    rates: &Rates,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let key = request.extensions().get::<Caller>().and_then(Caller::key);
    let (Some(key), Some(buckets)) = (key, &rates.0) else {
        return next(request).await;
    };
    let (limiter, policy) = &**buckets;
    let (mut response, remaining) = match limiter.check_key(&key) {
        Ok(snapshot) => (next(request).await, snapshot.remaining_burst_capacity()),
        Err(not_until) => {
            let wait = not_until.wait_time_from(limiter.clock().now());
            (refusal(wait), 0)
        }
    };
    let headers = response.headers_mut();
    headers.insert(RATE_LIMIT_POLICY, policy.clone());
    if let Ok(value) = HeaderValue::try_from(format!("\"key\";r={remaining}")) {
        headers.insert(RATE_LIMIT, value);
    }
    response
}

fn refusal(wait: Duration) -> Response {
    // Rounded up to whole seconds: a retry that comes too early would be refused again.
    let seconds = wait.as_millis().div_ceil(1000).max(1).to_string();
    let problem = Problem::new(
        Kind::TooManyRequests,
        "this API key has sent more requests than it may; see Retry-After",
    );
    ([(header::RETRY_AFTER, seconds)], problem).into_response()
}
