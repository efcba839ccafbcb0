//! `Range: bytes=…` of one range (RFC 9110, 14). Malformed headers and several ranges are ignored.
//!
//! Not `headers::Range`: it skips what it cannot parse, so a malformed range (200) and one behind the end (416) look alike,
//! and it knows no spaces and no other case of `bytes`.

use http::{HeaderMap, header};

/// What a download is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requested {
    Whole,
    Part(Part),
    /// 416: the range lies behind the end.
    Unsatisfiable,
}

/// Bytes `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u64,
    last: u64,
}

impl Part {
    pub(super) fn length(self) -> u64 {
        self.last - self.first + 1
    }

    pub(super) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.first, self.last)
    }
}

/// `etag` as it is sent, quoted.
pub(super) fn requested(headers: &HeaderMap, size: u64, etag: &str) -> Requested {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // A date, a weak tag, or the tag of other contents: the client needs the whole file.
    if text(header::IF_RANGE).is_some_and(|tag| tag.trim() != etag) {
        return Requested::Whole;
    }
    text(header::RANGE)
        .and_then(|range| parse(range, size))
        .unwrap_or(Requested::Whole)
}

fn parse(range: &str, size: u64) -> Option<Requested> {
    let (unit, range) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    // `u64::from_str` would accept a sign.
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let count = number(last)?.min(size);
        return Some(if count == 0 {
            Requested::Unsatisfiable
        } else {
            Requested::Part(Part {
                first: size - count,
                last: size - 1,
            })
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(if first >= size {
        Requested::Unsatisfiable
    } else {
        Requested::Part(Part {
            first,
            last: last.min(size - 1),
        })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parsed(range: &'static str, if_range: Option<&'static str>) -> Requested {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static(range));
        if let Some(tag) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_static(tag));
        }
        requested(&headers, 10, "\"x\"")
    }

    #[test]
    fn one_range_is_cut_to_what_is_there() {
        for (range, first, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=2-5", 2, 5),
            ("bytes=7-", 7, 9),
            ("bytes=-3", 7, 9),
            ("bytes=-99", 0, 9),
            ("Bytes = 8-99999999999999999999999", 8, 9),
        ] {
            assert_eq!(
                parsed(range, None),
                Requested::Part(Part { first, last }),
                "{range}"
            );
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(parsed(range, None), Requested::Unsatisfiable, "{range}");
        }
        for range in [
            "bytes=5-2",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=",
            "bytes=-",
            "bytes=+1-2",
            "bytes=a-b",
            "x",
        ] {
            assert_eq!(parsed(range, None), Requested::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_other_contents_is_not_cut_out_of_these() {
        assert!(matches!(parsed("bytes=0-1", Some("\"x\"")), Requested::Part(_)));
        for tag in ["\"y\"", "W/\"x\"", "Sat, 21 Nov 2026 13:00:00 GMT"] {
            assert_eq!(parsed("bytes=0-1", Some(tag)), Requested::Whole, "{tag}");
        }
    }

    #[test]
    fn an_empty_file_has_no_part() {
        let mut headers = HeaderMap::new();
        for range in ["bytes=0-", "bytes=-5"] {
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            assert_eq!(
                requested(&headers, 0, "\"x\""),
                Requested::Unsatisfiable,
                "{range}"
            );
        }
    }
}
