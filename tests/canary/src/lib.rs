//! Secrets in tests carry a mark, and whatever a test run brings forth is searched for it: logs, answers, databases.
//!
//! Three things can be searched: bytes ([`find`]), a whole database ([`database`]), and everything that the test's own
//! process logs, at the finest level ([`watch_logs`]). Where that is done is the harnesses' matter; that a request to a
//! provider holds the secret is as it should be, and nobody looks there.

#![expect(clippy::missing_panics_doc, reason = "for tests, which report by panicking")]
#![expect(clippy::expect_used, reason = "for tests, which report by panicking")]

pub mod database;
mod logs;

pub use logs::watch_logs;

use std::sync::LazyLock;

use regex::bytes::Regex;

/// In every secret that a test makes up, and in nothing else.
pub const MARK: &str = "c4n4ry";

/// The mark, plain and in base64 at each of its three alignments, and the forms of secrets that tests can't mark because a
/// program draws them: keys of the API, access tokens, signed JWTs, private keys in PEM or in the base64 within.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x-u)
        c4n4ry | YzRuNHJ5 | M0bjRye | jNG40cn[k-n]
        | \brag_[A-Za-z0-9_-]{43}\b
        | \bt1\.[A-Za-z0-9_-]+=*\.[A-Za-z0-9_-]{86}
        | \beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{40,}
        | PRIVATE\ KEY----- | BADANBgkqhkiG9w0BAQEFAASC",
    )
    .expect("the pattern is one")
});

/// Where the first secret is: the text before it, for whoever looks for the leak. The secret itself is not repeated.
pub fn find(bytes: &[u8]) -> Option<String> {
    const BEFORE: usize = 160;
    let found = SECRET.find(bytes)?;
    let begin = found.start().saturating_sub(BEFORE);
    let before = String::from_utf8_lossy(&bytes[begin..found.start()]);
    Some(format!("…{before}[a secret of {} bytes]", found.len()))
}

/// # Panics
/// If a secret is in `bytes`.
#[track_caller]
pub fn assert_none(what: &str, bytes: &[u8]) {
    if let Some(leak) = find(bytes) {
        panic!("a secret leaked into {what}: {leak}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_every_form_and_nothing_else_is() {
        let base64 = |shift: &str| match shift {
            "" => "YzRuNHJ5LWtleQ==",  // c4n4ry-key
            "x" => "eGM0bjRyeS1rZXk=", // xc4n4ry-key
            _ => "eHhjNG40cnkta2V5",   // xxc4n4ry-key
        };
        let api_key = format!("Bearer rag_{}", "a-B_9".repeat(9).get(..43).expect("43"));
        let token = format!("t1.9euelZqPm.{}", "Aa9_-".repeat(18).get(..86).expect("86"));
        let jwt = format!("eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhamUifQ.{}", "x".repeat(43));
        for secret in [
            "api_key=sk-c4n4ry-1",
            base64(""),
            base64("x"),
            base64("xx"),
            &api_key,
            &token,
            &jwt,
            "-----BEGIN PRIVATE KEY-----",
            "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSi",
        ] {
            let text = format!("before {secret} after");
            let leak = find(text.as_bytes()).expect(secret);
            assert!(leak.starts_with("…before ") && !leak.contains(MARK), "{leak}");
        }
        for harmless in [
            "canary",
            "rag_provider_connections",
            "rag_it_0123456789abcdef0123456789abcdef",
            "t1.9euelZqPm",
            "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "-----BEGIN PUBLIC KEY-----",
        ] {
            assert_eq!(find(harmless.as_bytes()), None, "{harmless}");
        }
    }
}
