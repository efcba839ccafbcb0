//! `GET /admin/providers/{provider_type}/syncs/{sync_id}/findings`: the lists of a sync's result, whole, in pages.

use apalis_mariadb::JobId;
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rag_db::syncs::findings;
use rag_domain::FindingKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::sync;
use crate::http::extract::{Id, Params};
use crate::http::paging::Page;
use crate::http::problem::Problem;
use crate::state::App;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 500;

/// Which list, and which part of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FindingsParams {
    /// The list, named as in the sync's output.
    #[param(value_type = FindingKindSchema, inline)]
    kind: String,
    /// How many items at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A list of a sync's findings.
#[derive(Debug, ToSchema)]
#[schema(as = SyncFindingKind, rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never constructed")]
pub(super) enum FindingKindSchema {
    FileResults,
    FilesByteMismatches,
    Errors,
    StoresMissing,
    StoresExtra,
    StoresSkipped,
    SettingsDiffer,
    FilesMissing,
    FilesExtra,
}

/// A line of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncFinding)]
pub(super) struct FindingOut {
    /// What it is about: a store, a file, or a file in a store.
    #[schema(example = "vs_68f0c2")]
    subject: String,
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    detail: Value,
}

/// List what a sync found
///
/// By what it is about, while the sync goes on as well. They are stored as long as the sync's job.
#[utoipa::path(get, path = "/admin/providers/{provider_type}/syncs/{sync_id}/findings", tag = "admin: providers",
    params(("provider_type" = String, Path, description = "The provider", example = "openai"),
        ("sync_id" = uuid::Uuid, Path, description = "The sync's job"), FindingsParams),
    responses(
        (status = 200, description = "One page", body = Page<FindingOut>),
        (status = 400, description = "kind, limit or cursor cannot be read"),
        (status = 404, description = "No such sync of this provider"),
    ))]
pub(super) async fn list_sync_findings(
    State(app): State<App>,
    Id((provider_type, id)): Id<(String, JobId)>,
    Params(params): Params<FindingsParams>,
) -> Result<Json<Page<FindingOut>>, Problem> {
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::malformed(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    let kind = FindingKind::try_from(params.kind)
        .map_err(|_| Problem::malformed("kind is not one of a sync's lists"))?;
    let after = params.cursor.as_deref().map(subject).transpose()?;
    let job = sync::find(&app, &provider_type, id).await?;
    let mut connection = app.connection().await?;
    let job_id = job.id.to_string();
    let mut found = findings::list(&mut connection, &job_id, kind, after.as_deref(), limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found
        .last()
        .filter(|_| more)
        .map(|last| URL_SAFE_NO_PAD.encode(&last.subject));
    let items = found.into_iter().map(|finding| FindingOut {
        subject: finding.subject,
        detail: finding.detail,
    });
    Ok(Json(Page {
        items: items.collect(),
        next_cursor,
    }))
}

fn subject(cursor: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Problem::malformed("cursor is not a next_cursor that this API gave"))
}
