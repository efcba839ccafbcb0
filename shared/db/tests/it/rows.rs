//! Rows: what goes in comes out, pages, stores, intents, compositions and builds.

use rag_db::indexes::IndexFilter;
use rag_db::intents::{self, Declared, Operation};
use rag_db::{DbError, attachments, builds, composition, files, index_files, indexes, uploads};
use rag_domain::{ChunkingStrategy, IndexingStatus, UploadStatus};
use serde_json::json;
use sqlx::MySqlPool;

use crate::fixtures::{
    OPENAI, attachment, domain_named, file_of, index_of, is_conflict, mark_uploaded, upload_intent,
};

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn rows_come_back_as_they_went_in(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (mine, other) = (domain_named("mine"), domain_named("Mine"));
    let index = index_of(&mut db, &mine).await;
    let file = file_of(&mut db, &mine).await;

    let row = indexes::get(&mut db, &mine, index).await.unwrap();
    assert_eq!(row.indexing_status, IndexingStatus::NotIndexed);
    assert_eq!(row.chunking_strategy, Some(ChunkingStrategy::AUTO));
    assert_eq!(row.metadata, Some(json!({"team": "ops"})));
    assert_eq!(
        files::get(&mut db, &mine, file).await.unwrap().tags,
        Some(vec!["x".to_owned()])
    );

    // another domain sees nothing, not even one that differs in case alone.
    assert!(indexes::find(&mut db, &other, index).await.unwrap().is_none());
    assert!(files::find(&mut db, &other, file).await.unwrap().is_none());
    assert!(
        indexes::list(&mut db, &other, &IndexFilter::default(), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn pages_follow_each_other_without_gaps(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain_named("mine");
    for _ in 0..5 {
        index_of(&mut db, &mine).await;
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = indexes::list(&mut db, &mine, &IndexFilter::default(), before, 2)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.created_at, last.id));
        seen.extend(page.iter().map(|index| index.id));
    }
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (5, 5));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_index_takes_one_store(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = index_of(&mut db, &domain_named("mine")).await;
    indexes::set_external_id(&mut db, index, "vs_1").await.unwrap();
    assert!(is_conflict(
        &indexes::set_external_id(&mut db, index, "vs_2").await
    ));
    assert!(is_conflict(
        &indexes::clear_external_id(&mut db, index, "vs_2").await
    ));
    indexes::clear_external_id(&mut db, index, "vs_1").await.unwrap();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_attachment_is_deleted_only_on_its_way_out(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain_named("mine");
    let (index, file) = (index_of(&mut db, &mine).await, file_of(&mut db, &mine).await);
    let new = attachment(index, file, "file-1");
    let id = attachments::insert(&mut db, &new).await.unwrap();
    assert!(matches!(
        attachments::insert(&mut db, &new).await,
        Err(DbError::Duplicate(_))
    ));
    assert!(is_conflict(&attachments::delete_detached(&mut db, id).await));
    attachments::mark_detaching(&mut db, &[id]).await.unwrap();
    attachments::delete_detached(&mut db, id).await.unwrap();
    assert!(attachments::list(&mut db, index).await.unwrap().is_empty());
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_upload_is_finished_for_the_content_it_was_started_for(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let file = file_of(&mut db, &domain_named("mine")).await;
    let (old, new) = ("a".repeat(64), "b".repeat(64));
    uploads::mark_pending(&mut db, OPENAI, file, &old).await.unwrap();
    let first = mark_uploaded(&mut db, file, &old, "file-1").await.unwrap();
    assert_eq!(first, None);
    assert!(
        is_conflict(&uploads::mark_failed(&mut db, OPENAI, file, &old, ("invalid_request", "late")).await),
        "uploaded stays uploaded"
    );

    // The bytes change while an upload of the old ones is on the wire: its outcome must not pass for the new content.
    uploads::mark_pending(&mut db, OPENAI, file, &new).await.unwrap();
    assert!(is_conflict(&mark_uploaded(&mut db, file, &old, "file-x").await));
    let replaced = mark_uploaded(&mut db, file, &new, "file-2").await.unwrap();
    assert_eq!(replaced.as_deref(), Some("file-1"));
    let row = uploads::find(&mut db, OPENAI, file).await.unwrap().unwrap();
    assert_eq!(
        (row.status, row.external_file_id.as_deref()),
        (UploadStatus::Uploaded, Some("file-2"))
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_intent_has_one_holder(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let intent = |token| upload_intent("file", token);
    let Declared::New(first) = intents::declare(&mut db, &intent("one")).await.unwrap() else {
        panic!("must be new")
    };
    let Declared::Existing(second) = intents::declare(&mut db, &intent("two")).await.unwrap() else {
        panic!("must exist")
    };
    assert_eq!(first.id, second.id);
    assert_eq!(second.claim_token.as_deref(), Some("one"));
    assert!(is_conflict(&intents::resolve(&mut db, first.id, "two").await));
    assert!(is_conflict(
        &intents::take_over(&mut db, first.id, Some("zero"), "two").await
    ));
    intents::take_over(&mut db, first.id, Some("one"), "two")
        .await
        .unwrap();
    intents::resolve(&mut db, first.id, "two").await.unwrap();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn only_an_unreferenced_file_is_retired(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let file = file_of(&mut db, &domain_named("mine")).await;
    let sha = "a".repeat(64);
    uploads::mark_pending(&mut db, OPENAI, file, &sha).await.unwrap();
    mark_uploaded(&mut db, file, &sha, "file-1").await.unwrap();
    assert!(!intents::retire_file(&mut db, OPENAI, "file-1").await.unwrap());
    assert!(
        intents::is_file_referenced(&mut db, OPENAI, "file-1")
            .await
            .unwrap()
    );
    assert!(intents::retire_file(&mut db, OPENAI, "file-2").await.unwrap());
    assert!(
        intents::is_file_referenced(&mut db, OPENAI, "file-2")
            .await
            .unwrap()
    );
    assert!(
        !intents::is_file_referenced(&mut db, OPENAI, "file-3")
            .await
            .unwrap()
    );
    let waiting = intents::list_deletions(&mut db, OPENAI, Operation::DeleteFile, 10)
        .await
        .unwrap();
    assert_eq!(waiting.len(), 1);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_composition_names_the_nearest_strategy_and_skips_foreign_files(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain_named("mine");
    let index = index_of(&mut db, &mine).await;
    let (first, second) = (file_of(&mut db, &mine).await, file_of(&mut db, &mine).await);
    let foreign = file_of(&mut db, &domain_named("other")).await;
    let strategy = ChunkingStrategy::fixed(400, 100);
    index_files::insert(&mut db, index, second, None, None)
        .await
        .unwrap();
    index_files::insert(&mut db, index, first, None, Some(strategy))
        .await
        .unwrap();
    index_files::insert(&mut db, index, foreign, None, None)
        .await
        .unwrap();
    assert!(matches!(
        index_files::insert(&mut db, index, first, None, None).await,
        Err(DbError::Duplicate(_))
    ));

    let members = composition::list(&mut db, &mine, index).await.unwrap();
    let listed: Vec<_> = members
        .iter()
        .map(|member| (member.desired.file_id, member.desired.strategy))
        .collect();
    assert_eq!(
        listed,
        vec![(second, Some(ChunkingStrategy::AUTO)), (first, Some(strategy))]
    );
    assert!(members.iter().all(|member| member.desired.upload.is_none()));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_build_begins_once_and_ends_once(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain_named("mine");
    let index = index_of(&mut db, &mine).await;
    assert!(
        builds::begin(&mut db, "job", index, &mine, "upload_files")
            .await
            .unwrap()
    );
    assert!(
        !builds::begin(&mut db, "job", index, &mine, "upload_files")
            .await
            .unwrap()
    );
    let progress = builds::Progress {
        files_total: 2,
        ..Default::default()
    };
    builds::set_progress(&mut db, "job", &progress).await.unwrap();
    assert_eq!(
        builds::find(&mut db, "job").await.unwrap().unwrap().progress,
        progress
    );
    builds::finish(&mut db, "job").await.unwrap();
    assert!(is_conflict(&builds::finish(&mut db, "job").await));
    assert!(is_conflict(
        &builds::set_progress(&mut db, "job", &progress).await
    ));
}
