//! Objects as the protocol shows them.

use crate::{
    collection::Page,
    ids::Id,
    options::Options,
    state::{Batch, File, FileStatus, Store, StoreFile, Upload},
    yandex,
};
use serde_json::{Value, json};

pub(crate) fn file(file: &File, options: &Options) -> Value {
    let mut view = json!({
        "id": file.id, "object": "file", "bytes": file.bytes, "created_at": file.created_at,
        "filename": file.filename, "purpose": file.purpose, "status": "processed",
    });
    if let Some(at) = file.expires_at {
        view["expires_at"] = at.into();
    } else if !options.spec_strict {
        view["expires_at"] = Value::Null;
    }
    if options.is_yandex() {
        view["valid"] = true.into();
    }
    view
}

pub(crate) fn store(store: &Store, options: &Options) -> Value {
    let mut view = json!({
        "id": store.id, "object": "vector_store", "created_at": store.created_at, "name": store.name,
        "usage_bytes": store.usage_bytes, "file_counts": store.counts, "status": store.status(),
        "expires_at": store.expires_at(), "last_active_at": store.last_active_at, "metadata": store.metadata,
    });
    let expires_after = store
        .expires_after_days
        .map(|days| json!({ "anchor": "last_active_at", "days": days }));
    if options.spec_strict {
        // The document types these fields without null.
        if let Some(expires_after) = expires_after {
            view["expires_after"] = expires_after;
        }
        if let Some(description) = &store.description {
            view["description"] = description.as_str().into();
        }
        view["name"] = store.name.as_deref().unwrap_or_default().into();
    } else {
        view["expires_after"] = expires_after.into();
        view["description"] = store.description.clone().into();
    }
    if options.is_yandex() {
        view["valid"] = true.into();
        // Where OpenAI knows no failed stores, Yandex does.
        let counts = &store.counts;
        if counts.total > 0 && counts.failed == counts.total {
            view["status"] = "failed".into();
        }
    }
    view
}

pub(crate) fn store_file(options: &Options, store_id: &str, file_id: &str, file: &StoreFile) -> Value {
    let mut view = json!({
        "id": yandex::store_file_id(options, file_id), "object": "vector_store.file", "usage_bytes": file.usage_bytes(),
        "created_at": file.created_at, "vector_store_id": store_id, "status": file.status,
        "last_error": file.last_error, "chunking_strategy": file.sizes.to_json(), "attributes": file.attributes,
    });
    if view["id"] != file_id {
        view["file_id"] = file_id.into();
    }
    view
}

pub(crate) fn batch(batch: &Batch, options: &Options) -> Value {
    // Real servers say `file_batch`, the document says `files_batch`.
    let object = if options.spec_strict {
        "vector_store.files_batch"
    } else {
        "vector_store.file_batch"
    };
    json!({
        "id": batch.id, "object": object, "created_at": batch.created_at, "vector_store_id": batch.store_id,
        "status": batch.status(), "file_counts": batch.counts,
    })
}

pub(crate) fn upload(upload: &Upload, file: Option<Value>) -> Value {
    let mut view = json!({
        "id": upload.id, "object": "upload", "bytes": upload.bytes, "created_at": upload.created_at,
        "filename": upload.filename, "purpose": upload.purpose, "status": upload.status(),
        "expires_at": upload.expires_at(),
    });
    if let Some(file) = file {
        view["file"] = file;
    }
    view
}

pub(crate) fn list<T>(page: &Page<'_, T>, options: &Options, view: impl Fn(&Id, &T) -> Value) -> Value {
    let data: Vec<Value> = page.items.iter().map(|(id, item)| view(id, item)).collect();
    let none = || {
        if options.spec_strict {
            "".into()
        } else {
            Value::Null
        }
    };
    let id = |item: Option<&(&Id, &T)>| item.map_or_else(none, |(id, _)| Value::from(&***id));
    json!({
        "object": "list", "data": data, "first_id": id(page.items.first()), "last_id": id(page.items.last()),
        "has_more": page.has_more,
    })
}

pub(crate) fn deleted(id: &str, object: &str) -> Value {
    json!({ "id": id, "object": object, "deleted": true })
}

pub(crate) fn is_in_progress(view: &Value) -> bool {
    view["status"] == FileStatus::InProgress.as_str()
}
