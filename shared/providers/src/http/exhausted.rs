//! Is the account exhausted: its quota or its storage? Such an answer holds a whole connection back, so it must be certain.
//!
//! A code is believed in any refusal. A sentence is believed only in answers to calls that bring something to the provider,
//! and only in what the provider wrote itself: what the request said (a file's name, a store's), and whatever stands in
//! quotation marks, may be anybody's text.

use std::sync::LazyLock;

use http::StatusCode;
use regex::Regex;

use super::call::Call;
use super::error_body::ErrorBody;
use crate::error::Exhaustion;

const QUOTA_CODES: [&str; 8] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "quota_exceeded",
    "exceeded_current_quota_error",
    "insufficient_funds",
    "insufficient_balance",
    "payment_required",
];
const STORAGE_CODES: [&str; 7] = [
    "storage_full",
    "storage_quota_exceeded",
    "storage_limit_exceeded",
    "storage_limit_reached",
    "insufficient_storage",
    "file_storage_limit_exceeded",
    "disk_full",
];

/// "Storage quota exceeded", "the project's storage is full", "not enough disk space".
static STORAGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
        \b(?:storage|disk)\b [^.:;\n]{0,60} \b(?:full|exceeded|exhausted|reached)\b
        | \b(?:exceed(?:s|ed|ing)?|insufficient|not\ enough|out\ of|no\ (?:more|free)) [^.:;\n]{0,60} \b(?:storage|disk)\b
        ",
    )
    .ok()
});
/// "You exceeded your current quota", "quota has been exhausted". Not "quota exceeded for requests per minute".
static QUOTA: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
        \bexceeded\ your\ (?:current\ )?quota\b
        | \binsufficient[\ _]quota\b
        | \bbilling\ hard\ limit\b
        | \bquota\ (?:is|has\ been)\ exhausted\b
        | \binsufficient\ (?:funds|balance|credits?)\b
        ",
    )
    .ok()
});
/// Double, single, typographic and back quotes. (An apostrophe within a word is none.)
static QUOTED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#""[^"]*"|`[^`]*`|«[^»]*»|“[^”]*”|‘[^’]*’|\B'[^']*'\B"#).ok());

/// What the account has run out of, if this refusal says so.
pub(crate) fn find(call: &Call, status: StatusCode, body: &ErrorBody) -> Option<Exhaustion> {
    let has = |codes: &[&str]| codes.iter().any(|code| body.code_is(code));
    if has(&STORAGE_CODES) {
        return Some(Exhaustion::Storage);
    }
    if has(&QUOTA_CODES) {
        return Some(Exhaustion::Quota);
    }
    match status.as_u16() {
        402 => Some(Exhaustion::Quota),
        507 => Some(Exhaustion::Storage),
        429 => {
            let own = without_request(call, &body.message);
            // A gateway quotes the whole answer of its upstream, code and all.
            if own.contains("insufficient_quota") || matches(&QUOTA, &own) {
                return Some(Exhaustion::Quota);
            }
            matches(&STORAGE, &unquoted(&own)).then_some(Exhaustion::Storage)
        }
        400 | 403 | 413 | 422 if call.operation.brings_something() => {
            let own = unquoted(&without_request(call, &body.message));
            if matches(&STORAGE, &own) {
                Some(Exhaustion::Storage)
            } else {
                matches(&QUOTA, &own).then_some(Exhaustion::Quota)
            }
        }
        _ => None,
    }
}

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

fn without_request(call: &Call, message: &str) -> String {
    let mut text = message.to_owned();
    for own in call.own_texts() {
        text = text.replace(own, "…");
        // Some servers write names with underscores, or cut off what follows the last dot.
        text = text.replace(&own.replace(' ', "_"), "…");
        if let Some((stem, _)) = own.rsplit_once('.').filter(|(stem, _)| stem.len() > 3) {
            text = text.replace(stem, "…");
        }
    }
    text
}

fn unquoted(text: &str) -> String {
    match QUOTED.as_ref() {
        Some(quoted) => quoted.replace_all(text, "…").into_owned(),
        // Without the expression nothing is certain.
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operation::Operation;

    fn found(call: &Call, status: u16, body: &str) -> Option<Exhaustion> {
        let status = StatusCode::from_u16(status).unwrap();
        find(call, status, &ErrorBody::read(body.as_bytes()))
    }

    #[test]
    fn the_expressions_are_valid() {
        assert!(STORAGE.is_some() && QUOTA.is_some() && QUOTED.is_some());
    }

    #[test]
    fn an_exhausted_account_is_known_in_whatever_status() {
        use Exhaustion::{Quota, Storage};
        let upload = Call::post(Operation::UploadFile, &["files"]).unwrap();
        for (status, body, expected) in [
            (402, "", Some(Quota)),
            (507, "", Some(Storage)),
            (
                429,
                r#"{"error":{"message":"m","code":"insufficient_quota"}}"#,
                Some(Quota),
            ),
            (
                429,
                r#"{"error":{"message":"m","type":"insufficient_quota","code":"x"}}"#,
                Some(Quota),
            ),
            (
                429,
                r#"{"error":{"message":"litellm: Error code: 429 - {'error': {'code': 'insufficient_quota'}}","type":"throttling_error"}}"#,
                Some(Quota),
            ),
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota, please check your plan"}}"#,
                Some(Quota),
            ),
            (
                429,
                r#"{"error":{"message":"Quota exceeded for requests per minute"}}"#,
                None,
            ),
            (429, r#"{"error":{"message":"Rate limit reached"}}"#, None),
            (
                400,
                r#"{"error":{"message":"Storage quota exceeded: the project's storage is full."}}"#,
                Some(Storage),
            ),
            (
                400,
                r#"{"detail":"Your organization's file storage limit has been reached"}"#,
                Some(Storage),
            ),
            (
                403,
                r#"{"error":{"message":"no","code":"storage_limit_exceeded"}}"#,
                Some(Storage),
            ),
            (
                413,
                r#"{"error":{"message":"Not enough storage left for this file"}}"#,
                Some(Storage),
            ),
            (413, r#"{"error":{"message":"File is too large"}}"#, None),
            (403, r#"{"error":{"message":"Permission denied"}}"#, None),
            (
                400,
                r#"{"error":{"message":"Invalid file 'storage is full': format"}}"#,
                None,
            ),
            (500, r#"{"error":{"message":"storage is full"}}"#, None),
        ] {
            assert_eq!(found(&upload, status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn what_the_request_says_itself_is_no_sign() {
        let upload = Call::post(Operation::UploadFile, &["files"])
            .unwrap()
            .own_text("insufficient_quota and storage is full.md");
        for body in [
            r#"{"error":{"message":"File insufficient_quota and storage is full.md is not supported"}}"#,
            r#"{"error":{"message":"File insufficient_quota_and_storage_is_full.md is not supported"}}"#,
            r#"{"error":{"message":"insufficient_quota and storage is full: unsupported extension"}}"#,
        ] {
            assert_eq!(found(&upload, 400, body), None, "{body}");
            assert_eq!(found(&upload, 429, body), None, "{body}");
        }
        let store = Call::post(Operation::CreateVectorStore, &["vector_stores"])
            .unwrap()
            .json(json!({"name": "our storage is full", "metadata": {"a": "out of disk"}}));
        let body = r#"{"error":{"message":"a store named our storage is full exists"}}"#;
        assert_eq!(found(&store, 400, body), None);
        // A search brings nothing: its refusals are about its own words.
        let search = Call::post(Operation::SearchVectorStore, &["vector_stores", "v", "search"]).unwrap();
        assert_eq!(found(&search, 400, r#"{"detail":"storage is full"}"#), None);
    }
}
