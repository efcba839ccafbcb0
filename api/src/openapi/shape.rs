//! Corrects what is derived for all schemas: pages refer to the schema of their items, answers have all their fields (null
//! ones included), and parameters are never null.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::openapi::encoding::EncodingBuilder;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::{AdditionalProperties, AllOf, ArrayItems, SchemaType};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Schema, Type};

use super::for_each_operation;

/// Fields that answers leave out when there is nothing to say.
const OPTIONAL: [(&str, &str); 1] = [("Problem", "errors")];

/// Parts of forms that are JSON.
const JSON_PARTS: [&str; 1] = ["chunking_strategy"];

const FORM: &str = "UploadForm";

pub(super) fn mend(document: &mut OpenApi) {
    for_each_operation(document, |operation| {
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(Parameter {
                schema: Some(schema), ..
            }) = parameter
            {
                without_null(schema);
            }
        }
        let Some(RefOr::T(body)) = &mut operation.request_body else {
            return;
        };
        for content in body.content.values_mut() {
            if let RefOr::T(Content {
                schema: Some(schema), ..
            }) = content
            {
                without_null(schema);
            }
        }
        if let Some(RefOr::T(form)) = body.content.get_mut("multipart/form-data") {
            let json = || {
                EncodingBuilder::new()
                    .content_type(Some("application/json".to_owned()))
                    .build()
            };
            form.encoding = JSON_PARTS.map(|part| (part.to_owned(), json())).into();
        }
    });
    let sent = sent_by_clients(document);
    let Some(components) = &mut document.components else {
        return;
    };
    for (name, schema) in &mut components.schemas {
        let RefOr::T(schema) = schema else { continue };
        if let Some(item) = name.strip_prefix("Page_") {
            name_items(schema, item);
        }
        if name == FORM
            && let Schema::Object(form) = schema
        {
            // A part that has nothing to say is left out.
            form.properties.values_mut().for_each(without_null);
            form.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
        without_null_defaults(schema);
        if sent.contains(name) {
            close_variants(schema);
        } else {
            require_all(name, schema);
        }
    }
}

/// A parameter, or a body, that may be left out is derived as one that may be null, which a text cannot say.
fn without_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let [one, Type::Null] | [Type::Null, one] = &types[..]
            {
                object.schema_type = SchemaType::Type(one.clone());
                if let Some(values) = &mut object.enum_values {
                    values.retain(|value| !value.is_null());
                }
            }
        }
        RefOr::T(Schema::OneOf(either)) => {
            let is_null = |item: &RefOr<Schema>| {
                matches!(item, RefOr::T(Schema::Object(object))
                    if matches!(object.schema_type, SchemaType::Type(Type::Null)))
            };
            either.items.retain(|item| !is_null(item));
            if let [_] = &either.items[..] {
                *schema = either.items.remove(0);
            }
        }
        // An inlined enumeration with a default is derived as the enumeration and an object at once.
        RefOr::T(Schema::AllOf(both)) => {
            if let [
                RefOr::T(Schema::Object(values)),
                RefOr::T(Schema::Object(default)),
            ] = &mut both.items[..]
            {
                values.default = default.default.take();
                *schema = RefOr::T(Schema::Object(std::mem::take(values)));
            }
        }
        _ => {}
    }
}

/// A field of a change that is left out stays as it is, and null clears it: a default of null would have generated clients and
/// forms send null. The derivation states it of every field that may be left out.
fn without_null_defaults(schema: &mut Schema) {
    let Schema::Object(object) = schema else { return };
    for field in object.properties.values_mut() {
        let default = match field {
            RefOr::T(Schema::Object(field)) => &mut field.default,
            RefOr::T(Schema::Array(field)) => &mut field.default,
            RefOr::T(Schema::OneOf(field)) => &mut field.default,
            _ => continue,
        };
        default.take_if(|default| default.is_null());
    }
}

fn name_items(page: &mut Schema, item: &str) {
    if let Schema::Object(page) = page
        && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
    {
        items.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(item).into()));
    }
}

/// Unknown fields are refused; the derivation says so of structs, and not of enums.
fn close_variants(schema: &mut Schema) {
    if let Schema::OneOf(either) = schema {
        for item in &mut either.items {
            if let RefOr::T(Schema::Object(variant)) = item
                && !variant.properties.is_empty()
            {
                variant.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
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
