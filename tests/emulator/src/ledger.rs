//! What happened, in the order in which it took effect. Entries are made under the same lock as the change they tell
//! of, so the order is true; the status of the answer is filled in when the answer is known.

use crate::{context::Context, ids::Id};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc};

/// What an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A request that changed nothing: refused, lost before it took effect, or a read.
    #[default]
    None,
    FileCreated,
    FileDeleted,
    /// The bytes were replaced through the control API.
    FileReplaced,
    StoreCreated,
    StoreUpdated,
    StoreDeleted,
    Attached,
    AttributesUpdated,
    Detached,
    BatchCreated,
    BatchCancelled,
    UploadCreated,
    UploadPartAdded,
    UploadCompleted,
    UploadCancelled,
    /// Background work finished well.
    Indexed,
    /// Background work failed; `error_code` says how.
    IndexingFailed,
    TokenIssued,
}

/// One line of the ledger. A request with several effects (a batch, say) makes one entry for each.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: DateTime<Utc>,
    /// The name the official SDK gives the call (`vector_stores.files.create`), or `indexing`.
    pub operation: Cow<'static, str>,
    pub effect: Effect,
    /// False when the call changed nothing, even if it was answered 200.
    pub changed: bool,
    pub method: Arc<str>,
    pub path: Arc<str>,
    /// Of the answer; none if there was never one.
    pub status: Option<u16>,
    pub file_id: Option<Id>,
    pub vector_store_id: Option<Id>,
    pub batch_id: Option<Id>,
    pub upload_id: Option<Id>,
    pub filename: Option<Arc<str>>,
    pub bytes: Option<u64>,
    /// Lowercase hex.
    pub sha256: Option<Arc<str>>,
    /// The strategy in force, `{"type":"static",…}`.
    pub chunking_strategy: Option<serde_json::Value>,
    pub error_code: Option<Arc<str>>,
    /// The injected fault that met this request.
    pub fault: Option<Cow<'static, str>>,
    /// Done behind the client's back (`x-emulator-external`).
    pub external: bool,
    pub request_id: Option<Id>,
    /// `x-client-request-id` of the request.
    pub client_request_id: Option<Arc<str>>,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerQuery {
    /// Only entries with a greater `seq`.
    #[serde(default)]
    pub since: u64,
    pub operation: Option<String>,
    pub effect: Option<Effect>,
    pub changed: Option<bool>,
    pub limit: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    pub(crate) fn push(&mut self, context: &Context, entry: Entry) {
        let seq = self.entries.len() as u64 + 1;
        context.recorded(seq);
        self.entries.push(Entry {
            seq,
            at: Utc::now(),
            operation: context.operation.into(),
            changed: entry.effect != Effect::None,
            method: context.method.clone(),
            path: context.path.clone(),
            external: context.external,
            request_id: context.request_id.clone(),
            client_request_id: context.client_request_id.clone(),
            ..entry
        });
    }

    /// A request that changed nothing.
    pub(crate) fn push_unchanged(&mut self, context: &Context) {
        let entry = Entry {
            file_id: context.file_id.clone(),
            vector_store_id: context.vector_store_id.clone(),
            batch_id: context.batch_id.clone(),
            upload_id: context.upload_id.clone(),
            ..Entry::default()
        };
        self.push(context, entry);
    }

    /// Completes the entries of one request with what became of its answer.
    pub(crate) fn answered(&mut self, context: &Context, status: Option<u16>, fault: Option<&'static str>) {
        let Some((first, last)) = context.recorded_range() else {
            return;
        };
        for seq in first..=last {
            let Some(entry) = usize::try_from(seq - 1)
                .ok()
                .and_then(|index| self.entries.get_mut(index))
            else {
                return;
            };
            // After a reset the numbers belong to others.
            if entry.request_id == context.request_id {
                entry.status = status;
                entry.fault = fault.map(Cow::Borrowed);
            }
        }
    }

    pub(crate) fn list(&self, query: &LedgerQuery) -> Vec<Entry> {
        let start = usize::try_from(query.since)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        self.entries[start..]
            .iter()
            .filter(|entry| {
                query
                    .operation
                    .as_ref()
                    .is_none_or(|operation| *operation == entry.operation)
            })
            .filter(|entry| query.effect.is_none_or(|effect| effect == entry.effect))
            .filter(|entry| query.changed.is_none_or(|changed| changed == entry.changed))
            .take(query.limit.unwrap_or(usize::MAX))
            .cloned()
            .collect()
    }
}
