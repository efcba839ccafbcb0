//! Attachments that have failed for good in this build: in their rows, and in the words of the index's `last_error`.

use rag_db::attachments::{self, Attachment, Observation};
use rag_domain::AttachmentState;
use sqlx::MySqlConnection;

use crate::step_error::StepError;

/// Marks these rows as failed.
pub(super) async fn fail(
    db: &mut MySqlConnection,
    rows: &[&Attachment],
    code: &str,
    error: &str,
) -> Result<(), StepError> {
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            let seen = Observation {
                state: AttachmentState::Failed,
                external_store_file_id: None,
                reported_strategy: None,
                strategy_applied: None,
                usage_bytes: row.usage_bytes,
                error_code: Some(code),
                last_error: Some(error),
            };
            (row.id, seen)
        })
        .collect();
    Ok(attachments::observe_many(db, &seen).await?)
}
