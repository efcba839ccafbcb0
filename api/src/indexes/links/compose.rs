//! Setting the whole composition of an index at once.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use rag_db::{files, index_files, indexes};
use rag_domain::{ChunkingStrategy, FileId, IndexId};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::LinksOut;
use super::list::read;
use crate::http::extract::{Domain, Id, JsonBody};
use crate::http::problem::Problem;
use crate::http::validate::Checks;
use crate::openapi::schemas::ChunkingSchema;
use crate::state::App;

const MAX_FILES: usize = 10_000;

/// The files that an index shall consist of, in order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::indexes) struct CompositionIn {
    #[schema(max_items = 10000)]
    files: Vec<MemberIn>,
}

/// One of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CompositionMember)]
pub(in crate::indexes) struct MemberIn {
    #[schema(value_type = uuid::Uuid)]
    file_id: String,
    /// Overrides the file's own strategy within this index.
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<Value>,
}

/// Set the files of an index
///
/// Replaces the whole composition: files that are not named leave the index.
#[utoipa::path(put, path = "/indexes/{index_id}/files", tag = "indexes",
    params(("index_id" = uuid::Uuid, Path, description = "The index")),
    request_body = CompositionIn,
    responses(
        (status = 200, description = "The index's files", body = LinksOut),
        (status = 404, description = "No such index, or no such file, in this domain"),
    ))]
pub(in crate::indexes) async fn set_index_files(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(index_id): Id<IndexId>,
    JsonBody(body): JsonBody<CompositionIn>,
) -> Result<Json<LinksOut>, Problem> {
    let members = body.check()?;
    let mut tx = app.begin().await?;
    indexes::lock(&mut tx, &domain, index_id).await?;
    // Always in the same order, so that two such requests cannot deadlock.
    let mut ids: Vec<FileId> = members.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    let found: HashSet<FileId> = files::lock_many(&mut tx, &domain, &ids)
        .await?
        .into_iter()
        .collect();
    if let Some(missing) = members.iter().map(|(id, _)| id).find(|id| !found.contains(id)) {
        return Err(Problem::not_found(&format!("file {missing}")));
    }
    index_files::replace_all(&mut tx, index_id, &members).await?;
    let links = read(&mut tx, &domain, index_id).await?;
    tx.commit().await?;
    Ok(Json(links))
}

impl CompositionIn {
    fn check(self) -> Result<Vec<(FileId, Option<ChunkingStrategy>)>, Problem> {
        let mut checks = Checks::default();
        if self.files.len() > MAX_FILES {
            checks.fail("files", format!("must not have more than {MAX_FILES} entries"));
            checks.finish()?;
            return Ok(Vec::new());
        }
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        for (at, member) in self.files.into_iter().enumerate() {
            let strategy = member
                .chunking_strategy
                .and_then(|value| checks.chunking(&format!("files[{at}].chunking_strategy"), &value));
            match member.file_id.parse::<FileId>() {
                Err(error) => checks.fail(format!("files[{at}].file_id"), error.to_string()),
                Ok(id) if !seen.insert(id) => {
                    checks.fail(format!("files[{at}].file_id"), "is there more than once");
                }
                Ok(id) => members.push((id, strategy)),
            }
        }
        checks.finish()?;
        Ok(members)
    }
}
