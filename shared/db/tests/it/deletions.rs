//! Deletions: hidden rows, surplus copies, deletion intents, and old builds.

use rag_db::intents::{self, Operation, Owner};
use rag_db::{DbError, attachments, builds, files, index_files, indexes, uploads};
use rag_domain::FileId;
use sqlx::{Connection as _, MySqlConnection, MySqlPool};

use crate::fixtures::{OPENAI, attachment, declare, domain, new_file, new_index};

async fn copy(db: &mut MySqlConnection, file: FileId, external: &str) {
    uploads::insert_uploaded(db, OPENAI, file, &"a".repeat(64), external)
        .await
        .unwrap();
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
        let older = crate::fixtures::mark_uploaded(&mut tx, file, &sha, "new")
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
    assert!(!retired, "the old copy is attached to a store");
}
