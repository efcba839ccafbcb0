//! What syncs write: turns of the schedule, and rows of other tables by the provider's word.

use std::time::Duration;

use rag_db::attachments::{NewAttachment, SeenAttachment};
use rag_db::imports::{self, ImportedFile, SeenCopy};
use rag_db::syncs::{findings, items};
use rag_db::uploads::FoundEqual;
use rag_db::{DbError, attachments, index_files, indexes, schedules, uploads};
use rag_domain::{AttachmentState, DomainId, FileId, FindingKind, IndexId, IndexingStatus, ItemState};
use serde_json::json;
use sqlx::{MySqlConnection, MySqlPool};

use crate::fixtures::{attachment, domain, domain_named, file_row, new_index, observation};

/// An index with this store.
async fn index(db: &mut MySqlConnection, store: &str) -> IndexId {
    let id = new_index(db).await;
    indexes::set_external_id(db, id, store).await.unwrap();
    id
}

/// A file that came with this id.
async fn file(db: &mut MySqlConnection, domain: &DomainId, external_id: &str) -> FileId {
    let new = file_row(domain);
    let imported = ImportedFile {
        file: &new,
        external_file_id: external_id,
        external_uploaded_at: None,
    };
    imports::insert_files(db, &[imported]).await.unwrap();
    new.id
}

async fn copy(db: &mut MySqlConnection, file: FileId, external_id: &str, files_api_id: Option<&str>) -> bool {
    let copy = SeenCopy {
        file_id: file,
        external_file_id: external_id,
        files_api_id,
        uploaded_at: None,
        content_sha256: "b",
        is_compared: false,
        raw: None,
    };
    imports::insert_copy(db, "openai", &copy).await.unwrap()
}

/// The file is attached to the store, and indexed.
async fn attach(db: &mut MySqlConnection, index: IndexId, store: &str, file: FileId, external_id: &str) {
    let row = NewAttachment {
        external_store_id: store,
        ..attachment(index, file, external_id)
    };
    let file = SeenAttachment {
        row,
        seen: observation(AttachmentState::Completed),
        attached_at: None,
    };
    attachments::insert_seen(db, &[file]).await.unwrap();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_sync_moves_an_index_to_any_status(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let id = index(&mut db, "vs_1").await;
    for next in [
        IndexingStatus::Done,
        IndexingStatus::Failed,
        IndexingStatus::InProgress,
        IndexingStatus::NotIndexed,
        IndexingStatus::NotIndexed,
    ] {
        indexes::mark_seen(&mut db, id, next, None, None).await.unwrap();
        let row = indexes::get(&mut db, &domain(), id).await.unwrap();
        assert_eq!(row.indexing_status, next);
    }
    let gone = indexes::mark_seen(&mut db, IndexId::new(), IndexingStatus::Done, None, None).await;
    assert!(matches!(gone, Err(DbError::Conflict { .. })));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_sync_corrects_attached_files_and_leaves_those_being_detached(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let id = index(&mut db, "vs_1").await;
    let file = file(&mut db, &domain(), "file-1").await;
    attach(&mut db, id, "vs_1", file, "file-1").await;
    let row = attachments::list(&mut db, id).await.unwrap().remove(0);
    for state in [
        AttachmentState::Failed,
        AttachmentState::InProgress,
        AttachmentState::Completed,
    ] {
        attachments::correct(&mut db, row.id, &observation(state))
            .await
            .unwrap();
        assert_eq!(attachments::list(&mut db, id).await.unwrap()[0].state, state);
    }
    // A settled state is final for everybody else.
    let observed = attachments::observe(&mut db, row.id, &observation(AttachmentState::Failed)).await;
    assert!(matches!(observed, Err(DbError::Conflict { .. })));
    attachments::mark_detaching(&mut db, &[row.id]).await.unwrap();
    let corrected = attachments::correct(&mut db, row.id, &observation(AttachmentState::Completed)).await;
    assert!(matches!(corrected, Err(DbError::Conflict { .. })));
    let gone = attachments::delete_gone(&mut db, row.id).await;
    assert!(
        matches!(gone, Err(DbError::Conflict { .. })),
        "what we take out is ours to end"
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn files_are_known_by_their_copies_within_their_domain(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (mine, other) = (domain(), domain_named("other"));
    let imported = file(&mut db, &mine, "file-1").await;
    let uploaded = file(&mut db, &mine, "unused").await;
    assert!(copy(&mut db, uploaded, "in-store", Some("file-2")).await);
    assert!(
        !copy(&mut db, uploaded, "another", None).await,
        "one copy per file and provider"
    );
    let ids = ["file-1", "file-2", "in-store", "file-3"];
    let known = imports::find_known(&mut db, "openai", &mine, &ids).await.unwrap();
    assert_eq!(
        (known["file-1"].file_id, known["file-1"].upload.as_deref()),
        (imported, None)
    );
    for id in ["file-2", "in-store"] {
        assert_eq!(
            (known[id].file_id, known[id].upload.as_deref()),
            (uploaded, Some("in-store")),
            "{id}"
        );
        assert_eq!(known[id].copy_sha256, "b");
    }
    assert_eq!(known.len(), 3);
    let elsewhere = imports::find_known(&mut db, "openai", &other, &ids)
        .await
        .unwrap();
    assert!(elsewhere.is_empty(), "R-10.6: {elsewhere:?}");
    let elsewhere = imports::find_known(&mut db, "yandex", &mine, &ids).await.unwrap();
    assert_eq!(elsewhere.len(), 1, "only what came with its id: {elsewhere:?}");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_lost_store_takes_its_copies_with_it_but_not_those_of_other_stores(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (lost, kept) = (index(&mut db, "vs_1").await, index(&mut db, "vs_2").await);
    let mut files = Vec::new();
    for n in 0..3 {
        let external_id = format!("file-{n}");
        let file = file(&mut db, &domain(), &external_id).await;
        copy(&mut db, file, &external_id, None).await;
        index_files::insert(&mut db, lost, file, None, None)
            .await
            .unwrap();
        attach(&mut db, lost, "vs_1", file, &external_id).await;
        files.push(file);
    }
    attach(&mut db, kept, "vs_2", files[1], "file-1").await;
    assert_eq!(
        imports::count_copies_of(&mut db, "openai", lost).await.unwrap(),
        2
    );
    assert_eq!(
        imports::delete_copies_of(&mut db, "openai", lost).await.unwrap(),
        2
    );
    let copy = uploads::find(&mut db, "openai", files[1]).await.unwrap();
    assert!(copy.is_some());
    let links = index_files::list(&mut db, lost).await.unwrap();
    assert_eq!(links.len(), 3, "R-6.5: links stay");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn one_of_many_is_told_that_it_is_time_and_new_work_waits_its_interval(pool: MySqlPool) {
    const EVERY: Duration = Duration::from_secs(1);
    // As many as a test's pool has, connected beforehand: over TLS that may take as long as an interval.
    let mut connections = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        connections.push(pool.acquire().await.unwrap());
    }
    assert!(
        !take_turn(&mut connections[0], EVERY).await,
        "a restart starts nothing"
    );
    tokio::time::sleep(EVERY).await;
    let at_once = connections.iter_mut().map(|db| take_turn(db, EVERY));
    let turns = futures::future::join_all(at_once).await;
    assert_eq!(turns.into_iter().filter(|turn| *turn).count(), 1);
    let db = &mut connections[0];
    assert!(!take_turn(db, EVERY).await);

    // An interval that was made shorter counts from now on.
    tokio::time::sleep(EVERY).await;
    assert!(take_turn(db, Duration::from_hours(1)).await);
    assert!(!take_turn(db, EVERY).await);
    tokio::time::sleep(EVERY).await;
    assert!(take_turn(db, EVERY).await);
}

async fn take_turn(db: &mut MySqlConnection, every: Duration) -> bool {
    schedules::take_turn(db, "test", every).await.unwrap()
}

/// What is known of the file with this id.
async fn known(db: &mut MySqlConnection, id: &str) -> imports::Known {
    let mut known = imports::find_known(db, "openai", &domain(), &[id]).await.unwrap();
    known.remove(id).unwrap()
}

/// When the only upload changed last, and what it was found equal with.
async fn upload_row(db: &mut MySqlConnection) -> String {
    let sql = "SELECT CONCAT(updated_at, IFNULL(compared_sha256, '-')) FROM rag_provider_file_uploads";
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_copy_was_found_equal_as_long_as_it_and_the_contents_here_are_the_same(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let file = file(&mut db, &domain(), "unused").await;
    copy(&mut db, file, "in-store", Some("file-1")).await;
    let before = upload_row(&mut db).await;
    assert!(!known(&mut db, "file-1").await.was_found_equal("file-1"));
    let sha256 = known(&mut db, "file-1").await.sha256;
    let equal = |external_file_id| FoundEqual {
        file,
        external_file_id,
        files_api_id: "file-1",
        sha256: &sha256,
    };
    uploads::mark_equal(&mut db, "openai", &[equal("another")])
        .await
        .unwrap();
    uploads::mark_equal(&mut db, "yandex", &[equal("in-store")])
        .await
        .unwrap();
    assert_eq!(
        upload_row(&mut db).await,
        before,
        "that is not the copy of this row"
    );
    uploads::mark_equal(&mut db, "openai", &[equal("in-store")])
        .await
        .unwrap();
    assert_eq!(
        upload_row(&mut db).await,
        format!("{}{sha256}", before.trim_end_matches('-')),
        "the copy has not changed"
    );
    for id in ["file-1", "in-store"] {
        let known = known(&mut db, id).await;
        assert!(
            known.was_found_equal("file-1") && !known.was_found_equal("file-2"),
            "{id}"
        );
    }

    uploads::clear_equal(&mut db, "openai", &[file]).await.unwrap();
    assert_eq!(upload_row(&mut db).await, before);
    uploads::mark_equal(&mut db, "openai", &[equal("in-store")])
        .await
        .unwrap();
    sqlx::query("UPDATE rag_files SET sha256 = REPEAT('c', 64)")
        .execute(&mut *db)
        .await
        .unwrap();
    assert!(
        !known(&mut db, "file-1").await.was_found_equal("file-1"),
        "other contents here"
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_came_with_a_sync_is_equal_from_the_beginning(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mut copies = Vec::new();
    for (n, is_compared) in [(0, true), (1, true), (2, false)] {
        let file = file(&mut db, &domain(), "unused").await;
        copies.push((file, format!("file-{n}"), is_compared));
    }
    let sha256 = file_row(&domain()).sha256;
    let seen: Vec<_> = copies
        .iter()
        .map(|(file, id, is_compared)| SeenCopy {
            file_id: *file,
            external_file_id: id,
            files_api_id: None,
            uploaded_at: None,
            content_sha256: &sha256,
            is_compared: *is_compared,
            raw: None,
        })
        .collect();
    assert_eq!(imports::insert_copies(&mut db, "openai", &seen).await.unwrap(), 3);
    assert_eq!(imports::insert_copies(&mut db, "openai", &seen).await.unwrap(), 0);
    for (file, id, is_compared) in &copies {
        let known = known(&mut db, id).await;
        assert_eq!((known.file_id, known.was_found_equal(id)), (*file, *is_compared));
    }
    // A copy that was deleted leaves a record, which becomes the row of the next one: the same id would not make them equal.
    let (file, id, _) = &copies[0];
    let row = uploads::find(&mut db, "openai", *file).await.unwrap().unwrap();
    uploads::mark_deleted(&mut db, "openai", row.id).await.unwrap();
    assert!(
        imports::insert_copy(
            &mut db,
            "openai",
            &SeenCopy {
                is_compared: false,
                ..seen[0].clone()
            }
        )
        .await
        .unwrap()
    );
    assert!(!known(&mut db, id).await.was_found_equal(id));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_finding_that_is_there_is_not_replaced_by_one_that_is_put_if_missing(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let kind = FindingKind::FileResults;
    let line = |subject: &str, n: i32| (subject.to_owned(), json!({"n": n}));
    findings::put_many(&mut db, "job", kind, &[line("a", 1)])
        .await
        .unwrap();
    let added = findings::put_missing(&mut db, "job", kind, &[line("a", 2), line("b", 2)])
        .await
        .unwrap();
    assert_eq!(added, 1);
    let found = findings::list(&mut db, "job", kind, None, 10).await.unwrap();
    let numbers: Vec<_> = found.iter().map(|finding| finding.detail["n"].clone()).collect();
    assert_eq!(numbers, [1, 2]);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn items_are_read_behind_the_last_one_also_where_positions_repeat(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let nothing = json!(null);
    for (position, item) in [(0, "c"), (1, "b"), (1, "a"), (2, "d")] {
        items::add(&mut db, "job", position, &[(item, &nothing)])
            .await
            .unwrap();
    }
    let (mut seen, mut behind) = (Vec::new(), None::<(u32, String)>);
    loop {
        let from = behind.as_ref().map(|(position, item)| (*position, item.as_str()));
        let page = items::list_behind(&mut db, "job", ItemState::Waiting, from, 1)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        behind = Some((last.position, last.item.clone()));
        seen.extend(page.into_iter().map(|item| item.item));
    }
    assert_eq!(seen, ["c", "a", "b", "d"]);
}
