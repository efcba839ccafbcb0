//! Moves of many rows in one statement, and pages of an index.

use rag_db::attachments::{self, Counts};
use rag_db::intents::{self, Content, Declared};
use rag_db::uploads::{self, Arrived, Wanted};
use rag_db::{builds, composition, index_files, ownership};
use rag_domain::{AttachmentState, FileId, IntentId, UploadStatus};
use serde_json::json;
use sqlx::{MySqlConnection, MySqlPool};

use crate::fixtures::{OPENAI, attachment, declare, domain, is_conflict, new_file, new_index, sha};

fn content(sha: &str) -> Content<'_> {
    Content {
        sha256: sha,
        file_name: "a \"quoted\" \\ ünïcode.md",
        size_bytes: u64::from(u32::MAX) * 2,
    }
}

async fn new_files(db: &mut MySqlConnection, count: usize) -> Vec<FileId> {
    let mut files = Vec::new();
    for _ in 0..count {
        files.push(new_file(db).await);
    }
    files
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn uploads_of_many_files_are_declared_together(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (files, sha) = (new_files(&mut db, 3).await, sha());
    let earlier = declare(&mut db, &files[1].to_string()).await;
    let new: Vec<_> = files.iter().map(|file| (*file, content(&sha))).collect();
    let declared = intents::declare_uploads(&mut db, OPENAI, "token", &new)
        .await
        .unwrap();
    let [
        Some(Declared::New(first)),
        Some(Declared::Existing(second)),
        Some(Declared::New(third)),
    ] = declared.as_slice()
    else {
        panic!("{declared:?}");
    };
    assert_eq!(second.id, earlier.id);
    assert_eq!(
        (&first.subject, &third.subject),
        (&files[0].to_string(), &files[2].to_string())
    );
    assert_eq!(
        (
            first.file_name.as_deref(),
            first.size_bytes,
            first.claim_token.as_deref()
        ),
        (
            Some(content(&sha).file_name),
            Some(content(&sha).size_bytes),
            Some("token")
        )
    );

    // All or none: an intent that another claim holds is not resolved, and the caller rolls back.
    let mut tx = pool.begin().await.unwrap();
    let all = [first.id, second.id, third.id];
    assert!(is_conflict(&intents::resolve_many(&mut tx, &all, "token").await));
    tx.rollback().await.unwrap();
    intents::resolve_many(&mut db, &[first.id, third.id], "token")
        .await
        .unwrap();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn copies_arrive_together_and_name_those_that_they_replace(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (files, sha, other) = (new_files(&mut db, 3).await, sha(), "b".repeat(64));
    let wanted = |sha| {
        let wanted = |file: &FileId| Wanted {
            file: *file,
            content_sha256: sha,
            file_name: "ünïcode.md",
        };
        files.iter().map(wanted).collect::<Vec<_>>()
    };
    let raw = json!({"id": "x", "name": "\"\\ü"});
    let names: Vec<String> = (0..3).map(|n| format!("file-{n}")).collect();
    let arrived = |sha| {
        let arrived = |(file, name): (&FileId, &'static str)| Arrived {
            file: *file,
            content_sha256: sha,
            external_file_id: name,
            raw: &raw,
        };
        let names = ["new-0", "new-1", "new-2"];
        files.iter().zip(names).map(arrived).collect::<Vec<_>>()
    };
    uploads::mark_pending_many(&mut db, OPENAI, &wanted(&sha))
        .await
        .unwrap();
    let first: Vec<Arrived<'_>> = arrived(&sha)
        .into_iter()
        .zip(&names)
        .map(|(copy, name)| Arrived {
            external_file_id: name,
            ..copy
        })
        .collect();
    let older = uploads::mark_uploaded_many(&mut db, OPENAI, &first)
        .await
        .unwrap();
    assert_eq!(older, []);
    let row = uploads::find(&mut db, OPENAI, files[0]).await.unwrap().unwrap();
    assert_eq!(
        (
            row.status,
            row.file_name.as_deref(),
            row.external_file_id.as_deref()
        ),
        (UploadStatus::Uploaded, Some("ünïcode.md"), Some("file-0"))
    );
    assert_eq!(row.raw_provider_json, Some(raw.clone()));

    // The bytes change while the old ones are on the wire: the outcome must not pass for the new content.
    uploads::mark_pending_many(&mut db, OPENAI, &wanted(&other))
        .await
        .unwrap();
    assert!(is_conflict(
        &uploads::mark_uploaded_many(&mut db, OPENAI, &arrived(&sha)).await
    ));
    let mut older = uploads::mark_uploaded_many(&mut db, OPENAI, &arrived(&other))
        .await
        .unwrap();
    older.sort_by(|a, b| a.1.cmp(&b.1));
    let expected: Vec<_> = files.iter().copied().zip(names).collect();
    assert_eq!(older, expected);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn what_was_uploaded_is_known_as_ours_also_when_its_intent_made_something_before(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let intents = [IntentId::new(), IntentId::new()];
    let confirm = [(intents[0], "file-1"), (intents[1], "file-2")];
    ownership::confirm_files(&mut db, OPENAI, &confirm).await.unwrap();
    let again = [(intents[0], "file-3"), (IntentId::new(), "file-4")];
    ownership::confirm_files(&mut db, OPENAI, &again).await.unwrap();
    let ids = ["file-1", "file-2", "file-3", "file-4"];
    let mut made = ownership::list_made(&mut db, OPENAI, ownership::Kind::File, &ids)
        .await
        .unwrap();
    made.sort();
    assert_eq!(made, ids);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn pages_of_a_composition_follow_each_other_in_its_order(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    for (n, file) in new_files(&mut db, 7).await.into_iter().enumerate() {
        // Some share a position: their ids decide.
        let order = u32::try_from(n % 4).unwrap();
        index_files::insert(&mut db, index, file, Some(order), None)
            .await
            .unwrap();
    }
    let all = composition::list(&mut db, &domain(), index).await.unwrap();
    let all: Vec<FileId> = all.iter().map(|member| member.desired.file_id).collect();
    for limit in [1, 2, 3, 7, 8] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = composition::list_page(&mut db, &domain(), index, after, limit)
                .await
                .unwrap();
            paged.extend(page.iter().map(|member| member.desired.file_id));
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn attachments_are_found_by_what_they_have_in_common(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    let files = new_files(&mut db, 3).await;
    for file in &files[..2] {
        index_files::insert(&mut db, index, *file, None, None)
            .await
            .unwrap();
    }
    let new: Vec<_> = files
        .iter()
        .zip(["file-0", "file-1", "file-2"])
        .map(|(file, name)| attachment(index, *file, name))
        .collect();
    assert_eq!(attachments::insert_missing(&mut db, &new[..2]).await.unwrap(), 2);
    assert_eq!(
        attachments::insert_missing(&mut db, &new).await.unwrap(),
        1,
        "two are there"
    );
    let unlinked = attachments::list_unlinked(&mut db, &domain(), index, None, 10)
        .await
        .unwrap();
    assert_eq!(unlinked.len(), 1);
    assert_eq!(unlinked[0].local_file_id, files[2]);
    let store = unlinked[0].external_store_id.clone();

    let pending = attachments::list_in_state(&mut db, index, AttachmentState::Pending, 10)
        .await
        .unwrap();
    assert_eq!(pending.len(), 3);
    attachments::mark_detaching(&mut db, &[unlinked[0].id])
        .await
        .unwrap();
    sqlx::query("UPDATE rag_index_attachments SET external_store_file_id = 'own', state = 'in_progress' WHERE external_file_id = 'file-0'")
        .execute(&mut *db)
        .await
        .unwrap();
    let counts = attachments::count(&mut db, index).await.unwrap();
    let expected = Counts {
        pending: 1,
        in_progress: 1,
        detaching: 1,
        ..Counts::default()
    };
    assert_eq!((counts, counts.total(), counts.waiting()), (expected, 3, 1));

    // By either of the provider's ids, and in this store alone.
    for ids in [["own", "x"], ["file-0", "own"], ["x", "file-0"]] {
        let found = attachments::list_by_external_ids(&mut db, index, &store, &ids)
            .await
            .unwrap();
        assert_eq!(found.len(), 1, "{ids:?}");
        assert_eq!(found[0].local_file_id, files[0]);
    }
    let elsewhere = attachments::list_by_external_ids(&mut db, index, "vs_other", &["file-0"]).await;
    assert!(elsewhere.unwrap().is_empty());
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn progress_is_counted_from_rows(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db).await;
    let files = new_files(&mut db, 4).await;
    for file in &files {
        index_files::insert(&mut db, index, *file, None, None)
            .await
            .unwrap();
    }
    builds::begin(&mut db, "job", index, &domain(), "upload_files")
        .await
        .unwrap();
    let rows = composition::list(&mut db, &domain(), index).await.unwrap();
    let sha = sha();
    let size = rows[0].desired.size_bytes;
    let wanted: Vec<Wanted<'_>> = files
        .iter()
        .map(|file| Wanted {
            file: *file,
            content_sha256: &sha,
            file_name: &rows[0].file_name,
        })
        .collect();
    uploads::mark_pending_many(&mut db, OPENAI, &wanted)
        .await
        .unwrap();
    let arrived: Vec<Arrived<'_>> = files
        .iter()
        .zip(["file-0", "file-1"])
        .map(|(file, name)| Arrived {
            file: *file,
            content_sha256: &sha,
            external_file_id: name,
            raw: &serde_json::Value::Null,
        })
        .collect();
    uploads::mark_uploaded_many(&mut db, OPENAI, &arrived)
        .await
        .unwrap();
    uploads::mark_failed(&mut db, OPENAI, files[2], &sha, ("x", "why"))
        .await
        .unwrap();
    let mut new = attachment(index, files[0], "file-0");
    new.content_sha256 = &sha;
    attachments::insert_many(&mut db, &[new]).await.unwrap();
    sqlx::query("UPDATE rag_index_attachments SET state = 'completed', attached_at = UTC_TIMESTAMP(6)")
        .execute(&mut *db)
        .await
        .unwrap();

    builds::count_progress(&mut db, "job", index).await.unwrap();
    let progress = builds::find(&mut db, "job").await.unwrap().unwrap().progress;
    let expected = builds::Progress {
        files_total: 4,
        files_uploaded: 2,
        files_attached: 1,
        files_completed: 1,
        files_failed: 1,
        bytes_total: 4 * size,
        bytes_uploaded: 3 * size,
    };
    assert_eq!(progress, expected);
}
