//! Deletions, traces and batched observations, against a real MariaDB.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::time::Duration;

use rag_db::attachments::{self, NewAttachment, Observation};
use rag_db::intents::{self, Content, Declared, NewIntent, Operation, Owner};
use rag_db::ownership::{self, Kind};
use rag_db::{DbError, builds, files, index_files, indexes, uploads};
use rag_domain::{AttachMethod, AttachmentId, AttachmentState, ChunkingStrategy, DomainId, FileId, IndexId};
use serde_json::json;
use sqlx::{Connection as _, MySqlConnection, MySqlPool};

const OPENAI: &str = "openai";

fn domain() -> DomainId {
    DomainId::try_from("mine".to_owned()).unwrap()
}

async fn new_index(db: &mut MySqlConnection) -> IndexId {
    let id = IndexId::new();
    let index = indexes::NewIndex {
        id,
        domain_id: domain(),
        name: "handbook".to_owned(),
        description: None,
        provider_type: OPENAI.to_owned(),
        chunking_strategy: None,
        expires_after: None,
        metadata: None,
    };
    indexes::insert(db, &index).await.unwrap();
    id
}

async fn new_file(db: &mut MySqlConnection) -> FileId {
    let id = FileId::new();
    let file = files::NewFile {
        id,
        domain_id: domain(),
        file_name: "a.md".to_owned(),
        file_type: "text/markdown".to_owned(),
        size_bytes: 3,
        sha256: "a".repeat(64),
        local_path: format!("d/{id}"),
        tags: None,
        notes: None,
        chunking_strategy: None,
    };
    files::insert(db, &file).await.unwrap();
    id
}

async fn copy(db: &mut MySqlConnection, file: FileId, external: &str) {
    uploads::insert_uploaded(db, OPENAI, file, &"a".repeat(64), external)
        .await
        .unwrap();
}

async fn declare(db: &mut MySqlConnection, subject: &str) -> intents::Intent {
    let new = NewIntent {
        provider_id: OPENAI,
        operation: Operation::UploadFile,
        subject,
        index_id: None,
        content: Some(Content {
            sha256: "a",
            file_name: "a.md",
            size_bytes: 3,
        }),
        claim_token: "t",
    };
    match intents::declare(db, &new).await.unwrap() {
        Declared::New(intent) => intent,
        Declared::Existing(_) => panic!("{subject} is new"),
    }
}

fn attachment(index: IndexId, file: FileId, external: &str) -> NewAttachment<'_> {
    NewAttachment {
        index_id: index,
        external_store_id: "vs",
        local_file_id: file,
        external_file_id: external,
        content_sha256: "a",
        size_bytes: 3,
        chunking_strategy: Some(ChunkingStrategy::fixed(400, 100)),
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_is_hidden_is_seen_by_its_deletion_alone(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (index, file) = (new_index(&mut db).await, new_file(&mut db).await);
    index_files::insert(&mut db, index, file, None, None)
        .await
        .unwrap();
    assert!(
        indexes::find_tombstone_for_update(&mut db, index)
            .await
            .unwrap()
            .is_none()
    );

    indexes::mark_deleted(&mut db, &domain(), index).await.unwrap();
    let again = indexes::mark_deleted(&mut db, &domain(), index).await;
    assert!(matches!(again, Err(DbError::Conflict { .. })), "once");
    assert!(indexes::find(&mut db, &domain(), index).await.unwrap().is_none());
    assert!(
        index_files::list_indexes_of(&mut db, file)
            .await
            .unwrap()
            .is_empty()
    );
    let tombstones = indexes::list_tombstones(&mut db, Some(OPENAI), None, 9)
        .await
        .unwrap();
    assert_eq!(tombstones.len(), 1);
    assert!(
        indexes::list_tombstones(&mut db, Some("yandex"), None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    indexes::delete_tombstone(&mut db, index).await.unwrap();
    assert!(indexes::delete_tombstone(&mut db, index).await.is_err());
    assert!(index_files::list(&mut db, index).await.unwrap().is_empty());

    files::mark_deleted(&mut db, &domain(), file).await.unwrap();
    assert!(files::find(&mut db, &domain(), file).await.unwrap().is_none());
    assert!(files::lock_of_any_domain(&mut db, file).await.is_err());
    let all = files::FileFilter::default();
    assert!(
        files::list(&mut db, &domain(), &all, None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        files::find_tombstone_for_update(&mut db, file)
            .await
            .unwrap()
            .is_some()
    );
    assert!(files::lock_any(&mut db, file).await.unwrap());
    let other = new_index(&mut db).await;
    index_files::insert(&mut db, other, file, None, None)
        .await
        .unwrap();
    let members = rag_db::composition::list(&mut db, &domain(), other)
        .await
        .unwrap();
    assert!(members.is_empty(), "a hidden file belongs nowhere");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_index_takes_only_the_copies_that_nobody_else_needs(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (index, other) = (new_index(&mut db).await, new_index(&mut db).await);
    let mut all = Vec::new();
    for name in ["own", "shared", "import", "uploading", "elsewhere"] {
        let file = new_file(&mut db).await;
        index_files::insert(&mut db, index, file, None, None)
            .await
            .unwrap();
        if name != "elsewhere" {
            copy(&mut db, file, name).await;
        }
        all.push(file);
    }
    index_files::insert(&mut db, other, all[1], None, None)
        .await
        .unwrap();
    sqlx::query("UPDATE rag_files SET external_file_id = 'import' WHERE id = ?")
        .bind(all[2].to_string())
        .execute(&mut *db)
        .await
        .unwrap();
    declare(&mut db, &all[3].to_string()).await;
    uploads::insert_uploaded(&mut db, "yandex", all[4], "a", "elsewhere")
        .await
        .unwrap();

    let none = uploads::mark_surplus_deleted(&mut db, OPENAI, &all)
        .await
        .unwrap();
    assert!(none.is_empty(), "the index itself is not deleted yet: {none:?}");
    indexes::mark_deleted(&mut db, &domain(), index).await.unwrap();
    let gone = uploads::mark_surplus_deleted(&mut db, OPENAI, &all)
        .await
        .unwrap();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(gone[0].external_file_id.as_deref(), Some("own"));
    for (at, provider) in [(1, OPENAI), (2, OPENAI), (3, OPENAI), (4, "yandex")] {
        assert!(
            uploads::find(&mut db, provider, all[at]).await.unwrap().is_some(),
            "{at}"
        );
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn deletions_come_in_their_time_and_are_tried_by_one(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let file = new_file(&mut db).await;
    for name in ["a", "b"] {
        assert!(intents::retire_file(&mut db, OPENAI, name).await.unwrap());
    }
    // Asked for again on somebody's behalf: that one waits for it from now on.
    intents::retire_file_for(&mut db, OPENAI, "b", Owner::File(file))
        .await
        .unwrap();
    let due = intents::list_deletions(&mut db, OPENAI, Operation::DeleteFile, 9)
        .await
        .unwrap();
    assert_eq!(due.len(), 2);
    let owned = intents::list_deletions_of(&mut db, Owner::File(file), Operation::DeleteFile, 9)
        .await
        .unwrap();
    assert_eq!(
        owned.iter().map(|one| one.subject.as_str()).collect::<Vec<_>>(),
        ["b"]
    );
    assert!(intents::any_of_file(&mut db, file).await.unwrap());

    let a = due.iter().find(|one| one.subject == "a").unwrap();
    assert!(intents::take_deletion(&mut db, a, 60).await.unwrap());
    assert!(
        !intents::take_deletion(&mut db, a, 60).await.unwrap(),
        "somebody is at it"
    );
    intents::postpone_deletion(&mut db, a.id, 60, Some("no"))
        .await
        .unwrap();
    let due = intents::list_deletions(&mut db, OPENAI, Operation::DeleteFile, 9)
        .await
        .unwrap();
    assert_eq!(due.len(), 1, "one that fails does not stand in the way: {due:?}");
    sqlx::query("UPDATE rag_provider_intents SET due_at = UTC_TIMESTAMP(6)")
        .execute(&mut *db)
        .await
        .unwrap();
    let due = intents::list_deletions(&mut db, OPENAI, Operation::DeleteFile, 9)
        .await
        .unwrap();
    let a = due.iter().find(|one| one.subject == "a").unwrap();
    assert_eq!((a.tries, a.last_error.as_deref()), (1, Some("no")));

    copy(&mut db, file, "used").await;
    assert!(!intents::retire_file(&mut db, OPENAI, "used").await.unwrap());
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn traces_tell_what_we_made(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let upload = declare(&mut db, "one").await;
    ownership::confirm(&mut db, OPENAI, Kind::File, upload.id, "file-1")
        .await
        .unwrap();
    // A second file of the same intent has a trace of its own.
    ownership::confirm(&mut db, OPENAI, Kind::File, upload.id, "file-2")
        .await
        .unwrap();
    ownership::confirm(&mut db, OPENAI, Kind::File, upload.id, "file-2")
        .await
        .unwrap();
    let mut made = ownership::list_made(&mut db, OPENAI, Kind::File, &["file-1", "file-2", "file-3"])
        .await
        .unwrap();
    made.sort();
    assert_eq!(made, ["file-1", "file-2"]);
    let elsewhere = ownership::list_made(&mut db, "yandex", Kind::File, &["file-1"])
        .await
        .unwrap();
    assert!(elsewhere.is_empty());
    let age = ownership::find_age_seconds(&mut db, OPENAI, Kind::File, "file-1")
        .await
        .unwrap();
    assert!(age.unwrap() < 60, "{age:?}");

    ownership::mark_deleted(&mut db, OPENAI, Kind::File, "file-1")
        .await
        .unwrap();
    ownership::mark_deleted(&mut db, OPENAI, Kind::File, "never-made")
        .await
        .unwrap();
    for gone in ["file-1", "never-made"] {
        assert!(
            ownership::is_deleted(&mut db, OPENAI, Kind::File, gone)
                .await
                .unwrap()
        );
    }
    assert!(
        !ownership::is_deleted(&mut db, OPENAI, Kind::File, "file-2")
            .await
            .unwrap()
    );
    assert_eq!(
        ownership::find_age_seconds(&mut db, OPENAI, Kind::File, "file-1")
            .await
            .unwrap(),
        None
    );
    assert_eq!(ownership::prune(&mut db, 7, 9).await.unwrap(), 0, "not yet");
    sqlx::query("UPDATE rag_provider_ownership SET deleted_at = deleted_at - INTERVAL 8 DAY")
        .execute(&mut *db)
        .await
        .unwrap();
    assert_eq!(ownership::prune(&mut db, 7, 9).await.unwrap(), 2);

    let unheard = declare(&mut db, "two").await;
    ownership::insert_unconfirmed(&mut db, &unheard).await.unwrap();
    let listed = ownership::list_unconfirmed(&mut db, OPENAI, 9).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].file_name.as_str(), listed[0].size_bytes), ("a.md", 3));
    // It comes to light.
    ownership::confirm(&mut db, OPENAI, Kind::File, unheard.id, "file-9")
        .await
        .unwrap();
    assert!(
        ownership::list_unconfirmed(&mut db, OPENAI, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(!ownership::delete_unconfirmed(&mut db, unheard.id).await.unwrap());

    let tag = upload.id.to_string();
    assert!(
        !ownership::is_our_tag(&mut db, OPENAI, &tag).await.unwrap(),
        "of a file"
    );
    let store = rag_domain::IntentId::new();
    ownership::insert_store(&mut db, OPENAI, store).await.unwrap();
    assert!(
        ownership::is_our_tag(&mut db, OPENAI, &store.to_string())
            .await
            .unwrap()
    );
    assert!(
        !ownership::is_our_tag(&mut db, "yandex", &store.to_string())
            .await
            .unwrap()
    );
}

fn seen(state: AttachmentState) -> Observation<'static> {
    Observation {
        state,
        external_store_file_id: None,
        reported_strategy: None,
        strategy_applied: None,
        usage_bytes: None,
        error_code: None,
        last_error: None,
    }
}

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
    attachments::mark_in_progress(&mut db, &ids, Some("batch"))
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
                    ..seen(AttachmentState::Completed)
                }
            } else {
                Observation {
                    external_store_file_id: Some("own"),
                    error_code: Some("server_error"),
                    last_error: Some(text),
                    ..seen(AttachmentState::Failed)
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
    attachments::mark_in_progress(&mut db, &[id], Some("batch"))
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
    attachments::mark_in_progress(&mut db, &[id], Some("second"))
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

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn old_builds_are_forgotten_but_for_the_latest(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    for (job, days) in [("a", 30), ("b", 20), ("c", 10)] {
        builds::begin(&mut db, job, index, &domain(), "finish")
            .await
            .unwrap();
        builds::finish(&mut db, job).await.unwrap();
        sqlx::query("UPDATE rag_index_builds SET started_at = started_at - INTERVAL ? DAY, finished_at = finished_at - INTERVAL ? DAY WHERE job_id = ?")
            .bind(days)
            .bind(days)
            .bind(job)
            .execute(&mut *db)
            .await
            .unwrap();
    }
    let other = new_index(&mut db).await;
    builds::begin(&mut db, "open", other, &domain(), "finish")
        .await
        .unwrap();
    assert_eq!(builds::prune(&mut db, 25 * 86_400, 9).await.unwrap(), 1);
    assert_eq!(
        builds::prune(&mut db, 5 * 86_400, 9).await.unwrap(),
        1,
        "the latest stays"
    );
    assert!(builds::find(&mut db, "c").await.unwrap().is_some());
    assert!(builds::find(&mut db, "open").await.unwrap().is_some());
}

/// Whoever is about to attach a copy holds it: its replacement waits, and sees the attachment.
#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_copy_that_is_about_to_be_attached_is_not_retired(pool: MySqlPool) {
    let mut setup = pool.acquire().await.unwrap();
    let (index, file) = (new_index(&mut setup).await, new_file(&mut setup).await);
    copy(&mut setup, file, "old").await;
    let connect = || async {
        let mut db = pool.acquire().await.unwrap();
        sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .execute(&mut *db)
            .await
            .unwrap();
        db
    };
    let (mut one, mut two) = (connect().await, connect().await);
    let mut attaching = one.begin().await.unwrap();
    let current = uploads::lock_current(&mut attaching, OPENAI, &[file])
        .await
        .unwrap();
    assert_eq!(current, [(file, "old".to_owned())]);

    let sha = "b".repeat(64);
    let replacing = async {
        let mut tx = two.begin().await.unwrap();
        uploads::mark_pending(&mut tx, OPENAI, file, &sha).await.unwrap();
        let older = uploads::mark_uploaded(&mut tx, OPENAI, file, &sha, "new", &json!({}))
            .await
            .unwrap();
        let retired = intents::retire_file(&mut tx, OPENAI, &older.unwrap())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        retired
    };
    let attach = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        attachments::insert(&mut attaching, &attachment(index, file, "old"))
            .await
            .unwrap();
        attaching.commit().await.unwrap();
    };
    let (retired, ()) = tokio::join!(replacing, attach);
    assert!(!retired, "the old copy hangs in a store");
}
