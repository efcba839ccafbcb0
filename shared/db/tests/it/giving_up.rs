//! What a build leaves that ends early: nothing says `pending`, unless another build or job works on it.

use rag_db::{attachments, builds, index_files, indexes, upload_jobs, uploads};
use rag_domain::{AttachmentState, FileId, IndexId, IndexingStatus, UploadStatus};
use sqlx::{MySqlConnection, MySqlPool};

use crate::fixtures::{OPENAI, attachment, domain, new_file, new_index, sha};

/// A file of these indexes with a copy that is wanted.
async fn pending(db: &mut MySqlConnection, of: &[IndexId]) -> FileId {
    let id = new_file(db).await;
    for index in of {
        index_files::insert(db, *index, id, None, None).await.unwrap();
    }
    uploads::mark_pending(db, OPENAI, id, &sha()).await.unwrap();
    id
}

async fn upload(db: &mut MySqlConnection, file: FileId) -> (UploadStatus, Option<String>, Option<String>) {
    let row = uploads::find(db, OPENAI, file).await.unwrap().unwrap();
    (row.status, row.error_code, row.last_error)
}

async fn begin(db: &mut MySqlConnection, index: IndexId, job: &str) {
    builds::begin(db, job, index, &domain(), "upload_files")
        .await
        .unwrap();
    indexes::mark_in_progress(db, index).await.unwrap();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_abandoned_build_leaves_nothing_pending_that_is_its_own(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (mine, other) = (new_index(&mut db).await, new_index(&mut db).await);
    begin(&mut db, mine, "job-mine").await;
    begin(&mut db, other, "job-other").await;
    let own = pending(&mut db, &[mine]).await;
    let told = pending(&mut db, &[mine]).await;
    let shared = pending(&mut db, &[mine, other]).await;
    let single = pending(&mut db, &[mine]).await;
    let foreign = pending(&mut db, &[other]).await;
    upload_jobs::begin(&mut db, "job-single", OPENAI, single)
        .await
        .unwrap();
    let met = ("unavailable", "HTTP 503");
    uploads::note_error(&mut db, OPENAI, told, met).await.unwrap();
    assert_eq!(
        upload(&mut db, told).await,
        (
            UploadStatus::Pending,
            Some("unavailable".to_owned()),
            Some("HTTP 503".to_owned())
        )
    );
    let wanted = attachments::insert(&mut db, &attachment(mine, own, "file-1"))
        .await
        .unwrap();
    let accepted = attachments::insert(&mut db, &attachment(mine, told, "file-2"))
        .await
        .unwrap();
    let way = rag_domain::AttachMethod::Single;
    attachments::mark_attaching(&mut db, &[accepted], way, std::time::Duration::ZERO)
        .await
        .unwrap();
    attachments::mark_in_progress(&mut db, &[accepted], None, true)
        .await
        .unwrap();

    let index = indexes::get(&mut db, &domain(), mine).await.unwrap();
    assert!(
        builds::abandon(&mut db, Some(&index), "job-mine", "given up")
            .await
            .unwrap()
    );
    let failed = |code: &str, error: &str| {
        (
            UploadStatus::Failed,
            Some(code.to_owned()),
            Some(error.to_owned()),
        )
    };
    assert_eq!(upload(&mut db, own).await, failed("given_up", "given up"));
    assert_eq!(
        upload(&mut db, told).await,
        failed("unavailable", "HTTP 503"),
        "its own error counts"
    );
    for file in [shared, single, foreign] {
        assert_eq!(
            upload(&mut db, file).await.0,
            UploadStatus::Pending,
            "another build or job works on it"
        );
    }
    let rows = attachments::list(&mut db, mine).await.unwrap();
    let state = |id| {
        rows.iter()
            .find(|row| row.id == id)
            .map(|row| (row.state, row.error_code.as_deref()))
    };
    assert_eq!(
        state(wanted),
        Some((AttachmentState::Failed, Some(attachments::NOT_ATTACHED)))
    );
    assert_eq!(state(accepted), Some((AttachmentState::InProgress, None)));
    let index = indexes::get(&mut db, &domain(), mine).await.unwrap();
    assert_eq!(index.indexing_status, IndexingStatus::Failed);

    // The next build begins without it, and so has nothing to take out.
    assert_eq!(attachments::forget_given_up(&mut db, mine).await.unwrap(), 1);
    assert_eq!(attachments::retry_failed(&mut db, mine).await.unwrap(), 0);
    uploads::reset_for_build(&mut db, OPENAI, mine, false)
        .await
        .unwrap();
    assert_eq!(upload(&mut db, own).await, (UploadStatus::Pending, None, None));

    // And the other one ends too.
    let index = indexes::get(&mut db, &domain(), other).await.unwrap();
    assert!(
        builds::abandon(&mut db, Some(&index), "job-other", "late")
            .await
            .unwrap()
    );
    assert_eq!(upload(&mut db, shared).await, failed("given_up", "late"));
    assert_eq!(upload(&mut db, single).await.0, UploadStatus::Pending);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn each_kind_of_error_is_cleared_by_its_own_kind(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let id = new_index(&mut db).await;
    indexes::note_build_error(&mut db, id, Some("build"))
        .await
        .unwrap();
    let index = indexes::get(&mut db, &domain(), id).await.unwrap();
    assert_eq!(index.any_error(), None, "no build is at work");
    let updated_at = index.updated_at;
    indexes::set_query_error(&mut db, id, Some("search"))
        .await
        .unwrap();
    indexes::set_sync_error(&mut db, id, Some("sync")).await.unwrap();
    let index = indexes::get(&mut db, &domain(), id).await.unwrap();
    assert_eq!((index.any_error(), index.updated_at), (Some("sync"), updated_at));
    indexes::set_sync_error(&mut db, id, None).await.unwrap();
    let index = indexes::get(&mut db, &domain(), id).await.unwrap();
    assert_eq!(index.any_error(), Some("search"));
    begin(&mut db, id, "job").await;
    indexes::note_build_error(&mut db, id, Some("build"))
        .await
        .unwrap();
    let index = indexes::get(&mut db, &domain(), id).await.unwrap();
    assert_eq!(
        (index.any_error(), index.query_error.as_deref()),
        (Some("build"), Some("search"))
    );
    // Another store is another matter.
    indexes::set_external_id(&mut db, id, "vs_1").await.unwrap();
    let index = indexes::get(&mut db, &domain(), id).await.unwrap();
    assert_eq!(index.query_error, None);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_build_that_begins_clears_the_error_of_the_last_one(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let id = new_index(&mut db).await;
    begin(&mut db, id, "one").await;
    indexes::mark_built(&mut db, id, IndexingStatus::Failed, Some("why"))
        .await
        .unwrap();
    let failed = indexes::get(&mut db, &domain(), id).await.unwrap();
    assert_eq!(failed.last_error.as_deref(), Some("why"));
    assert!(failed.indexed_at.is_some());
    begin(&mut db, id, "two").await;
    let index = indexes::get(&mut db, &domain(), id).await.unwrap();
    assert_eq!(index.last_error, None);
}
