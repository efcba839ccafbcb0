//! Copies that were deleted at their provider: recorded, and no longer counted as copies.

use rag_db::imports::{self, SeenCopy};
use rag_db::intents::{self, Operation, Owner};
use rag_db::uploads::{self, Upload};
use rag_db::{DbError, composition, files, index_files};
use rag_domain::{FileId, IndexId, UploadStatus};
use sqlx::{MySqlConnection, MySqlPool};

use crate::fixtures::{self, OPENAI, domain, mark_uploaded, new_file, sha};

async fn new_index(db: &mut MySqlConnection, file: FileId) -> IndexId {
    let id = fixtures::new_index(db).await;
    index_files::insert(db, id, file, None, None).await.unwrap();
    id
}

/// Its copy, deleted.
async fn record(db: &mut MySqlConnection, file: FileId, external: &str) -> Upload {
    let id = uploads::insert_uploaded(db, OPENAI, file, &sha(), external)
        .await
        .unwrap();
    uploads::mark_deleted(db, OPENAI, id).await.unwrap();
    let row = uploads::get(db, OPENAI, id).await.unwrap();
    assert_eq!(row.status, UploadStatus::Deleted);
    assert_eq!(row.external_file_id.as_deref(), Some(external));
    row
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_record_is_no_copy(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let file = new_file(&mut db).await;
    let index = new_index(&mut db, file).await;
    record(&mut db, file, "file-1").await;

    assert!(uploads::find(&mut db, OPENAI, file).await.unwrap().is_none());
    assert!(uploads::list_of_file(&mut db, file).await.unwrap().is_empty());
    assert!(
        uploads::list(&mut db, OPENAI, None, None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    for (status, count) in [(UploadStatus::Deleted, 1), (UploadStatus::Uploaded, 0)] {
        let found = uploads::list(&mut db, OPENAI, Some(status), None, 9)
            .await
            .unwrap();
        assert_eq!(found.len(), count, "{status}");
    }
    assert_eq!(uploads::count_of_index(&mut db, index, OPENAI).await.unwrap(), 0);
    assert!(!intents::is_file_in_use(&mut db, OPENAI, "file-1").await.unwrap());
    let members = composition::list(&mut db, &domain(), index).await.unwrap();
    assert_eq!(members.len(), 1, "the file itself is as it was");
    assert!(members[0].desired.upload.is_none());
    let known = imports::find_known(&mut db, OPENAI, &domain(), &["file-1"])
        .await
        .unwrap();
    assert!(known.is_empty(), "{known:?}");
    assert_eq!(imports::count_copies_of(&mut db, OPENAI, index).await.unwrap(), 0);
    assert_eq!(
        imports::delete_copies_of(&mut db, OPENAI, index).await.unwrap(),
        0
    );
    uploads::reset_for_build(&mut db, OPENAI, index, true)
        .await
        .unwrap();
    assert!(uploads::find(&mut db, OPENAI, file).await.unwrap().is_none());
    // So it may be deleted at the provider.
    assert!(
        intents::retire_file_for(&mut db, OPENAI, "file-1", Owner::File(file))
            .await
            .unwrap()
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_next_copy_takes_the_record_up(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    for way in ["upload", "admin", "sync"] {
        let file = new_file(&mut db).await;
        let old = record(&mut db, file, &format!("old-{way}")).await;
        uploads::confirm_deleted(&mut db, OPENAI, &format!("old-{way}"))
            .await
            .unwrap();
        let new = format!("new-{way}");
        match way {
            "upload" => {
                uploads::mark_pending(&mut db, OPENAI, file, &sha())
                    .await
                    .unwrap();
                let row = uploads::find(&mut db, OPENAI, file).await.unwrap().unwrap();
                assert_eq!((row.status, row.external_file_id), (UploadStatus::Pending, None));
                let older = mark_uploaded(&mut db, file, &sha(), &new).await.unwrap();
                assert_eq!(older, None, "the old one was deleted already");
            }
            "admin" => {
                uploads::insert_uploaded(&mut db, OPENAI, file, &sha(), &new)
                    .await
                    .unwrap();
                let again = uploads::insert_uploaded(&mut db, OPENAI, file, &sha(), "x").await;
                assert!(matches!(again, Err(DbError::Duplicate(_))), "{again:?}");
            }
            _ => {
                let seen = SeenCopy {
                    file_id: file,
                    external_file_id: &new,
                    files_api_id: None,
                    uploaded_at: None,
                    content_sha256: &sha(),
                    is_compared: false,
                    raw: None,
                };
                assert!(imports::insert_copy(&mut db, OPENAI, &seen).await.unwrap());
                assert!(!imports::insert_copy(&mut db, OPENAI, &seen).await.unwrap());
            }
        }
        let row = uploads::find(&mut db, OPENAI, file).await.unwrap().unwrap();
        assert_eq!(row.id, old.id, "{way}: one row for a file at a provider");
        assert_eq!(
            (row.status, row.external_file_id, row.deleted_at),
            (UploadStatus::Uploaded, Some(new), None),
            "{way}"
        );
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_never_was_there_leaves_no_record(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let file = new_file(&mut db).await;
    uploads::mark_pending(&mut db, OPENAI, file, &sha())
        .await
        .unwrap();
    let other = new_file(&mut db).await;
    record(&mut db, other, "other").await;
    uploads::mark_deleted_of_file(&mut db, file).await.unwrap();
    let all = uploads::list(&mut db, OPENAI, Some(UploadStatus::Deleted), None, 9)
        .await
        .unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    // A row that has a copy is not dropped as if it had none.
    let id = uploads::insert_uploaded(&mut db, OPENAI, file, &sha(), "file-1")
        .await
        .unwrap();
    assert!(matches!(
        uploads::drop_record(&mut db, OPENAI, id).await,
        Err(DbError::Conflict { .. })
    ));
    uploads::mark_deleted_of_file(&mut db, file).await.unwrap();
    let row = uploads::get(&mut db, OPENAI, id).await.unwrap();
    assert_eq!(row.status, UploadStatus::Deleted);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_record_says_what_became_of_the_deletion(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let file = new_file(&mut db).await;
    let row = record(&mut db, file, "file-1").await;
    // Known in the Files API by another id.
    let second = new_file(&mut db).await;
    let other = record(&mut db, second, "file-2").await;
    sqlx::query("UPDATE rag_provider_file_uploads SET files_api_id = 'api-2' WHERE id = ?")
        .bind(other.id.to_string())
        .execute(&mut *db)
        .await
        .unwrap();
    for (id, name) in [(row.id, "file-1"), (other.id, "api-2")] {
        uploads::set_deletion_error(&mut db, OPENAI, name, "busy")
            .await
            .unwrap();
        let failed = uploads::get(&mut db, OPENAI, id).await.unwrap();
        assert_eq!(
            (failed.last_error.as_deref(), failed.deleted_at),
            (Some("busy"), None)
        );
        uploads::confirm_deleted(&mut db, OPENAI, name).await.unwrap();
        let gone = uploads::get(&mut db, OPENAI, id).await.unwrap();
        assert!(gone.last_error.is_none() && gone.deleted_at.is_some(), "{gone:?}");
        uploads::set_deletion_error(&mut db, OPENAI, name, "late")
            .await
            .unwrap();
        let gone = uploads::get(&mut db, OPENAI, id).await.unwrap();
        assert!(gone.last_error.is_none(), "it is over: {gone:?}");
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn records_are_forgotten_a_while_after_their_files(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (file, gone) = (new_file(&mut db).await, new_file(&mut db).await);
    record(&mut db, file, "file-1").await;
    record(&mut db, gone, "file-2").await;
    let live = new_file(&mut db).await;
    uploads::insert_uploaded(&mut db, OPENAI, live, &sha(), "file-3")
        .await
        .unwrap();
    for id in [gone, live] {
        files::delete(&mut db, &domain(), id).await.unwrap();
    }
    assert_eq!(
        uploads::prune_deleted(&mut db, 3600, 9).await.unwrap(),
        0,
        "too young"
    );
    sqlx::query("UPDATE rag_provider_file_uploads SET updated_at = UTC_TIMESTAMP(6) - INTERVAL 2 HOUR")
        .execute(&mut *db)
        .await
        .unwrap();
    assert_eq!(uploads::prune_deleted(&mut db, 3600, 9).await.unwrap(), 1);
    let left: Vec<String> =
        sqlx::query_scalar("SELECT external_file_id FROM rag_provider_file_uploads ORDER BY 1")
            .fetch_all(&mut *db)
            .await
            .unwrap();
    assert_eq!(
        left,
        ["file-1", "file-3"],
        "of a file that is there, and one that is no record"
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn files_that_are_being_deleted_are_listed_and_given_up(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let all = [
        new_file(&mut db).await,
        new_file(&mut db).await,
        new_file(&mut db).await,
    ];
    record(&mut db, all[0], "unconfirmed").await;
    for id in &all {
        files::mark_deleted(&mut db, &domain(), *id).await.unwrap();
    }
    intents::retire_file_for(&mut db, OPENAI, "unconfirmed", Owner::File(all[0]))
        .await
        .unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    while let Some(last) = files::list_tombstones(&mut db, after, 1).await.unwrap().pop() {
        after = Some((last.deleted_at, last.file.id));
        seen.push(last.file.id);
    }
    assert_eq!(seen, all, "the longest deleted first");

    intents::forget(&mut db, intents::Owner::File(all[0]))
        .await
        .unwrap();
    files::delete_tombstone(&mut db, all[0]).await.unwrap();
    assert!(
        intents::list_deletions(&mut db, OPENAI, Operation::DeleteFile, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(matches!(
        files::delete_tombstone(&mut db, all[0]).await,
        Err(DbError::Conflict { .. })
    ));
    let left = uploads::list(&mut db, OPENAI, Some(UploadStatus::Deleted), None, 9)
        .await
        .unwrap();
    assert!(left.is_empty(), "nobody has confirmed that it is gone: {left:?}");
    // A file that nobody deletes is not given up.
    let file = new_file(&mut db).await;
    assert!(files::delete_tombstone(&mut db, file).await.is_err());
}
