//! Every move that `rag-domain` declares, by every function that makes it, from every state: a legal move changes the row,
//! a forbidden one leaves it as it is.

use std::time::Duration;

use rag_db::{DbError, attachments, index_files, indexes, syncs, uploads};
use rag_domain::{
    AttachMethod, AttachmentId, AttachmentState, FileId, IndexId, IndexingStatus, ItemState, SyncPhase,
    Transition, UploadId, UploadStatus,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, MySqlConnection, MySqlPool};

use crate::fixtures::{OPENAI, attachment, mark_uploaded, new_file, new_index, observation, sha};

/// Whether the move was made. Any error but a refusal is a defect.
fn made<T>(result: Result<T, DbError>) -> bool {
    match result {
        Ok(_) => true,
        Err(DbError::Conflict { .. } | DbError::Duplicate(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn run(db: &mut MySqlConnection, sql: String) {
    sqlx::query(AssertSqlSafe(sql)).execute(db).await.unwrap();
}

async fn read(db: &mut MySqlConnection, sql: String) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(db)
        .await
        .unwrap()
}

/// The declared move of this name.
fn declared<S: Copy>(moves: &'static [Transition<S>], name: &str) -> Transition<S> {
    *moves
        .iter()
        .find(|transition| transition.name == name)
        .unwrap_or_else(|| panic!("{name} is not declared"))
}

fn assert_all_are_tried<S>(moves: &'static [Transition<S>], tried: &[(&str, &str)]) {
    for transition in moves {
        assert!(
            tried.iter().any(|(name, _)| *name == transition.name),
            "no test tries {}",
            transition.name
        );
    }
}

const OF_ATTACHMENTS: &[(&str, &str)] = &[
    ("ATTACH", "mark_attaching"),
    ("ACCEPT", "mark_in_progress"),
    ("ACCEPT", "observe"),
    ("COMPLETE", "observe"),
    ("FAIL", "observe"),
    ("CANCEL", "observe"),
    ("CANCEL_BATCH", "mark_cancelled"),
    ("RELEASE", "mark_pending"),
    ("REATTACH", "mark_pending_again"),
    ("LOSE", "mark_lost"),
    ("LOSE", "advance_method"),
    ("LEAVE", "mark_left"),
    ("GIVE_UP", "give_up"),
    ("DETACH", "mark_detaching"),
    ("RETRY", "retry_failed"),
    ("CORRECT_IN_PROGRESS", "correct"),
    ("CORRECT_COMPLETED", "correct"),
    ("CORRECT_FAILED", "correct"),
    ("CORRECT_CANCELLED", "correct"),
];

async fn move_attachment(
    db: &mut MySqlConnection,
    function: &str,
    index: IndexId,
    id: AttachmentId,
    to: AttachmentState,
) -> bool {
    match function {
        "mark_attaching" => {
            made(attachments::mark_attaching(db, &[id], AttachMethod::Single, Duration::ZERO).await)
        }
        "mark_in_progress" => made(attachments::mark_in_progress(db, &[id], None, true).await),
        "observe" => made(attachments::observe(db, id, &observation(to)).await),
        "mark_cancelled" => {
            let batches = ["batch".to_owned()];
            attachments::mark_cancelled(db, index, &batches).await.unwrap() == 1
        }
        "mark_pending" => made(attachments::mark_pending(db, &[id]).await),
        "mark_pending_again" => made(attachments::mark_pending_again(db, id).await),
        "mark_lost" => made(attachments::mark_lost(db, &[id]).await),
        "advance_method" => made(attachments::advance_method(db, &[id]).await),
        "mark_left" => made(attachments::mark_left(db, id, "it left").await),
        "give_up" => attachments::give_up(db, index, "given up").await.unwrap() == 1,
        "mark_detaching" => made(attachments::mark_detaching(db, &[id]).await),
        "retry_failed" => attachments::retry_failed(db, index).await.unwrap() == 1,
        "correct" => made(attachments::correct(db, id, &observation(to)).await),
        other => panic!("{other}"),
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn attachments_make_the_declared_moves_only(pool: MySqlPool) {
    assert_all_are_tried(AttachmentState::TRANSITIONS, OF_ATTACHMENTS);
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    let new = attachment(index, FileId::new(), "file-1");
    let id = attachments::insert(&mut db, &new).await.unwrap();
    for (name, function) in OF_ATTACHMENTS {
        let transition = declared(AttachmentState::TRANSITIONS, name);
        for from in AttachmentState::ALL {
            let forced = format!("state = '{from}', external_batch_id = 'batch'");
            run(
                &mut db,
                format!("UPDATE rag_index_attachments SET {forced} WHERE id = '{id}'"),
            )
            .await;
            let moved = move_attachment(&mut db, function, index, id, transition.to).await;
            let is_legal = transition.is_legal_from(from);
            assert_eq!(moved, is_legal, "{function}: {name} from {from}");
            let state = format!("SELECT state FROM rag_index_attachments WHERE id = '{id}'");
            let expected = if is_legal { transition.to } else { *from };
            assert_eq!(
                read(&mut db, state).await,
                expected.as_str(),
                "{function}: {name} from {from}"
            );
        }
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn attachments_are_removed_from_the_declared_states_only(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    for from in AttachmentState::ALL {
        for legal in [AttachmentState::REMOVABLE, AttachmentState::PRESENT] {
            let new = attachment(index, FileId::new(), "file-1");
            let id = attachments::insert(&mut db, &new).await.unwrap();
            run(
                &mut db,
                format!("UPDATE rag_index_attachments SET state = '{from}'"),
            )
            .await;
            let removed = if legal == AttachmentState::REMOVABLE {
                made(attachments::delete_detached(&mut db, id).await)
            } else {
                made(attachments::delete_gone(&mut db, id).await)
            };
            assert_eq!(removed, legal.contains(from), "{from} of {legal:?}");
            run(&mut db, "DELETE FROM rag_index_attachments".to_owned()).await;
        }
    }
}

const OF_UPLOADS: &[(&str, &str)] = &[
    ("REQUEST", "mark_pending"),
    ("REVIVE", "insert_uploaded"),
    ("RETRY", "reset_for_build"),
    ("FORCE", "reset_for_build with force"),
    ("LOSE", "mark_lost"),
    ("COMPLETE", "mark_uploaded_many"),
    ("COMPLETE", "set_copy"),
    ("FAIL", "mark_failed"),
    ("FAIL", "give_up"),
    ("FAIL", "give_up_of_index"),
    ("DELETE", "mark_deleted_of_file"),
];

async fn move_upload(db: &mut MySqlConnection, function: &str, index: IndexId, file: FileId) -> bool {
    let (sha, why) = (sha(), ("unavailable", "why"));
    match function {
        "mark_pending" => made(uploads::mark_pending(db, OPENAI, file, &sha).await),
        "insert_uploaded" => made(uploads::insert_uploaded(db, OPENAI, file, &sha, "file-1").await),
        "reset_for_build" => uploads::reset_for_build(db, OPENAI, index, false).await.unwrap() == 1,
        "reset_for_build with force" => uploads::reset_for_build(db, OPENAI, index, true).await.unwrap() == 1,
        "mark_lost" => uploads::mark_lost(db, OPENAI, "file-1").await.unwrap() == 1,
        "mark_uploaded_many" => made(mark_uploaded(db, file, &sha, "file-1").await),
        "set_copy" => made(uploads::set_copy(db, OPENAI, file, &sha, "file-1").await),
        "mark_failed" => made(uploads::mark_failed(db, OPENAI, file, &sha, why).await),
        "give_up" => uploads::give_up(db, OPENAI, file, "why").await.unwrap(),
        "give_up_of_index" => uploads::give_up_of_index(db, OPENAI, index, "why").await.unwrap() == 1,
        "mark_deleted_of_file" => {
            uploads::mark_deleted_of_file(db, file).await.unwrap();
            let touched = format!(
                "SELECT IF(last_error IS NULL, 'yes', 'no') FROM rag_provider_file_uploads \
                 WHERE local_file_id = '{file}'"
            );
            read(db, touched).await == "yes"
        }
        other => panic!("{other}"),
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn uploads_make_the_declared_moves_only(pool: MySqlPool) {
    assert_all_are_tried(UploadStatus::TRANSITIONS, OF_UPLOADS);
    let mut db = pool.acquire().await.unwrap();
    let (index, file) = (new_index(&mut db).await, new_file(&mut db).await);
    index_files::insert(&mut db, index, file, None, None)
        .await
        .unwrap();
    for (name, function) in OF_UPLOADS {
        let transition = declared(UploadStatus::TRANSITIONS, name);
        for from in UploadStatus::ALL {
            run(&mut db, "DELETE FROM rag_provider_file_uploads".to_owned()).await;
            let row = format!(
                "INSERT INTO rag_provider_file_uploads \
                 (id, provider_id, local_file_id, external_file_id, content_sha256, status, last_error) \
                 VALUES ('{}', '{OPENAI}', '{file}', 'file-1', '{}', '{from}', 'before')",
                UploadId::new(),
                sha()
            );
            run(&mut db, row).await;
            let moved = move_upload(&mut db, function, index, file).await;
            let is_legal = transition.is_legal_from(from);
            assert_eq!(moved, is_legal, "{function}: {name} from {from}");
            // This function goes on to the next move.
            let to = if *function == "insert_uploaded" {
                UploadStatus::Uploaded
            } else {
                transition.to
            };
            let expected = if is_legal { to } else { *from };
            let status = "SELECT status FROM rag_provider_file_uploads".to_owned();
            assert_eq!(
                read(&mut db, status).await,
                expected.as_str(),
                "{function}: {name} from {from}"
            );
        }
    }
}

const OF_INDEXES: &[(&str, &str)] = &[
    ("BEGIN", "mark_in_progress"),
    ("FINISH", "mark_built"),
    ("FAIL", "mark_built"),
    ("OPEN", "mark_seen"),
    ("OBSERVE_IN_PROGRESS", "mark_seen"),
    ("OBSERVE_DONE", "mark_seen"),
    ("OBSERVE_FAILED", "mark_seen"),
    ("OBSERVE_NOT_INDEXED", "mark_seen"),
];

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn indexes_make_the_declared_moves_only(pool: MySqlPool) {
    assert_all_are_tried(IndexingStatus::TRANSITIONS, OF_INDEXES);
    let mut db = pool.acquire().await.unwrap();
    let id = new_index(&mut db).await;
    for (name, function) in OF_INDEXES {
        let transition = declared(IndexingStatus::TRANSITIONS, name);
        let to = transition.to;
        for from in IndexingStatus::ALL {
            run(
                &mut db,
                format!("UPDATE rag_indexes SET indexing_status = '{from}'"),
            )
            .await;
            let moved = match *function {
                "mark_in_progress" => made(indexes::mark_in_progress(&mut db, id).await),
                "mark_built" => made(indexes::mark_built(&mut db, id, to, None).await),
                _ => made(indexes::mark_seen(&mut db, id, to, None, None).await),
            };
            // A sync makes OPEN itself, and so comes from every status to every status.
            let is_legal = *function == "mark_seen" || transition.is_legal_from(from);
            assert_eq!(moved, is_legal, "{function}: {name} from {from}");
            let expected = if is_legal { to } else { *from };
            let status = "SELECT indexing_status FROM rag_indexes".to_owned();
            assert_eq!(
                read(&mut db, status).await,
                expected.as_str(),
                "{function}: {name} from {from}"
            );
        }
    }
    for no_end in [IndexingStatus::NotIndexed, IndexingStatus::InProgress] {
        indexes::mark_in_progress(&mut db, id).await.unwrap();
        assert!(
            !made(indexes::mark_built(&mut db, id, no_end, None).await),
            "{no_end}"
        );
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn items_of_a_sync_make_the_declared_moves_only(pool: MySqlPool) {
    use syncs::items;
    let mut db = pool.acquire().await.unwrap();
    new_index(&mut db).await;
    syncs::begin(&mut db, "job", SyncPhase::List).await.unwrap();
    items::add(&mut db, "job", 0, &[("item", &json!({}))])
        .await
        .unwrap();
    for from in ItemState::ALL {
        for to in ItemState::ALL {
            let mut moves = ItemState::TRANSITIONS.iter();
            let is_legal = moves.any(|known| known.to == *to && known.is_legal_from(from));
            for is_expected in [true, false] {
                run(&mut db, format!("UPDATE rag_sync_items SET state = '{from}'")).await;
                let other = if *from == ItemState::Waiting {
                    ItemState::Asked
                } else {
                    ItemState::Waiting
                };
                let expected = if is_expected { *from } else { other };
                let moved = if *to == ItemState::Asked {
                    items::mark_asked(&mut db, "job", "item", expected, &json!("child")).await
                } else {
                    items::move_on(&mut db, "job", "item", &[expected], *to).await
                };
                assert_eq!(made(moved), is_legal && is_expected, "{from} -> {to}");
                let state = read(&mut db, "SELECT state FROM rag_sync_items".to_owned()).await;
                let now = if is_legal && is_expected { to } else { from };
                assert_eq!(state, now.as_str(), "{from} -> {to}");
            }
        }
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn phases_of_a_sync_follow_each_other_as_declared(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    syncs::begin(&mut db, "job", SyncPhase::List).await.unwrap();
    for from in SyncPhase::ALL {
        for transition in SyncPhase::TRANSITIONS {
            run(&mut db, format!("UPDATE rag_sync_runs SET phase = '{from}'")).await;
            let is_legal = transition.is_legal_from(from);
            let moved = syncs::go_to(&mut db, "job", *transition, None).await;
            assert_eq!(made(moved), is_legal, "{} from {from}", transition.name);
            let now = syncs::find(&mut db, "job").await.unwrap().unwrap().phase;
            assert_eq!(now, if is_legal { transition.to } else { *from });
        }
    }
}
