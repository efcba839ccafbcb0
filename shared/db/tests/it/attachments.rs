//! Attachments: observations of many at once, and files that are attached again.

use std::time::Duration;

use rag_db::DbError;
use rag_db::attachments::{self, Observation};
use rag_domain::{AttachMethod, AttachmentId, AttachmentState, FileId};
use serde_json::json;
use sqlx::MySqlPool;

use crate::fixtures::{attachment, new_index, observation};

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn many_observations_are_written_at_once_or_not_at_all(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    let names: Vec<String> = (0..700).map(|n| format!("file-{n}")).collect();
    let mut new = Vec::new();
    for name in &names {
        new.push(attachment(index, FileId::new(), name));
    }
    attachments::insert_many(&mut db, &new).await.unwrap();
    let ids: Vec<AttachmentId> = attachments::list(&mut db, index)
        .await
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect();
    attachments::mark_attaching(&mut db, &ids, AttachMethod::Single, Duration::ZERO)
        .await
        .unwrap();
    attachments::mark_in_progress(&mut db, &ids, Some("batch"), true)
        .await
        .unwrap();

    let strategy =
        json!({"type": "static", "static": {"max_chunk_size_tokens": 400, "chunk_overlap_tokens": 100}});
    let text = "an error with \"quotes\", \\ and ünïcode";
    let all: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| {
            let observation = if n % 2 == 0 {
                Observation {
                    reported_strategy: Some(&strategy),
                    strategy_applied: Some(true),
                    usage_bytes: Some(u64::from(u32::MAX) * 4),
                    ..observation(AttachmentState::Completed)
                }
            } else {
                Observation {
                    external_store_file_id: Some("own"),
                    error_code: Some("server_error"),
                    last_error: Some(text),
                    ..observation(AttachmentState::Failed)
                }
            };
            (*id, observation)
        })
        .collect();
    attachments::observe_many(&mut db, &all).await.unwrap();
    let rows = attachments::list(&mut db, index).await.unwrap();
    for row in &rows {
        let at = ids.iter().position(|id| *id == row.id).unwrap();
        if at % 2 == 0 {
            assert_eq!(row.state, AttachmentState::Completed);
            assert_eq!(row.reported_strategy.as_ref(), Some(&strategy));
            assert_eq!(row.chunking_proof().matches(), Some(true));
            assert_eq!(row.usage_bytes, Some(u64::from(u32::MAX) * 4));
            assert_eq!(
                (row.error_code.as_deref(), row.last_error.as_deref()),
                (None, None)
            );
        } else {
            assert_eq!(row.state, AttachmentState::Failed);
            assert_eq!(row.store_file_id(), "own");
            assert_eq!(row.last_error.as_deref(), Some(text));
            assert_eq!(row.reported_strategy, None);
        }
    }
    // What has settled is not moved again.
    let again = attachments::observe_many(&mut db, &all[..1]).await;
    assert!(matches!(again, Err(DbError::Conflict { .. })), "{again:?}");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_file_goes_in_again_only_from_on_its_way_out(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    let id = attachments::insert(&mut db, &attachment(index, FileId::new(), "file-1"))
        .await
        .unwrap();
    assert!(attachments::mark_pending_again(&mut db, id).await.is_err());
    attachments::mark_attaching(&mut db, &[id], AttachMethod::Single, Duration::ZERO)
        .await
        .unwrap();
    attachments::mark_in_progress(&mut db, &[id], Some("batch"), true)
        .await
        .unwrap();
    assert!(attachments::mark_pending_again(&mut db, id).await.is_err());
    attachments::mark_detaching(&mut db, &[id]).await.unwrap();
    attachments::mark_pending_again(&mut db, id).await.unwrap();
    let row = attachments::list(&mut db, index).await.unwrap().remove(0);
    assert_eq!((row.state, row.reattached), (AttachmentState::Pending, 1));
    assert_eq!((row.attached_at, row.external_batch_id), (None, None));

    attachments::mark_attaching(&mut db, &[id], AttachMethod::Single, Duration::ZERO)
        .await
        .unwrap();
    attachments::mark_in_progress(&mut db, &[id], Some("second"), true)
        .await
        .unwrap();
    let other = ["batch".to_owned()];
    assert_eq!(
        attachments::mark_cancelled(&mut db, index, &other).await.unwrap(),
        0
    );
    let own = ["second".to_owned()];
    assert_eq!(
        attachments::mark_cancelled(&mut db, index, &own).await.unwrap(),
        1
    );
}
