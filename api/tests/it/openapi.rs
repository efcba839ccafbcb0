//! The document describes everything that is served, completely.

use serde_json::Value;

fn operations() -> Vec<(String, Value)> {
    let document = serde_json::to_value(rag_api::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((format!("{method} {path}"), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_operation_has_words_and_answers() {
    let operations = operations();
    assert!(operations.len() >= 28, "{}", operations.len());
    for (name, operation) in operations {
        assert!(
            operation["summary"].is_string() && operation["operationId"].is_string(),
            "{name}"
        );
        assert!(
            operation["tags"].as_array().is_some_and(|tags| tags.len() == 1),
            "{name}"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.contains_key("500") && responses.contains_key("503"),
            "{name}"
        );
        for (status, response) in responses {
            assert!(
                !response["description"].as_str().unwrap_or_default().is_empty(),
                "{name} {status}"
            );
            if status.starts_with(['4', '5']) {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
            }
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let has_domain = parameters
            .iter()
            .any(|parameter| parameter["name"] == "X-Domain-Id");
        let keyed = name.contains("/api/v1/");
        let of_domain = keyed
            && !name.contains("/admin/")
            && !name.contains("/providers/")
            && !name.ends_with("/providers");
        let of_domain = of_domain || name.contains("/provider-files");
        assert_eq!(has_domain, of_domain, "{name}");
        assert_eq!(responses.contains_key("401"), keyed, "{name}");
        assert_eq!(
            operation["security"].as_array().unwrap().len(),
            usize::from(keyed),
            "{name}"
        );
        if operation["requestBody"].is_object() {
            for status in ["413", "415", "422"] {
                assert!(responses.contains_key(status), "{name} {status}");
            }
        }
    }
}

#[test]
fn operation_ids_are_unique_and_references_resolve() {
    let document = serde_json::to_value(rag_api::document()).unwrap();
    assert_eq!(document["openapi"].as_str().unwrap().split('.').next(), Some("3"));
    let mut ids: Vec<String> = operations()
        .into_iter()
        .map(|(_, operation)| operation["operationId"].as_str().unwrap().to_owned())
        .collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                pending.extend(fields.values());
            }
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
}

#[test]
fn the_committed_document_is_the_served_one() {
    let committed = include_str!("../../openapi.json");
    let mut served = rag_api::document().to_pretty_json().unwrap();
    served.push('\n');
    assert!(
        committed == served,
        "api/openapi.json is not what the API serves. If the change is meant: `cargo run -p rag-api -- openapi > api/openapi.json`"
    );
}

/// A form or a generated client that fills in a null would clear the field.
#[test]
fn no_field_that_may_be_left_out_is_null_by_default() {
    let document = serde_json::to_value(rag_api::document()).unwrap();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert_ne!(schema.get("default"), Some(&Value::Null), "{name}.{field}");
        }
    }
}
