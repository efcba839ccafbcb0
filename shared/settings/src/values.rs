//! Kinds of values that several settings have, or that take some parsing.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use url::Url;

use crate::database_uri::DatabaseUri;
use crate::setting::{Typed, whole};

/// Requests a second, or at once.
pub(crate) const RATE: RangeInclusive<NonZeroU32> = match NonZeroU32::new(1_000_000) {
    Some(max) => NonZeroU32::MIN..=max,
    None => NonZeroU32::MIN..=NonZeroU32::MIN,
};

/// Connections that a server holds open.
pub(crate) const CONNECTIONS: RangeInclusive<usize> = 1..=10_000_000;

pub(crate) const HOUR: u64 = 3600;
pub(crate) const DAY: u64 = 86_400;

pub(crate) fn seconds(name: &'static str, range: RangeInclusive<u64>, help: &'static str) -> Typed<Duration> {
    whole(name, range, help).unit("seconds").map(Duration::from_secs)
}

pub(crate) fn milliseconds(
    name: &'static str,
    range: RangeInclusive<u64>,
    help: &'static str,
) -> Typed<Duration> {
    whole(name, range, help)
        .unit("milliseconds")
        .map(Duration::from_millis)
}

pub(crate) fn days(name: &'static str, range: RangeInclusive<u64>, help: &'static str) -> Typed<Duration> {
    whole(name, range, help)
        .unit("days")
        .map(|days| Duration::from_secs(days * DAY))
}

/// Seconds, of which 0 switches something off.
pub(crate) fn seconds_or_off(name: &'static str, max: u64, help: &'static str) -> Typed<Option<Duration>> {
    whole(name, 0..=max, help)
        .unit("seconds")
        .map(|seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds)))
}

pub(crate) fn address(name: &'static str, help: &'static str) -> Typed<SocketAddr> {
    Typed::new(name, help, |text| {
        text.parse()
            .map_err(|_| format!("`{text}` is not an address and port such as 127.0.0.1:8080 or [::]:8080"))
    })
}

/// It never quotes the value, which may hold a password.
pub(crate) fn database_uri(name: &'static str, help: &'static str) -> Typed<DatabaseUri> {
    Typed::new(name, help, |text| {
        DatabaseUri::parse(text).map_err(|error| error.to_string())
    })
    .secret()
}

pub(crate) fn domain_id(name: &'static str, help: &'static str) -> Typed<String> {
    let parse = |text: &str| {
        if text.chars().count() > 128 || text.chars().any(char::is_control) {
            return Err("is not 1 to 128 printable characters".to_owned());
        }
        Ok(text.to_owned())
    };
    Typed::new(name, help, parse).range("1 to 128 printable characters")
}

pub(crate) fn url(name: &'static str, help: &'static str) -> Typed<Url> {
    Typed::new(name, help, http_url)
}

/// URLs separated by commas, of which only scheme, host and port count.
pub(crate) fn origins(name: &'static str, help: &'static str) -> Typed<Vec<String>> {
    Typed::new(name, help, |text| {
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(|url| Ok(http_url(url)?.origin().ascii_serialization()))
            .collect()
    })
}

fn http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(format!("`{text}` is not an http(s) URL")),
    }
}

/// JSON in base64; the value is the JSON.
pub(crate) fn service_account_key(name: &'static str, help: &'static str) -> Typed<SecretString> {
    let parse = |text: &str| {
        // `base64` without -w0 breaks lines.
        let compact: String = text.split_ascii_whitespace().collect();
        let decoded = STANDARD
            .decode(compact)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded {
            Some(json) if serde_json::from_str::<serde_json::Map<_, _>>(&json).is_ok() => Ok(json.into()),
            Some(_) => Err("is base64, but what it holds is not a JSON object".to_owned()),
            None => Err("is not base64 of a JSON text".to_owned()),
        }
    };
    Typed::new(name, help, parse).secret()
}
