//! What a build would do (R-B7): the same plan that the build itself computes, put into words.

use std::collections::HashMap;

use rag_db::indexes::Index;
use rag_db::{attachments, composition};
use rag_domain::{AttachmentState, BuildPlan, FileId, PresentFile, Setting, UploadStatus};
use serde::Serialize;
use sqlx::MySqlConnection;
use utoipa::ToSchema;

use crate::http::problem::Problem;

/// What a build would do, if it started now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BuildPlan)]
pub(super) struct PlanOut {
    /// A vector store would be made.
    create_vector_store: bool,
    /// none | live | expired (a build fails, but for one with `recreate`), as far as it was seen.
    #[schema(example = "live")]
    vector_store: &'static str,
    /// Settings of the vector store that are not as the index has them.
    settings: Vec<PlannedSetting>,
    /// Why the provider did not take them last time.
    settings_error: Option<String>,
    /// Files whose contents the provider does not have.
    upload: Vec<PlannedFile>,
    /// Files that would go into the vector store; those to be uploaded are among them.
    attach: Vec<PlannedFile>,
    /// Files that would leave the vector store.
    detach: Vec<PlannedDetach>,
    /// Bytes to be uploaded.
    bytes_to_upload: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct PlannedFile {
    #[schema(value_type = uuid::Uuid)]
    file_id: FileId,
    file_name: String,
    size_bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct PlannedDetach {
    #[schema(value_type = uuid::Uuid)]
    file_id: FileId,
    external_file_id: String,
    /// unlinked | content_changed | renamed | strategy_changed | uploaded_again | failed_before
    #[schema(value_type = String, example = "content_changed")]
    reason: serde_json::Value,
}

/// A setting that the vector store would be given.
#[derive(Debug, Serialize, ToSchema)]
struct PlannedSetting {
    /// name | expires_after | metadata
    #[schema(value_type = String, example = "name")]
    field: Setting,
    /// As the store was given it last.
    store: serde_json::Value,
    /// As the index has it.
    index: serde_json::Value,
}

/// A store that is made anew has them from the beginning.
fn settings(index: &Index) -> Vec<PlannedSetting> {
    let Some(given) = &index.pushed_settings else {
        return Vec::new();
    };
    let wanted = index.store_settings();
    let changed = wanted.changed_since(given).into_iter();
    changed
        .map(|field| PlannedSetting {
            field,
            store: given.value(field),
            index: wanted.value(field),
        })
        .collect()
}

pub(super) async fn read(
    db: &mut MySqlConnection,
    index: &Index,
    recreate: bool,
    force_upload: bool,
) -> Result<PlanOut, Problem> {
    let members = composition::list(db, &index.domain_id, index.id).await?;
    let rows = attachments::list(db, index.id).await?;
    let known: HashMap<FileId, PlannedFile> = members
        .iter()
        .map(|member| {
            let file = PlannedFile {
                file_id: member.desired.file_id,
                file_name: member.file_name.clone(),
                size_bytes: member.desired.size_bytes,
            };
            (file.file_id, file)
        })
        .collect();
    let mut desired: Vec<_> = members.into_iter().map(|member| member.desired).collect();
    for upload in desired.iter_mut().filter_map(|file| file.upload.as_mut()) {
        // A build begins by giving what failed another try.
        if force_upload || upload.status == UploadStatus::Failed {
            upload.status = UploadStatus::Pending;
        }
    }
    let mut detach = Vec::new();
    let mut present = Vec::new();
    for row in rows.iter().filter(|_| !recreate) {
        if matches!(row.state, AttachmentState::Failed | AttachmentState::Cancelled) {
            detach.push(PlannedDetach {
                file_id: row.local_file_id,
                external_file_id: row.external_file_id.clone(),
                reason: "failed_before".into(),
            });
        } else {
            present.push(PresentFile::from(row));
        }
    }
    let plan = BuildPlan::new(&desired, &present);
    for (id, reason) in &plan.detach {
        let Some(row) = rows.iter().find(|row| row.id == *id) else {
            continue;
        };
        detach.push(PlannedDetach {
            file_id: row.local_file_id,
            external_file_id: row.external_file_id.clone(),
            reason: serde_json::to_value(reason).map_err(Problem::internal)?,
        });
    }
    let pick = |ids: &[FileId]| -> Vec<PlannedFile> {
        ids.iter()
            .filter_map(|id| known.get(id))
            .map(|file| PlannedFile {
                file_name: file.file_name.clone(),
                ..*file
            })
            .collect()
    };
    let upload = pick(&plan.upload);
    Ok(PlanOut {
        create_vector_store: recreate || index.external_id.is_none(),
        vector_store: if index.store_expired_at.is_some() {
            "expired"
        } else if index.external_id.is_some() {
            "live"
        } else {
            "none"
        },
        settings: if recreate { Vec::new() } else { settings(index) },
        settings_error: index.settings_error.clone(),
        bytes_to_upload: upload.iter().map(|file| file.size_bytes).sum(),
        upload,
        attach: pick(&plan.attach),
        detach,
    })
}
