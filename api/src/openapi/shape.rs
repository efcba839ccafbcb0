//! What holds for all schemas and what their derivation does not say: pages name the schema of their items instead of
//! repeating it, and an answer has all its fields, those that are null included.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::openapi::schema::{AllOf, ArrayItems};
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};

/// Fields that answers leave out when there is nothing to say.
const OPTIONAL: [(&str, &str); 1] = [("Problem", "errors")];

pub(super) fn mend(document: &mut OpenApi) {
    let sent = sent_by_clients(document);
    let Some(components) = &mut document.components else {
        return;
    };
    for (name, schema) in &mut components.schemas {
        let RefOr::T(schema) = schema else { continue };
        if let Some(item) = name.strip_prefix("Page_") {
            name_items(schema, item);
        }
        if !sent.contains(name) {
            require_all(name, schema);
        }
    }
}

fn name_items(page: &mut Schema, item: &str) {
    if let Schema::Object(page) = page
        && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
    {
        items.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(item).into()));
    }
}

fn require_all(name: &str, schema: &mut Schema) {
    match schema {
        Schema::Object(object) => {
            let fields = object.properties.keys();
            let always = fields.filter(|field| !OPTIONAL.contains(&(name, field.as_str())));
            object.required = always.cloned().collect();
        }
        Schema::AllOf(AllOf { items, .. }) => {
            for item in items {
                if let RefOr::T(item) = item {
                    require_all(name, item);
                }
            }
        }
        Schema::Array(_) | Schema::OneOf(_) | Schema::AnyOf(_) => {}
        _ => {}
    }
}

/// The schemas of request bodies, and those that they refer to.
fn sent_by_clients(document: &OpenApi) -> BTreeSet<String> {
    let document = serde_json::to_value(document).unwrap_or_default();
    let mut sent = BTreeSet::new();
    let operations = document["paths"].as_object().into_iter().flatten();
    let operations = operations.flat_map(|(_, item)| item.as_object().into_iter().flatten());
    for (_, operation) in operations {
        collect(&document, &operation["requestBody"], &mut sent);
    }
    sent
}

fn collect(document: &Value, value: &Value, sent: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            if let Some(name) = name.and_then(|path| path.rsplit('/').next())
                && sent.insert(name.to_owned())
            {
                collect(document, &document["components"]["schemas"][name], sent);
            }
            fields.values().for_each(|value| collect(document, value, sent));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(document, value, sent)),
        _ => {}
    }
}
