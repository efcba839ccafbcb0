//! How long a provider asks to wait. The `headers` crate reads neither fractions of seconds nor the names that gateways use.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

/// Longer wishes are cut to this: beyond a day, a header is more likely broken than meant.
const LONGEST: Duration = Duration::from_hours(24);

/// In this order; the second pair is what LiteLLM makes of an upstream's.
const MILLISECONDS: [&str; 2] = ["retry-after-ms", "llm_provider-retry-after-ms"];
const SECONDS: [&str; 2] = ["retry-after", "llm_provider-retry-after"];

/// `retry-after-ms`, else `retry-after` as seconds (fractions occur) or as an HTTP date, relative to the answer's own `date`
/// if it has one, so that a wrong clock on either side does no harm. What a gateway passes on under another name counts too.
/// A moment in the past is no wait at all.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = MILLISECONDS
        .iter()
        .find_map(|name| bounded(text(name)?.parse::<f64>().ok()? / 1000.0));
    if milliseconds.is_some() {
        return milliseconds;
    }
    SECONDS.iter().find_map(|name| {
        let value = text(name)?;
        if let Ok(seconds) = value.parse::<f64>() {
            return bounded(seconds);
        }
        let at = DateTime::parse_from_rfc2822(value).ok()?;
        let answered = text("date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let now = answered.map_or(now, |date| date.with_timezone(&Utc));
        Some(
            (at.with_timezone(&Utc) - now)
                .to_std()
                .unwrap_or_default()
                .min(LONGEST),
        )
    })
}

/// `openai-poll-after-ms`: when to look again at something in progress.
pub(crate) fn poll_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("openai-poll-after-ms")?.to_str().ok()?;
    bounded(value.trim().parse::<f64>().ok()? / 1000.0)
}

fn bounded(seconds: f64) -> Option<Duration> {
    if seconds.is_nan() {
        return None;
    }
    Some(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        let headers = pairs.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let now = DateTime::parse_from_rfc3339("2026-01-02T03:04:05Z")
            .unwrap()
            .to_utc();
        retry_after(&headers.collect(), now)
    }

    #[test]
    fn every_form_is_read() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(read(&[("retry-after", "7")]), seconds(7));
        assert_eq!(
            read(&[("retry-after", " 0.5 ")]),
            Some(Duration::from_millis(500))
        );
        assert_eq!(
            read(&[("retry-after-ms", "250"), ("retry-after", "7")]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            read(&[("retry-after", "Fri, 02 Jan 2026 03:04:15 GMT")]),
            seconds(10)
        );
        assert_eq!(
            read(&[("retry-after", "Fri, 02 Jan 2026 03:00:00 GMT")]),
            seconds(0)
        );
        // The server's clock is an hour ahead; its own date says so.
        let ahead = [
            ("retry-after", "Fri, 02 Jan 2026 04:04:15 GMT"),
            ("date", "Fri, 02 Jan 2026 04:04:05 GMT"),
        ];
        assert_eq!(read(&ahead), seconds(10));
        assert_eq!(read(&[("retry-after", "-3")]), seconds(0));
        assert_eq!(read(&[("retry-after", "1e30")]), seconds(86_400));
        assert_eq!(read(&[("retry-after", "NaN")]), None);
        assert_eq!(read(&[("retry-after", "soon")]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("llm_provider-retry-after", "7")]), seconds(7));
        assert_eq!(
            read(&[("llm_provider-retry-after-ms", "1500"), ("retry-after", "soon")]),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            read(&[("retry-after", "soon"), ("llm_provider-retry-after", "4")]),
            seconds(4)
        );
    }
}
