//! From JSON to the typed results, refusing what was not asked for.

use serde_json::Value;

use crate::error::{ErrorKind, ProviderError};
use crate::http::Answer;
use crate::http::classify::effect_once_sent;
use crate::operation::Operation;
use crate::types::wire::{WireObject, prune};
use crate::types::{Cursor, Deleted, Page, PageRequest};

/// As many characters as rows hold of an id. The longest seen has about 60.
const MAX_ID_CHARS: usize = 255;

/// Whether rows and paths can hold a text that a provider gives out as an id. Every id is looked at here, where it enters:
/// what is made under an id that we can't write down could be neither found nor deleted again.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What is wrong with an id that is none.
pub(super) fn not_an_id(what: &str, text: &str) -> String {
    match text.chars().count() {
        0 => format!("the {what} has an empty id"),
        count if count > MAX_ID_CHARS => {
            format!("the {what} has an id of {count} characters; at most {MAX_ID_CHARS} can be kept")
        }
        _ => format!("the {what} has an id with characters that no id has"),
    }
}

/// What an answer must say to be the answer to this call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) operation: Operation,
    /// `None`: a creation, or a provider whose ids can't be foretold.
    pub(crate) id: Option<&'a str>,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(operation: Operation) -> Self {
        Self { operation, id: None }
    }

    pub(crate) fn id(operation: Operation, id: &'a str) -> Self {
        Self {
            operation,
            id: Some(id),
        }
    }

    pub(crate) fn protocol_error(self, message: impl Into<Box<str>>) -> ProviderError {
        ProviderError::new(ErrorKind::Protocol, self.operation, message)
            .with_effect(effect_once_sent(self.operation))
    }
}

/// One object: of the right kind, with the right id, and with the fields that are required.
pub(crate) fn object<T: WireObject>(mut value: Value, expected: Expected<'_>) -> Result<T, ProviderError> {
    prune(&mut value);
    check_object_word(&value, T::OBJECTS, expected)?;
    let mut object = T::deserialize(&value).map_err(|error| {
        expected
            .protocol_error(format!("the {} lacks or garbles a field", T::OBJECTS[0]))
            .with_source(error)
    })?;
    if !is_id(object.id()) {
        return Err(expected.protocol_error(not_an_id(T::OBJECTS[0], object.id())));
    }
    // Yandex names a store's file and the file itself apart.
    for other in ["file_id", "vector_store_id"] {
        let other = value.get(other).and_then(Value::as_str).unwrap_or_default();
        if !other.is_empty() && !is_id(other) {
            return Err(expected.protocol_error(not_an_id(T::OBJECTS[0], other)));
        }
    }
    if expected.id.is_some_and(|id| id != object.id()) {
        return Err(expected.protocol_error(format!("the answer is about another {}", T::OBJECTS[0])));
    }
    object.keep_raw(value);
    Ok(object)
}

/// Servers that leave `object` out are believed; a wrong word is not.
fn check_object_word(value: &Value, words: &[&str], expected: Expected<'_>) -> Result<(), ProviderError> {
    match value.get("object") {
        None | Some(Value::Null) if value.is_object() => Ok(()),
        Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
        Some(Value::String(word)) => {
            let word: String = word.chars().filter(|c| !c.is_control()).take(60).collect();
            Err(expected.protocol_error(format!("the answer is a {word:?}, not a {}", words[0])))
        }
        _ => Err(expected.protocol_error(format!("the answer is not a {}", words[0]))),
    }
}

/// One page of a listing. An item that can't be read spoils the page: a listing with holes must not look whole.
pub(crate) fn list<T: WireObject>(
    answer: Answer,
    operation: Operation,
    request: &PageRequest,
    default_limit: u32,
) -> Result<Page<T>, ProviderError> {
    let expected = Expected::new(operation);
    check_object_word(&answer.value, &["list"], expected)?;
    let Value::Object(mut list) = answer.value else {
        return Err(expected.protocol_error("the answer is not a list"));
    };
    let Some(Value::Array(data)) = list.remove("data") else {
        return Err(expected.protocol_error("the list has no data"));
    };
    let items = data
        .into_iter()
        .map(|item| object::<T>(item, expected))
        .collect::<Result<Vec<_>, _>>()?;
    let next = next_cursor(
        &list,
        items.last().map(T::id),
        items.len(),
        request,
        default_limit,
    )
    .map_err(|message| expected.protocol_error(message))?;
    Ok(Page { items, next })
}

/// The position after the last item, if the provider says that something follows. A provider that does not say is asked again as
/// long as its pages are full. An empty page with a successor is only walked past if the page names the successor: without a
/// new cursor the walk would loop, and stopping would pass a part for the whole.
fn next_cursor(
    list: &serde_json::Map<String, Value>,
    last_item: Option<&str>,
    count: usize,
    request: &PageRequest,
    default_limit: u32,
) -> Result<Option<Cursor>, &'static str> {
    let full = count >= request.limit.unwrap_or(default_limit) as usize;
    let more = match list.get("has_more") {
        Some(Value::Bool(more)) => *more,
        None | Some(Value::Null) => full && count > 0,
        Some(_) => return Err("the list's has_more is no boolean"),
    };
    if !more {
        return Ok(None);
    }
    let asked = request.after.as_ref().map(Cursor::as_str);
    let named = list
        .get("last_id")
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty());
    match last_item.or(named) {
        None => Err("an empty page claims that more follows"),
        Some(id) if !is_id(id) => Err("the listing's cursor is no id"),
        Some(id) if Some(id) == asked => Err("the listing repeats a cursor and would loop"),
        Some(id) => Ok(Some(Cursor(id.to_owned()))),
    }
}

/// The answer to a deletion: of the right thing, and done.
pub(crate) fn deleted(
    result: Result<Answer, ProviderError>,
    words: &[&str],
    expected: Expected<'_>,
) -> Result<Deleted, ProviderError> {
    let id = expected.id.unwrap_or_default().to_owned();
    let value = match result {
        Ok(answer) => answer.value,
        Err(error) if error.is_absent() => return Ok(Deleted { id, existed: false }),
        Err(error) => return Err(error),
    };
    check_object_word(&value, words, expected)?;
    if value
        .get("id")
        .and_then(Value::as_str)
        .is_some_and(|answered| answered != id)
    {
        return Err(expected.protocol_error("the answer is about another deletion"));
    }
    match value.get("deleted") {
        Some(Value::Bool(true)) => Ok(Deleted { id, existed: true }),
        _ => Err(expected.protocol_error("the provider does not confirm the deletion")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Effect;
    use crate::types::{FileBatch, ProviderFile, VectorStore};

    fn answer(value: Value) -> Answer {
        Answer {
            value,
            poll_after: None,
            request_id: None,
        }
    }

    fn page(value: Value, request: &PageRequest) -> Result<Page<ProviderFile>, ProviderError> {
        list(answer(value), Operation::ListFiles, request, 2)
    }

    fn file(id: &str) -> Value {
        json!({"id": id, "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "assistants"})
    }

    #[test]
    fn the_end_of_a_listing_is_never_guessed() {
        let first = PageRequest::default();
        let after_b = PageRequest {
            after: Some(Cursor("b".into())),
            ..PageRequest::default()
        };
        let next = |value, request: &PageRequest| {
            page(value, request)
                .map(|page| page.next.map(|cursor| cursor.0))
                .map_err(|error| error.kind)
        };
        let some = |id: &str| Ok(Some(id.to_owned()));
        let list = |data: &[&str], rest: Value| {
            let mut list =
                json!({"object": "list", "data": data.iter().map(|id| file(id)).collect::<Vec<_>>()});
            list.as_object_mut()
                .unwrap()
                .extend(rest.as_object().unwrap().clone());
            list
        };
        let rows = [
            (
                list(&["a", "b"], json!({"has_more": true, "last_id": "b"})),
                &first,
                some("b"),
            ),
            (
                list(&["a", "b"], json!({"has_more": false, "last_id": "b"})),
                &first,
                Ok(None),
            ),
            // The item decides, not what the page says of it.
            (
                list(&["a", "b"], json!({"has_more": true, "last_id": "z"})),
                &first,
                some("b"),
            ),
            (list(&[], json!({"has_more": false})), &first, Ok(None)),
            (
                list(&[], json!({"has_more": true})),
                &first,
                Err(ErrorKind::Protocol),
            ),
            (
                list(&[], json!({"has_more": true, "last_id": null})),
                &first,
                Err(ErrorKind::Protocol),
            ),
            (
                list(&[], json!({"has_more": true, "last_id": "c"})),
                &after_b,
                some("c"),
            ),
            (
                list(&[], json!({"has_more": true, "last_id": "b"})),
                &after_b,
                Err(ErrorKind::Protocol),
            ),
            (
                list(&["b"], json!({"has_more": true})),
                &after_b,
                Err(ErrorKind::Protocol),
            ),
            (list(&["a", "b"], json!({})), &first, some("b")),
            (list(&["a"], json!({})), &first, Ok(None)),
            (list(&[], json!({})), &first, Ok(None)),
            (
                list(&["a"], json!({"has_more": "yes"})),
                &first,
                Err(ErrorKind::Protocol),
            ),
        ];
        for (value, request, expected) in rows {
            assert_eq!(next(value.clone(), request), expected, "{value}");
        }
    }

    #[test]
    fn a_listing_with_an_unreadable_item_is_no_listing() {
        let request = PageRequest::default();
        for value in [
            json!({"object": "list", "data": [file("a"), {"object": "file"}], "has_more": false}),
            json!({"object": "list", "data": [{"id": "vs", "object": "vector_store", "status": "completed"}], "has_more": false}),
            json!({"object": "list", "has_more": false}),
            json!({"object": "page", "data": [], "has_more": false}),
            json!([]),
        ] {
            assert_eq!(
                page(value.clone(), &request).unwrap_err().kind,
                ErrorKind::Protocol,
                "{value}"
            );
        }
    }

    #[test]
    fn only_what_was_asked_for_is_an_answer() {
        let expected = Expected::id(Operation::GetFileBatch, "vsfb_1");
        for (value, good) in [
            (
                json!({"id": "vsfb_1", "object": "vector_store.file_batch", "status": "completed"}),
                true,
            ),
            (
                json!({"id": "vsfb_1", "object": "vector_store.files_batch", "status": "completed"}),
                true,
            ),
            (json!({"id": "vsfb_1", "status": "paused"}), true),
            (
                json!({"id": "vsfb_2", "object": "vector_store.file_batch", "status": "completed"}),
                false,
            ),
            (
                json!({"id": "vs_1", "object": "vector_store", "status": "completed"}),
                false,
            ),
            (
                json!({"id": "vsfb_1", "object": "vector_store.file_batch"}),
                false,
            ),
            (
                json!({"id": "", "object": "vector_store.file_batch", "status": "completed"}),
                false,
            ),
            (json!("vsfb_1"), false),
            (Value::Null, false),
        ] {
            match object::<FileBatch>(value.clone(), expected) {
                Ok(batch) => assert!(good && batch.raw == value, "{value}"),
                Err(error) => assert!(!good && error.kind == ErrorKind::Protocol, "{value}"),
            }
        }
        let created = object::<VectorStore>(
            json!({"object": "file", "id": "x"}),
            Expected::new(Operation::CreateVectorStore),
        );
        assert_eq!(created.unwrap_err().effect, Effect::Unknown);
    }

    #[test]
    fn a_deletion_must_be_confirmed() {
        let expected = Expected::id(Operation::DeleteFile, "f");
        let run = |result| deleted(result, &["file", "file.deleted"], expected);
        let done = run(Ok(answer(json!({"id": "f", "object": "file", "deleted": true})))).unwrap();
        assert_eq!(
            done,
            Deleted {
                id: "f".into(),
                existed: true
            }
        );
        let absent = ProviderError::new(ErrorKind::NotFound, Operation::DeleteFile, "");
        assert_eq!(
            run(Err(absent)).unwrap(),
            Deleted {
                id: "f".into(),
                existed: false
            }
        );
        for value in [
            json!({"id": "f", "object": "file", "deleted": false}),
            json!({"id": "g", "object": "file", "deleted": true}),
            json!({"id": "f", "object": "vector_store", "deleted": true}),
            json!({}),
        ] {
            let error = run(Ok(answer(value))).unwrap_err();
            assert_eq!((error.kind, error.effect), (ErrorKind::Protocol, Effect::Unknown));
        }
    }
}
