//! `POST /files`: stores a form's file on disk together with its row, or neither.

use axum::extract::{Request, State};
use axum::response::Response;
use rag_db::files::{self, NewFile};
use rag_domain::{ChunkingStrategy, DomainId, FileId};
use rag_files::Saved;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::FileOut;
use super::content::{discard_if_unreferenced, not_saved};
use super::media_type::media_type;
use super::quota::{self, Change, Room};
use crate::http::extract::Domain;
use crate::http::idempotency::Once;
use crate::http::problem::Problem;
use crate::http::upload::{Form, Part};
use crate::http::validate::{Checks, TEXT_CHARS};
use crate::openapi::schemas::{ChunkingSchema, TagSchema};
use crate::state::App;

/// Limit of a text part: `notes` in a script of four bytes a character.
const TEXT_BYTES: usize = 4 * TEXT_CHARS;
/// A generous limit of what a form has besides the file: three text parts and all headers.
const FORM_BYTES: u64 = 512 * 1024;

/// The parts of the form, in any order. Only `file` is required.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never constructed")]
pub(super) struct UploadForm {
    /// The contents. The part's filename becomes `file_name`: a name without folders.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// JSON.
    #[schema(value_type = Option<ChunkingSchema>)]
    chunking_strategy: Option<Value>,
    /// One part for each, or one part that is a JSON array of them: at most 64.
    #[schema(example = json!(["contract", "2026"]), max_items = 64)]
    tags: Option<Vec<TagSchema>>,
    /// Free text.
    #[schema(max_length = 16383, pattern = r"^[^\x00]*$")]
    notes: Option<String>,
}

/// Upload a file
///
/// The contents are streamed to disk. The type is told from the extension, then from the first bytes.
#[utoipa::path(post, path = "/files", tag = "files",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "Stored", body = FileOut, headers(("Location" = String, description = "The file's path"))),
        (status = 408, description = "The upload stalled, or was slower than it may be"),
        (status = 409, description = "The domain has as many files as it may have (`files-quota-exceeded`), or a request with \
            the same Idempotency-Key is still being carried out"),
        (status = 413, description = "The file is too large, or the domain would store more than it may \
            (`bytes-quota-exceeded`)"),
        (status = 507, description = "The server's storage is full"),
    ))]
pub(super) async fn upload_file(
    State(app): State<App>,
    Domain(domain): Domain,
    once: Once,
    request: Request,
) -> Result<Response, Problem> {
    let id = FileId::new();
    let change = Change {
        new_files: 1,
        new_bytes: 1,
        ..Change::default()
    };
    let room = Room::of(&app, &domain, request.headers(), FORM_BYTES, change).await?;
    let received = Received::read(&app, &domain, id, request, room).await?;
    received.store(&app, domain, id, &once).await
}

/// What the form held.
#[derive(Default)]
struct Received {
    contents: Option<(String, Saved)>,
    chunking_strategy: Option<ChunkingStrategy>,
    tags: Option<Vec<String>>,
    notes: Option<String>,
}

impl Received {
    async fn read(
        app: &App,
        domain: &DomainId,
        id: FileId,
        request: Request,
        room: Room,
    ) -> Result<Self, Problem> {
        let mut form = Form::of(request, &app.settings.api).await?;
        let mut received = Self::default();
        let mut seen = Vec::new();
        while let Some(part) = form.next_part().await? {
            let name = part.name().to_owned();
            if seen.contains(&name) && name != "tags" {
                return Err(Problem::invalid_field(&name, "is there more than once"));
            }
            received.take(&name, part, app, domain, id, room).await?;
            seen.push(name);
        }
        Ok(received)
    }

    async fn take(
        &mut self,
        name: &str,
        part: Part<'_>,
        app: &App,
        domain: &DomainId,
        id: FileId,
        room: Room,
    ) -> Result<(), Problem> {
        let mut checks = Checks::default();
        match name {
            "file" => {
                let file_name = part.file_name().unwrap_or_default().to_owned();
                checks.file_name("file", &file_name);
                checks.finish()?;
                let saved = app
                    .files
                    .save(
                        domain.as_str(),
                        Uuid::from(id),
                        &file_name,
                        part.stream(),
                        room.bytes,
                    )
                    .await
                    .map_err(|error| not_saved(error, room))?;
                if saved.size_bytes == 0 {
                    // As when contents are replaced; providers fail to index an empty file.
                    return Err(Problem::invalid_field("file", "is empty"));
                }
                self.contents = Some((file_name, saved));
                return Ok(());
            }
            "chunking_strategy" => {
                let value = json(name, &part.text(TEXT_BYTES).await?)?;
                self.chunking_strategy = value.and_then(|value| checks.chunking(name, &value));
            }
            "tags" => {
                let text = part.text(TEXT_BYTES).await?;
                let tags = self.tags.get_or_insert_default();
                if text.trim_start().starts_with(['[', '{']) || text.trim() == "null" {
                    let several = serde_json::from_str::<Option<Vec<String>>>(&text).map_err(|_| {
                        Problem::invalid_field(name, "is neither a tag nor a JSON array of tags")
                    })?;
                    tags.extend(several.unwrap_or_default());
                } else {
                    tags.push(text);
                }
                checks.tags(name, tags);
            }
            "notes" => {
                let notes = part.text(TEXT_BYTES).await?;
                checks.text(name, &notes, TEXT_CHARS);
                self.notes = Some(notes).filter(|notes| !notes.is_empty());
            }
            _ => checks.fail(
                name,
                "is not a part of this form: file, chunking_strategy, tags, notes are",
            ),
        }
        checks.finish()
    }

    async fn store(self, app: &App, domain: DomainId, id: FileId, once: &Once) -> Result<Response, Problem> {
        let Some((file_name, mut saved)) = self.contents else {
            return Err(Problem::invalid_field("file", "is missing"));
        };
        let row = NewFile {
            id,
            domain_id: domain,
            file_type: media_type(&file_name, &saved.head),
            file_name,
            size_bytes: saved.size_bytes,
            sha256: saved.sha256.clone(),
            local_path: saved.relative_path.clone(),
            tags: self.tags,
            notes: self.notes,
            chunking_strategy: self.chunking_strategy,
        };
        let change = Change {
            new_files: 1,
            new_bytes: row.size_bytes,
            old_bytes: 0,
        };
        let mut tx = app.begin().await?;
        quota::admit(app, &mut tx, &row.domain_id, change).await?;
        files::insert(&mut tx, &row).await?;
        let file = files::get(&mut tx, &row.domain_id, id).await?;
        let location = format!("/api/v1/files/{id}");
        let answer = once
            .created(&mut tx, Some(location), &FileOut::from(file))
            .await?;
        if let Err(error) = tx.commit().await {
            discard_if_unreferenced(app, &row.domain_id, id, &mut saved).await;
            return Err(error.into());
        }
        saved.keep();
        Ok(answer)
    }
}

/// JSON in a text part; blank and `null` are nothing.
fn json(name: &str, text: &str) -> Result<Option<Value>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Problem::invalid_field(name, format!("is not JSON: {error}")))?;
    Ok(Some(value).filter(|value| !value.is_null()))
}
