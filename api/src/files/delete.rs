//! `DELETE /files/{file_id}` (R-B1): hidden at once; copies and contents are removed by a job.

use apalis_mariadb::{JobId, JobKind as _};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use rag_db::{attachments, files, index_files, indexes, intents, uploads};
use rag_domain::{DomainId, FileId, IndexId};
use rag_jobs::{FileDelete, JobSpec as _};
use serde::Deserialize;
use sqlx::MySqlConnection;
use utoipa::IntoParams;

use crate::http::extract::{Domain, Id, Params, Prefer, PreferHeader};
use crate::http::problem::{Kind, Problem};
use crate::jobs::JobOut;
use crate::state::App;

/// How often the locks are taken again because another index got the file meanwhile.
const MAX_TRIES: u32 = 10;

/// How to delete.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteParams {
    /// Take the file out of every index that holds it.
    #[param(default = false)]
    force: bool,
}

/// Delete a file
///
/// While an index holds it: 409, unless `force` takes it out of all of them. It is gone for every reader at once. If a
/// provider has a copy of it, or may have one, a job detaches it from the vector stores that it is attached to (each in turn
/// with the builds of that index), deletes the copies, and removes the contents last; else the answer is 204 without a job.
///
/// With `Prefer: wait=N` the answer comes when the job is over: 204. If that takes more than N seconds (at most 30), it is the
/// usual 202.
#[utoipa::path(delete, path = "/files/{file_id}", tag = "files",
    params(("file_id" = uuid::Uuid, Path, description = "The file"), DeleteParams, PreferHeader),
    responses(
        (status = 202, description = "The job that deletes it", body = JobOut,
            headers(("Location" = String, description = "The job's path"),
                ("Preference-Applied" = String, description = "`wait=N`, if the server has waited, in vain"))),
        (status = 204, description = "Deleted, with its contents",
            headers(("Preference-Applied" = String, description = "`wait=N`, if the server has waited"))),
        (status = 404, description = "No such file in this domain"),
        (status = 409, description = "An index holds it, and `force` is not set"),
        (status = 503, description = "The stored files cannot be reached right now"),
    ))]
pub(super) async fn delete_file(
    State(app): State<App>,
    Domain(domain): Domain,
    Id(file_id): Id<FileId>,
    Params(params): Params<DeleteParams>,
    prefer: Prefer,
) -> Result<Response, Problem> {
    // The contents must be removable now, or they would be left behind.
    app.files.check_root().await?;
    let mut tries = 0;
    let done = loop {
        match try_delete(&app, &domain, file_id, params.force).await? {
            Some(done) => break done,
            None if tries == MAX_TRIES => {
                let detail = "indexes come to hold the file faster than it can be deleted, try again";
                return Err(Problem::new(Kind::Unavailable, detail));
            }
            None => tries += 1,
        }
    };
    match done {
        Done::Deleted { local_path } => {
            if let Err(error) = app.files.delete(&local_path).await {
                // The file is gone for every reader; only disk space is lost.
                tracing::warn!(file.id = %file_id, path = local_path, %error, "contents of a deleted file were left behind");
            }
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Done::Enqueued(job) => {
            app.queue.notify(FileDelete::KIND);
            app.jobs().answer_deleted(prefer, job).await
        }
    }
}

enum Done {
    Deleted { local_path: String },
    Enqueued(JobId),
}

/// `None`: another index got the file while the locks were taken.
async fn try_delete(
    app: &App,
    domain: &DomainId,
    file_id: FileId,
    force: bool,
) -> Result<Option<Done>, Problem> {
    let mut tx = app.begin().await?;
    // The lock order: indexes, by their ids, then the file. Links are made under both.
    let mut holders = holders(&mut tx, file_id, domain, force).await?;
    for index in &holders {
        indexes::find_for_update(&mut tx, domain, *index).await?;
    }
    let file = files::lock(&mut tx, domain, file_id).await?;
    let mut now = index_files::list_indexes_of(&mut tx, file_id).await?;
    now.retain(|index| !holders.contains(index));
    if !now.is_empty() {
        holders.clear();
        if force {
            return Ok(None);
        }
        return Err(held(&now));
    }
    index_files::delete_of_file(&mut tx, file_id, &holders).await?;
    let done = if is_at_provider(&mut tx, file_id).await? {
        files::mark_deleted(&mut tx, domain, file_id).await?;
        let job = FileDelete {
            file_id,
            domain_id: domain.clone(),
        };
        Done::Enqueued(
            app.queue
                .enqueue(&mut tx, job.to_job(app.job_limits())?)
                .await?
                .id,
        )
    } else {
        uploads::mark_deleted_of_file(&mut tx, file_id).await?;
        files::delete(&mut tx, domain, file_id).await?;
        let local_path = file.local_path;
        Done::Deleted { local_path }
    };
    tx.commit().await?;
    Ok(Some(done))
}

async fn holders(
    tx: &mut MySqlConnection,
    file_id: FileId,
    domain: &DomainId,
    force: bool,
) -> Result<Vec<IndexId>, Problem> {
    // The file of another domain must not be revealed by the indexes that hold it.
    files::get(tx, domain, file_id).await?;
    let mut holders = index_files::list_indexes_of(tx, file_id).await?;
    if !force && !holders.is_empty() {
        return Err(held(&holders));
    }
    holders.sort_unstable();
    Ok(holders)
}

fn held(indexes: &[IndexId]) -> Problem {
    let first = indexes.first().map(ToString::to_string).unwrap_or_default();
    let count = indexes.len();
    Problem::conflict(format!("{count} index(es) hold this file, {first} among them"))
}

/// A provider has a copy, or may have one, or is getting one. Uploads are declared under the file's lock.
async fn is_at_provider(tx: &mut MySqlConnection, file_id: FileId) -> Result<bool, Problem> {
    let copies = uploads::list_of_file(tx, file_id).await?;
    Ok(copies.iter().any(|upload| upload.external_file_id.is_some())
        || intents::any_of_file(tx, file_id).await?
        || !attachments::list_indexes_of_file(tx, file_id).await?.is_empty())
}
