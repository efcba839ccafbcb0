//! Lenient pieces of wire decoding that the result types share: nulls where the document promises objects, and times that
//! come as unix seconds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A result that a provider answers with: it names its `object` words and its id, and keeps the JSON it came from.
pub(crate) trait WireObject: for<'de> Deserialize<'de> {
    /// What `object` may say. Servers disagree on some of them, hence a list.
    const OBJECTS: &'static [&'static str];

    fn id(&self) -> &str;

    fn keep_raw(&mut self, raw: Value);
}

/// `null` and an absent field both mean the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A text of at most so many characters; what is beyond is cut off. `null` and an absent field are empty. Everything that a
/// provider says in words is cut where it enters, so that it fits the columns that it may end up in.
pub(crate) fn at_most<'de, D, const CHARS: usize>(deserializer: D) -> Result<String, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(cut(null_as_default(deserializer)?, CHARS))
}

/// The first so many characters, and a sign that there were more.
pub(crate) fn cut(mut text: String, chars: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(chars) {
        let last = text[..at].char_indices().next_back().map_or(0, |(at, _)| at);
        text.truncate(last);
        text.push('…');
    }
    text
}

/// As [`at_most`], for a text that may be absent.
pub(crate) fn some_at_most<'de, D, const CHARS: usize>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<String>::deserialize(deserializer)?.map(|text| cut(text, CHARS)))
}

/// MariaDB takes JSON of at most 32 levels; rows put a provider's a few levels down.
const MAX_LEVELS: usize = 20;
/// Much more than any description of a store or file has, and much less than a statement may have.
const MAX_JSON_BYTES: usize = 512 * 1024;

/// Cuts a provider's JSON to what rows can hold: what lies too deep, or comes when the whole is long already, is left out.
pub(crate) fn prune(value: &mut Value) {
    let mut left = MAX_JSON_BYTES;
    prune_level(value, MAX_LEVELS, &mut left);
}

fn prune_level(value: &mut Value, levels: usize, left: &mut usize) {
    const FEW: usize = 8;
    match value {
        Value::String(text) if text.len() > *left => {
            let kept = text.floor_char_boundary(*left);
            text.truncate(kept);
            text.push('…');
            *left = 0;
        }
        Value::String(text) => *left = left.saturating_sub(text.len() + FEW),
        Value::Array(_) | Value::Object(_) if levels == 0 => *value = Value::String("…".to_owned()),
        Value::Array(items) => {
            let mut kept = 0;
            for item in items.iter_mut() {
                if *left == 0 {
                    break;
                }
                prune_level(item, levels - 1, left);
                kept += 1;
            }
            items.truncate(kept);
        }
        Value::Object(fields) => fields.retain(|key, field| {
            if *left == 0 {
                return false;
            }
            *left = left.saturating_sub(key.len() + FEW);
            prune_level(field, levels - 1, left);
            true
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => *left = left.saturating_sub(FEW),
    }
}

/// Unix seconds, whole or fractional; `null`, absent or out of range is no time at all.
pub(crate) fn unix_seconds<'de, D>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error>
where
    D: Deserializer<'de>,
{
    let value = Option::<Value>::deserialize(deserializer)?;
    Ok(value
        .as_ref()
        .and_then(whole_seconds)
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0)))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a fraction of a second is dropped on purpose, and a float beyond i64 saturates and is then out of range"
)]
fn whole_seconds(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|seconds| seconds as i64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Timed {
        #[serde(default, deserialize_with = "unix_seconds")]
        at: Option<DateTime<Utc>>,
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut("яяя".to_owned(), 3), "яяя");
        assert_eq!(cut("яяяя".to_owned(), 3), "яя…");
        assert_eq!(cut(String::new(), 3), "");
    }

    #[test]
    fn json_is_cut_to_what_rows_hold() {
        let mut small = serde_json::json!({"id": "f", "list": [1, {"a": null}]});
        let before = small.clone();
        prune(&mut small);
        assert_eq!(small, before);
        let mut deep = Value::Null;
        for _ in 0..100 {
            deep = serde_json::json!({"a": [deep]});
        }
        prune(&mut deep);
        let opened = deep.to_string().matches(['{', '[']).count();
        assert_eq!(opened, MAX_LEVELS);
        let mut long = serde_json::json!({"id": "f", "x": "я".repeat(MAX_JSON_BYTES), "z": [1, 2]});
        prune(&mut long);
        assert_eq!(long["id"], "f");
        assert!(long.to_string().len() < MAX_JSON_BYTES + 100);
        let mut many = serde_json::json!({"list": vec!["entry"; 1_000_000]});
        prune(&mut many);
        assert!(many.to_string().len() < MAX_JSON_BYTES + 100);
    }

    #[test]
    fn times_are_read_from_every_form_seen() {
        for (json, expected) in [
            (r#"{"at":1699061776}"#, Some(1_699_061_776)),
            (r#"{"at":1699061776.75}"#, Some(1_699_061_776)),
            (r#"{"at":"1699061776"}"#, Some(1_699_061_776)),
            (r#"{"at":null}"#, None),
            ("{}", None),
            (r#"{"at":1e300}"#, None),
            (r#"{"at":"soon"}"#, None),
        ] {
            let timed: Timed = serde_json::from_str(json).unwrap();
            assert_eq!(timed.at.map(|at| at.timestamp()), expected, "{json}");
        }
    }
}
