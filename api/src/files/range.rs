//! `Range: bytes=…` of one range (RFC 9110, 14). Headers that are not understood are as good as absent.

use http::{HeaderMap, header};

/// What a download is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Whole,
    Part(Part),
    /// 416: nothing of the range is there.
    Behind,
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
pub(super) fn asked_for(headers: &HeaderMap, size: u64, etag: &str) -> Asked {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // A date, a weak tag, or the tag of other contents: the client needs all of it.
    if text(header::IF_RANGE).is_some_and(|tag| tag.trim() != etag) {
        return Asked::Whole;
    }
    text(header::RANGE)
        .and_then(|range| parse(range, size))
        .unwrap_or(Asked::Whole)
}

fn parse(range: &str, size: u64) -> Option<Asked> {
    let (unit, range) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    // `u64` would take a sign.
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let count = number(last)?.min(size);
        return Some(if count == 0 {
            Asked::Behind
        } else {
            Asked::Part(Part {
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
        Asked::Behind
    } else {
        Asked::Part(Part {
            first,
            last: last.min(size - 1),
        })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(range: &'static str, if_range: Option<&'static str>) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static(range));
        if let Some(tag) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_static(tag));
        }
        asked_for(&headers, 10, "\"x\"")
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
            assert_eq!(asked(range, None), Asked::Part(Part { first, last }), "{range}");
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(asked(range, None), Asked::Behind, "{range}");
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
            assert_eq!(asked(range, None), Asked::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_other_contents_is_not_cut_out_of_these() {
        assert!(matches!(asked("bytes=0-1", Some("\"x\"")), Asked::Part(_)));
        for tag in ["\"y\"", "W/\"x\"", "Sat, 21 Nov 2026 13:00:00 GMT"] {
            assert_eq!(asked("bytes=0-1", Some(tag)), Asked::Whole, "{tag}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_part() {
        let mut headers = HeaderMap::new();
        for range in ["bytes=0-", "bytes=-5"] {
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            assert_eq!(asked_for(&headers, 0, "\"x\""), Asked::Behind, "{range}");
        }
    }
}
