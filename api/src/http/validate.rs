//! Checks all fields of a request, and answers one problem that names every wrong field.

use rag_domain::ChunkingStrategy;
use serde_json::Value;

use crate::http::problem::{FieldError, Problem};

pub(crate) const NAME_CHARS: usize = 255;
/// Fits a column of 64 KiB in any script.
pub(crate) const TEXT_CHARS: usize = 16 * 1024 - 1;
pub(crate) const TAGS: usize = 64;
pub(crate) const TAG_CHARS: usize = 128;
pub(crate) const METADATA_BYTES: usize = 64 * 1024;

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    errors: Vec<FieldError>,
}

impl Checks {
    pub(crate) fn fail(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError {
            field: field.into(),
            message: message.into(),
        });
    }

    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.errors))
        }
    }

    /// A line of text: a name, a tag.
    pub(crate) fn line(&mut self, field: &str, text: &str, max_chars: usize) {
        if text.trim().is_empty() || text.chars().count() > max_chars {
            self.fail(
                field,
                format!("must have 1 to {max_chars} characters, not all blank"),
            );
        } else if text.chars().any(char::is_control) {
            self.fail(field, "must not contain control characters");
        }
    }

    /// Free text of several lines.
    pub(crate) fn text(&mut self, field: &str, text: &str, max_chars: usize) {
        if text.chars().count() > max_chars {
            self.fail(field, format!("must not be longer than {max_chars} characters"));
        } else if text.contains('\0') {
            self.fail(field, "must not contain NUL");
        }
    }

    /// A file name without folders: providers and downloads use it.
    pub(crate) fn file_name(&mut self, field: &str, name: &str) {
        let before = self.errors.len();
        self.line(field, name, NAME_CHARS);
        if self.errors.len() == before && (name.contains(['/', '\\']) || matches!(name.trim(), "." | "..")) {
            self.fail(field, "must be a file name without folders");
        }
    }

    pub(crate) fn tags(&mut self, field: &str, tags: &[String]) {
        if tags.len() > TAGS {
            self.fail(field, format!("must not have more than {TAGS} entries"));
            return;
        }
        for (at, tag) in tags.iter().enumerate() {
            self.line(&format!("{field}[{at}]"), tag, TAG_CHARS);
        }
    }

    /// A JSON object of limited size and depth.
    pub(crate) fn object(&mut self, field: &str, value: &Value) {
        if !value.is_object() {
            self.fail(field, "must be a JSON object");
        } else if value.to_string().len() > METADATA_BYTES {
            self.fail(
                field,
                format!("must not be longer than {METADATA_BYTES} bytes as JSON"),
            );
        } else if depth(value) > 16 {
            self.fail(field, "must not be nested deeper than 16 levels");
        }
    }

    /// OpenAI's `expires_after`.
    pub(crate) fn expires_after(&mut self, field: &str, value: &Value) {
        let anchor = value.get("anchor").and_then(Value::as_str);
        let days = value.get("days").and_then(Value::as_u64);
        let size = value.as_object().map(serde_json::Map::len);
        if anchor != Some("last_active_at")
            || !days.is_some_and(|days| (1..=365).contains(&days))
            || size != Some(2)
        {
            self.fail(
                field,
                r#"must be {"anchor":"last_active_at","days":N} with N from 1 to 365"#,
            );
        }
    }

    pub(crate) fn chunking(&mut self, field: &str, value: &Value) -> Option<ChunkingStrategy> {
        match ChunkingStrategy::from_json(value) {
            Ok(strategy) => Some(strategy),
            Err(error) => {
                self.fail(field, error.to_string());
                None
            }
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// For fields of a PATCH: absent leaves the value, null clears it. Use with `#[serde(default, deserialize_with = …)]`.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(check: impl FnOnce(&mut Checks)) -> Vec<String> {
        let mut checks = Checks::default();
        check(&mut checks);
        checks.errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn file_names_are_names() {
        for name in ["a.txt", "отчёт за май.pdf", "...", "a..b", "-rf"] {
            assert!(
                fields(|checks| checks.file_name("f", name)).is_empty(),
                "{name:?}"
            );
        }
        let long = "x".repeat(256);
        for name in [
            "",
            " ",
            ".",
            "..",
            "../a",
            "a/b",
            "/etc/passwd",
            "a\\b",
            "a\0b",
            "a\nb",
            long.as_str(),
        ] {
            assert_eq!(fields(|checks| checks.file_name("f", name)), ["f"], "{name:?}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let named = fields(|checks| {
            checks.line("name", "", 5);
            checks.tags("tags", &["ok".to_owned(), String::new()]);
            checks.object("metadata", &json!([]));
            checks.chunking("chunking_strategy", &json!({"type": "static"}));
            checks.expires_after("expires_after", &json!({"anchor": "last_active_at", "days": 0}));
        });
        assert_eq!(
            named,
            [
                "name",
                "tags[1]",
                "metadata",
                "chunking_strategy",
                "expires_after"
            ]
        );
    }

    #[test]
    fn sizes_are_limited() {
        let deep = (0..20).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert_eq!(fields(|checks| checks.object("m", &deep)), ["m"]);
        assert_eq!(
            fields(|checks| checks.object("m", &json!({"a": "x".repeat(METADATA_BYTES)}))),
            ["m"]
        );
        assert_eq!(
            fields(|checks| checks.tags("t", &vec!["a".to_owned(); TAGS + 1])),
            ["t"]
        );
        assert_eq!(
            fields(|checks| checks.text("n", &"x".repeat(TEXT_CHARS + 1), TEXT_CHARS)),
            ["n"]
        );
        assert!(
            fields(|checks| checks.text("n", &"щ".repeat(TEXT_CHARS), TEXT_CHARS)).is_empty(),
            "all scripts are alike"
        );
        assert!(
            fields(|checks| checks.expires_after("e", &json!({"anchor": "last_active_at", "days": 7})))
                .is_empty()
        );
    }
}
