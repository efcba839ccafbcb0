//! `/admin/files/deletions`: files of all domains that are hidden but not deleted yet, and what they wait for.

use apalis_mariadb::{JobId, JobKind as _};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use rag_db::files::{self, Tombstone};
use rag_db::intents::{self, Operation, Owner};
use rag_db::{attachments, uploads};
use rag_domain::FileId;
use rag_jobs::{FileDelete, JobSpec as _};
use serde::Serialize;
use sqlx::MySqlConnection;
use utoipa::ToSchema;

use crate::http::extract::{Id, Params};
use crate::http::paging::{Page, PageParams};
use crate::http::problem::Problem;
use crate::jobs::JobOut;
use crate::state::App;

/// Copies that one answer names.
const MAX_COPIES: u32 = 100;

/// A file that is being deleted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileDeletion)]
pub(super) struct FileDeletionOut {
    #[schema(value_type = uuid::Uuid)]
    file_id: FileId,
    #[schema(example = "tenant-1")]
    domain_id: String,
    file_name: String,
    deleted_at: DateTime<Utc>,
    /// Indexes whose vector stores still have the file, or may have it.
    attached_to_indexes: usize,
    /// Copies that providers still have, or may have; the first hundred.
    copies: Vec<CopyOut>,
    /// The latest failure: of a copy's deletion, or else of the job.
    last_error: Option<String>,
    /// The job, with what it waits for and how often it has failed; null for moments, until it has another one.
    job: Option<JobOut>,
}

/// A copy that is still to be deleted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileDeletionCopy)]
struct CopyOut {
    #[schema(example = "openai")]
    provider_type: String,
    /// Null: an upload that has not ended.
    external_file_id: Option<String>,
    /// Failures to delete it so far.
    tries: u32,
    last_error: Option<String>,
    /// Null: not before the file has left the vector stores.
    next_try_at: Option<DateTime<Utc>>,
}

/// List the deletions of files that are not done
///
/// The longest deleted first.
#[utoipa::path(get, path = "/admin/files/deletions", tag = "admin: files",
    params(PageParams),
    responses(
        (status = 200, description = "One page", body = Page<FileDeletionOut>),
        (status = 400, description = "limit or cursor cannot be read"),
    ))]
pub(super) async fn list_file_deletions(
    State(app): State<App>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<FileDeletionOut>>, Problem> {
    let page = params.check()?;
    let mut connection = app.connection().await?;
    let rows = files::list_tombstones(&mut connection, page.before, page.limit + 1).await?;
    let mut found = Vec::new();
    for row in rows {
        found.push(Deletion::of(&app, &mut connection, row).await?);
    }
    drop(connection);
    let ids: Vec<_> = found.iter().filter_map(|deletion| deletion.job).collect();
    let jobs = app.queue.find_jobs(&ids).await?;
    let view = |deletion: Deletion| {
        // A job that can't be read must not hide the deletion.
        let job = deletion.job.and_then(|id| jobs.get(&id)?.as_ref().ok());
        let of_copy = deletion
            .copies
            .iter()
            .rev()
            .find_map(|copy| copy.last_error.clone());
        FileDeletionOut {
            file_id: deletion.row.file.id,
            domain_id: deletion.row.file.domain_id.to_string(),
            file_name: deletion.row.file.file_name,
            deleted_at: deletion.row.deleted_at,
            attached_to_indexes: deletion.attached_to_indexes,
            copies: deletion.copies,
            last_error: of_copy.or_else(|| job.and_then(|job| job.last_error.clone())),
            job: job.map(|job| JobOut::without_build(job.clone())),
        }
    };
    let position = |deletion: &Deletion| (deletion.row.deleted_at, deletion.row.file.id);
    Ok(Json(Page::of(found, page.limit, position, view)))
}

/// What is left of one deletion.
struct Deletion {
    row: Tombstone,
    job: Option<JobId>,
    attached_to_indexes: usize,
    copies: Vec<CopyOut>,
}

impl Deletion {
    async fn of(app: &App, db: &mut MySqlConnection, row: Tombstone) -> Result<Self, Problem> {
        let id = row.file.id;
        let payload = FileDelete {
            file_id: id,
            domain_id: row.file.domain_id.clone(),
        };
        let job = app
            .queue
            .find_active(db, FileDelete::KIND, &payload.unique_key())
            .await?;
        let attached = attachments::list_indexes_of_file(db, id).await?;
        Ok(Self {
            copies: copies(db, id).await?,
            attached_to_indexes: attached.len(),
            job,
            row,
        })
    }
}

/// Copies with a row, uploads that may have made one, and copies that are being deleted.
async fn copies(db: &mut MySqlConnection, id: FileId) -> Result<Vec<CopyOut>, Problem> {
    let known = uploads::list_of_file(db, id).await?.into_iter();
    let known = known.filter_map(|row| {
        Some(CopyOut {
            external_file_id: Some(row.files_api_id.or(row.external_file_id)?),
            provider_type: row.provider_id,
            tries: 0,
            last_error: None,
            next_try_at: None,
        })
    });
    let open = intents::list_uploads_of_file(db, id).await?.into_iter();
    let open = open.map(|intent| CopyOut {
        provider_type: intent.provider_id,
        external_file_id: None,
        tries: 0,
        last_error: intent.last_error,
        next_try_at: None,
    });
    let owner = Owner::File(id);
    let waiting = intents::list_deletions_of(db, owner, Operation::DeleteFile, MAX_COPIES).await?;
    let waiting = waiting.into_iter().map(|intent| CopyOut {
        provider_type: intent.provider_id,
        external_file_id: Some(intent.subject),
        tries: intent.tries,
        last_error: intent.last_error,
        next_try_at: Some(intent.due_at),
    });
    Ok(known
        .chain(open)
        .chain(waiting)
        .take(MAX_COPIES as usize)
        .collect())
}

/// Give up a file's deletion
///
/// For a provider that will never answer again: the file's rows and contents go at once, and whatever a provider has of it
/// stays there, unknown from then on. Where it is still attached to an index's vector store, the index's next build takes it
/// out, if the provider lets it.
#[utoipa::path(delete, path = "/admin/files/deletions/{file_id}", tag = "admin: files",
    params(("file_id" = uuid::Uuid, Path, description = "The file that is being deleted")),
    responses(
        (status = 204, description = "Forgotten, with its contents"),
        (status = 404, description = "No such deletion"),
    ))]
pub(super) async fn give_up_file_deletion(
    State(app): State<App>,
    Id(file_id): Id<FileId>,
) -> Result<StatusCode, Problem> {
    let mut tx = app.begin().await?;
    let Some(file) = files::find_tombstone_for_update(&mut tx, file_id).await? else {
        return Err(Problem::not_found("deletion"));
    };
    // The file's job finds nothing to do, or, if it is running, writes nothing: its writes need the tombstone.
    intents::forget(&mut tx, intents::Owner::File(file_id)).await?;
    files::delete_tombstone(&mut tx, file_id).await?;
    tx.commit().await?;
    tracing::warn!(file.id = %file_id, "a file's deletion was given up: what is at providers stays");
    if let Err(error) = app.files.delete(&file.local_path).await {
        // No reader can reach the contents any more; the sweep removes them.
        tracing::warn!(file.id = %file_id, path = file.local_path, %error, "contents of a deleted file were left behind");
    }
    Ok(StatusCode::NO_CONTENT)
}
