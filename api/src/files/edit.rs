//! Changing what is known of a file. Its bytes are replaced in `content`.

use axum::Json;
use axum::extract::State;
use rag_db::files::{self, FileChanges};
use rag_domain::FileId;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::FileOut;
use crate::http::extract::{Domain, Id, JsonBody};
use crate::http::problem::Problem;
use crate::http::validate::{Checks, TEXT_CHARS, present};
use crate::openapi::schemas::{ChunkingSchema, FileNameSchema, TagSchema};
use crate::state::App;

/// Fields to change; what is absent stays, null clears.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FilePatch {
    #[schema(value_type = Option<FileNameSchema>)]
    file_name: Option<String>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<Vec<TagSchema>>, max_items = 64)]
    tags: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 16383, pattern = r"^[^\x00]*$")]
    notes: Option<Option<String>>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<Option<Value>>,
}

/// Change a file's record
///
/// A changed `chunking_strategy` takes effect with the next build of the indexes that hold the file.
#[utoipa::path(patch, path = "/files/{file_id}", tag = "files",
    params(("file_id" = uuid::Uuid, Path, description = "The file")),
    request_body = FilePatch,
    responses(
        (status = 200, description = "The changed file", body = FileOut),
        (status = 404, description = "No such file in this domain"),
    ))]
pub(super) async fn update_file(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(file_id): Id<FileId>,
    JsonBody(patch): JsonBody<FilePatch>,
) -> Result<Json<FileOut>, Problem> {
    let changes = patch.check()?;
    let mut tx = app.begin().await?;
    files::lock(&mut tx, &domain, file_id).await?;
    files::update(&mut tx, &domain, file_id, &changes).await?;
    let file = files::get(&mut tx, &domain, file_id).await?;
    tx.commit().await?;
    Ok(Json(file.into()))
}

impl FilePatch {
    fn check(self) -> Result<FileChanges, Problem> {
        let mut checks = Checks::default();
        if let Some(name) = &self.file_name {
            checks.file_name("file_name", name);
        }
        if let Some(Some(tags)) = &self.tags {
            checks.tags("tags", tags);
        }
        if let Some(Some(notes)) = &self.notes {
            checks.text("notes", notes, TEXT_CHARS);
        }
        let chunking_strategy = self
            .chunking_strategy
            .map(|value| value.and_then(|value| checks.chunking("chunking_strategy", &value)));
        checks.finish()?;
        Ok(FileChanges {
            file_name: self.file_name,
            tags: self.tags,
            notes: self.notes,
            chunking_strategy,
        })
    }
}
