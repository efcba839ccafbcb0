//! The MIME type of a file: by its extension, then by its first bytes.

/// Never trusts what the client says; `head` is the beginning of the contents.
pub(crate) fn media_type(file_name: &str, head: &[u8]) -> String {
    let text = is_text(head);
    let by_name = mime_guess::from_path(file_name).first().filter(|mime| {
        // Some extensions are ambiguous: `.ts` is TypeScript more often than an MPEG stream, and the bytes tell.
        !(text && matches!(mime.type_().as_str(), "video" | "audio"))
    });
    if let Some(mime) = by_name {
        return mime.to_string();
    }
    if let Some(kind) = infer::get(head) {
        return kind.mime_type().to_owned();
    }
    if text && !head.is_empty() {
        "text/plain".to_owned()
    } else {
        "application/octet-stream".to_owned()
    }
}

/// UTF-8 without control characters that texts don't have. The head may end within a character.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_first_then_bytes() {
        let cases: [(&str, &[u8], &str); 9] = [
            ("a.pdf", b"anything", "application/pdf"),
            ("README.md", b"# Hello", "text/markdown"),
            ("main.rs", b"fn main() {}", "text/x-rust"),
            ("app.ts", b"export const a = 1;", "text/plain"),
            ("noname", b"%PDF-1.7 ...", "application/pdf"),
            ("noname", "текст".as_bytes(), "text/plain"),
            ("noname", b"\x00\x01\x02", "application/octet-stream"),
            ("noname", b"", "application/octet-stream"),
            ("LICENSE-MIT", b"Permission is hereby granted", "text/plain"),
        ];
        for (name, head, expected) in cases {
            assert_eq!(media_type(name, head), expected, "{name}");
        }
    }

    #[test]
    fn a_head_cut_within_a_character_is_still_text() {
        let cut = &"яя".as_bytes()[..3];
        assert_eq!(media_type("noname", cut), "text/plain");
    }
}
