//! Yandex accepts files of listed types only, and refuses `application/octet-stream`. `mime_guess` has the common table of
//! extensions; Yandex uses other words for some.

use crate::types::FileUpload;

const TAKEN: [&str; 13] = [
    "application/json",
    "application/jsonlines",
    "application/msword",
    "application/pdf",
    "application/rtf",
    "application/x-latex",
    "application/xhtml+xml",
    "application/xml",
    "text/csv",
    "text/html",
    "text/markdown",
    "text/plain",
    "text/xml",
];
const TAKEN_FAMILIES: [&str; 2] = [
    "application/vnd.ms-",
    "application/vnd.openxmlformats-officedocument.",
];

/// The type the file's extension stands for, else the caller's, whichever is taken first; else plain text.
pub(super) fn content_type(upload: &FileUpload) -> String {
    let by_extension = by_extension(&upload.file_name);
    let candidates = [by_extension.as_deref(), upload.content_type.as_deref()];
    let taken = candidates
        .into_iter()
        .flatten()
        .map(essence)
        .find(|candidate| is_taken(candidate));
    taken.unwrap_or("text/plain").to_owned()
}

/// Where the common table and Yandex's list use different words for the same thing, Yandex's.
fn by_extension(file_name: &str) -> Option<String> {
    let extension = file_name.rsplit_once('.')?.1.to_ascii_lowercase();
    let own = match extension.as_str() {
        "jsonl" | "ndjson" => "application/jsonlines",
        "md" | "markdown" => "text/markdown",
        "rtf" => "application/rtf",
        "tex" | "latex" => "application/x-latex",
        "xml" => "application/xml",
        _ => {
            return mime_guess::from_ext(&extension)
                .first()
                .map(|mime| mime.essence_str().to_owned());
        }
    };
    Some(own.to_owned())
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_taken(essence: &str) -> bool {
    TAKEN.contains(&essence) || TAKEN_FAMILIES.iter().any(|family| essence.starts_with(family))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::BytesSource;

    #[test]
    fn only_listed_types_are_sent() {
        for (file_name, given, expected) in [
            ("a.pdf", None, "application/pdf"),
            ("a.PDF", Some("application/octet-stream"), "application/pdf"),
            ("a.md", None, "text/markdown"),
            ("a.jsonl", None, "application/jsonlines"),
            ("a.rtf", None, "application/rtf"),
            ("a.tex", None, "application/x-latex"),
            ("a.csv", None, "text/csv"),
            (
                "a.xlsx",
                None,
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            ),
            ("a.doc", None, "application/msword"),
            ("a.ppt", None, "application/vnd.ms-powerpoint"),
            ("a.png", None, "text/plain"),
            ("a", None, "text/plain"),
            ("a", Some("application/octet-stream"), "text/plain"),
            ("a", Some("text/html; charset=utf-8"), "text/html"),
            ("a.rs", Some("text/markdown"), "text/markdown"),
        ] {
            let upload = FileUpload {
                file_name: file_name.to_owned(),
                content_type: given.map(str::to_owned),
                size_bytes: 0,
                sha256: None,
                body: Arc::new(BytesSource(bytes::Bytes::new())),
            };
            assert_eq!(content_type(&upload), expected, "{file_name} {given:?}");
        }
    }
}
