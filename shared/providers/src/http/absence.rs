//! Which id a refusal names as absent. A "not found" that names nothing may come from anybody, and proves nothing.

use http::StatusCode;

use super::call::Call;
use super::error_body::{ErrorBody, Form};

/// The first id of the call's own that the answer names as absent. Servers say so with 404, and with 400: OGX of stores,
/// attached files and batches ("… not found"), OpenAI of ids that have not the form of one ("Invalid 'batch_id': … Expected
/// an ID that begins with …").
pub(super) fn find<'a>(call: &'a Call, status: StatusCode, body: &ErrorBody) -> Option<&'a str> {
    if body.form != Form::Json || body.quotes_html {
        return None;
    }
    let message = body.message.to_ascii_lowercase();
    let says_so = || {
        [
            "not found",
            "found with id",
            "does not exist",
            "doesn't exist",
            "no such",
        ]
        .iter()
        .any(|words| message.contains(words))
            || (message.starts_with("invalid '") && message.contains("expected an id that begins with"))
    };
    match status.as_u16() {
        404 | 410 => {}
        400 if says_so() => {}
        _ => return None,
    }
    let named = call
        .ids()
        .into_iter()
        .filter_map(|id| Some((position(&body.message, id)?, id)));
    named.min().map(|(_, id)| id)
}

/// Where a text names an id, as a word of its own.
fn position(text: &str, id: &str) -> Option<usize> {
    let belongs = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(id).map(|(at, _)| at).find(|at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + id.len()..].chars().next();
        !before.is_some_and(belongs) && !after.is_some_and(belongs)
    })
}

#[cfg(test)]
mod tests {
    use super::super::classify::{Judgement, judge};
    use super::*;
    use crate::error::ErrorKind;
    use crate::operation::Operation;

    fn attach() -> Call {
        Call::post(Operation::AttachFile, &["vector_stores", "vs_1", "files"])
            .unwrap()
            .json(serde_json::json!({"file_id": "file-1"}))
    }

    fn judged(call: &Call, status: u16, body: &str) -> Judgement {
        let status = StatusCode::from_u16(status).unwrap();
        judge(call, status, &ErrorBody::read(body.as_bytes()))
    }

    #[test]
    fn what_is_absent_is_named_or_nothing_is_certain() {
        use ErrorKind::{InvalidRequest, NotFound, Protocol, Unsupported};
        let detach = Call::delete(
            Operation::DetachFile,
            &["vector_stores", "vs_1", "files", "file-1"],
        )
        .unwrap();
        let batch = Call::get(
            Operation::GetFileBatch,
            &["vector_stores", "vs_1", "file_batches", "nonsense"],
        )
        .unwrap();
        for (call, status, message, kind, absent) in [
            (
                &detach,
                404,
                "No vector store found with id 'vs_1'.",
                NotFound,
                Some("vs_1"),
            ),
            (
                &detach,
                400,
                "Vector Store 'vs_1' not found. Use the list.",
                NotFound,
                Some("vs_1"),
            ),
            (
                &detach,
                400,
                "File file-1 not found in vector store vs_1",
                NotFound,
                Some("file-1"),
            ),
            (
                &detach,
                400,
                "No file found with id 'file-1' in vector store 'vs_1'.",
                NotFound,
                Some("file-1"),
            ),
            (&detach, 400, "File file-10 not found", InvalidRequest, None),
            (&detach, 400, "file-1 is being indexed", InvalidRequest, None),
            (
                &batch,
                400,
                "Invalid 'batch_id': 'nonsense'. Expected an ID that begins with 'vsfb_'.",
                NotFound,
                Some("nonsense"),
            ),
            (
                &detach,
                404,
                "litellm.BadRequestError: No such file: file-1",
                NotFound,
                Some("file-1"),
            ),
            (&detach, 404, "something is not found", NotFound, None),
            (
                &detach,
                404,
                "litellm.NotFoundError: <html><body>file-1</body></html>",
                Protocol,
                None,
            ),
            (
                &detach,
                404,
                "Invalid URL (DELETE /v1/vector_stores/vs_1)",
                Unsupported,
                None,
            ),
            (
                &attach(),
                404,
                "No such File object: file-1",
                NotFound,
                Some("file-1"),
            ),
        ] {
            let body = serde_json::json!({"error": {"message": message}}).to_string();
            let found = judged(call, status, &body);
            assert_eq!(
                (found.kind, found.absent.as_deref()),
                (kind, absent),
                "{status} {message}"
            );
        }
        let route = judged(&detach, 404, r#"{"detail":"Not Found"}"#);
        assert_eq!((route.kind, route.absent), (Unsupported, Option::None));
    }
}
