//! Cleans text from outside for errors: one line, bounded, without anything that is a credential or looks like one. No
//! crate knows the forms of these providers' keys.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use secrecy::{ExposeSecret, SecretString};

const MAX_CHARACTERS: usize = 500;
/// A provider that repeats a whole request would make a long text to search; what is beyond is cut before.
const MAX_INPUT_BYTES: usize = 8 * 1024;
const MASK: &str = "[redacted]";

/// OpenAI keys (also in the half-masked form OpenAI echoes), Yandex IAM tokens and API keys, whatever follows an
/// authorization scheme, JSON web tokens, and the credentials part of a URL.
static CREDENTIAL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
        \bsk-[A-Za-z0-9_*-]{6,}
        | \bt1\.[A-Za-z0-9_-]+=*(?:\.[A-Za-z0-9_-]+=*)?
        | \bAQVN[A-Za-z0-9_-]{8,}
        | \b(?i:bearer|api-key|basic)\s+[A-Za-z0-9._~+/=*-]{6,}
        | \beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*
        | (?P<scheme>[a-z]+://)[^/\s@]+@
        ",
    )
    .ok()
});

/// Knows the secrets of one connection.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    secrets: Vec<SecretString>,
}

impl Redactor {
    /// Values shorter than six characters are not hidden: they would turn any text into masks.
    pub(crate) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let secrets = secrets
            .map(str::trim)
            .filter(|secret| secret.len() >= 6)
            .map(SecretString::from)
            .collect();
        Self { secrets }
    }

    pub(crate) fn clean(&self, text: &str) -> Box<str> {
        let mut end = text.len().min(MAX_INPUT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut text = text[..end].to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose_secret(), MASK);
        }
        if let Some(credential) = CREDENTIAL.as_ref() {
            text = credential
                .replace_all(&text, format!("${{scheme}}{MASK}"))
                .into_owned();
        }
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty())
            .collect();
        let line = words.join(" ");
        match line.char_indices().nth(MAX_CHARACTERS) {
            Some((cut, _)) => format!("{}…", &line[..cut]).into(),
            None => line.into(),
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expression_is_valid() {
        assert!(CREDENTIAL.is_some());
    }

    #[test]
    fn credentials_do_not_survive() {
        let redactor = Redactor::new(["canary-1234", "ab"].into_iter());
        for (text, expected) in [
            (
                "Incorrect API key provided: sk-abc12***xyz9.",
                "Incorrect API key provided: [redacted].",
            ),
            ("key canary-1234 is wrong", "key [redacted] is wrong"),
            (
                "sent Authorization: Bearer abcdef.ghi",
                "sent Authorization: [redacted]",
            ),
            (
                "token t1.9euelZ-x.AAAA_-b is expired",
                "token [redacted] is expired",
            ),
            (
                "see https://user:secret@host/path",
                "see https://[redacted]host/path",
            ),
            ("ab stays, it is too short", "ab stays, it is too short"),
            ("two\nlines\u{1b}[31m", "two lines [31m"),
        ] {
            assert_eq!(&*redactor.clean(text), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let cleaned = Redactor::default().clean(&"я".repeat(20_000));
        assert_eq!(cleaned.chars().count(), MAX_CHARACTERS + 1);
    }
}
