//! Values of kinds that several settings have.
//!
//! As in `sections`, the answer is `None` when a value is missing or wrong; the reader has then noted why.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::reader::Reader;

/// Requests a second, or at once.
pub(crate) const A_RATE: RangeInclusive<NonZeroU32> = match NonZeroU32::new(1_000_000) {
    Some(most) => NonZeroU32::MIN..=most,
    None => NonZeroU32::MIN..=NonZeroU32::MIN,
};

/// Connections that a server holds open.
pub(crate) const CONNECTIONS: RangeInclusive<usize> = 1..=10_000_000;

pub(crate) const ADDRESS: &str = "an address and port such as 127.0.0.1:8080 or [::]:8080";

pub(crate) fn seconds(reader: &mut Reader<'_>, name: &'static str, most: u64) -> Option<Duration> {
    reader.integer(name, 1..=most).map(Duration::from_secs)
}

/// 0 is never.
#[expect(
    clippy::option_option,
    reason = "the outer one is a mistake, as everywhere here"
)]
pub(crate) fn interval(reader: &mut Reader<'_>, name: &'static str) -> Option<Option<Duration>> {
    let seconds: u64 = reader.integer(name, 0..=31 * 86_400)?;
    Some((seconds > 0).then(|| Duration::from_secs(seconds)))
}

pub(crate) fn pauses(
    reader: &mut Reader<'_>,
    min: &'static str,
    max: &'static str,
) -> Option<(Duration, Duration)> {
    let low = reader.integer(min, 1..=3_600_000).map(Duration::from_millis);
    let high = reader.integer(max, 1..=3_600_000).map(Duration::from_millis);
    let (low, high) = (low?, high?);
    if low > high {
        reader.mistake(min, format!("is larger than {max}"));
        return None;
    }
    Some((low, high))
}

pub(crate) fn domain_id(reader: &mut Reader<'_>, name: &'static str) -> Option<String> {
    let value = reader.required(name)?;
    if value.chars().count() > 128 || value.chars().any(char::is_control) {
        reader.mistake(name, "is not 1 to 128 printable characters");
        return None;
    }
    Some(value)
}

pub(crate) fn http_url(reader: &mut Reader<'_>, name: &'static str) -> Option<Url> {
    let value = reader.required(name)?;
    as_http_url(reader, name, &value)
}

/// URLs separated by commas, of which only scheme, host and port count.
pub(crate) fn origins(reader: &mut Reader<'_>, name: &'static str) -> Option<Vec<String>> {
    let value = reader.required(name)?;
    let urls = value.split(',').map(str::trim).filter(|url| !url.is_empty());
    urls.map(|url| Some(as_http_url(reader, name, url)?.origin().ascii_serialization()))
        .collect()
}

fn as_http_url(reader: &mut Reader<'_>, name: &'static str, value: &str) -> Option<Url> {
    match Url::parse(value) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => {
            reader.mistake(name, format!("`{value}` is not an http(s) URL"));
            None
        }
    }
}

pub(crate) fn service_account_key(reader: &mut Reader<'_>, name: &'static str) -> Option<SecretString> {
    let encoded = reader.optional_secret(name)?;
    // `base64` without -w0 breaks lines.
    let compact: String = encoded.expose_secret().split_ascii_whitespace().collect();
    let decoded = STANDARD
        .decode(compact)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded {
        Some(json) if serde_json::from_str::<serde_json::Map<_, _>>(&json).is_ok() => Some(json.into()),
        Some(_) => {
            reader.mistake(name, "is base64, but what it holds is not a JSON object");
            None
        }
        None => {
            reader.mistake(name, "is not base64 of a JSON text");
            None
        }
    }
}
