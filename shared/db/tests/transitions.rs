//! Every transition against a real MariaDB: the legal ones move exactly one row, the forbidden ones none.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::time::Duration;

use rag_db::attachments::{NewAttachment, Observation};
use rag_db::intents::{Content, Declared, NewIntent, Operation};
use rag_db::{DbError, attachments, builds, composition, files, index_files, indexes, intents, uploads};
use rag_domain::{
    AttachMethod, AttachmentState, ChunkingStrategy, DomainId, FileId, IndexId, IndexingStatus, UploadStatus,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, MySqlConnection, MySqlPool};

fn domain(name: &str) -> DomainId {
    DomainId::try_from(name.to_owned()).unwrap()
}

async fn new_index(db: &mut MySqlConnection, domain: &DomainId) -> IndexId {
    let id = IndexId::new();
    let index = indexes::NewIndex {
        id,
        domain_id: domain.clone(),
        name: "handbook".to_owned(),
        description: None,
        provider_type: "openai".to_owned(),
        chunking_strategy: Some(ChunkingStrategy::AUTO),
        expires_after: None,
        metadata: Some(json!({"team": "ops"})),
    };
    indexes::insert(db, &index).await.unwrap();
    id
}

async fn new_file(db: &mut MySqlConnection, domain: &DomainId, sha: char) -> FileId {
    let id = FileId::new();
    let file = files::NewFile {
        id,
        domain_id: domain.clone(),
        file_name: "a.md".to_owned(),
        file_type: "text/markdown".to_owned(),
        size_bytes: 3,
        sha256: sha.to_string().repeat(64),
        local_path: "d/a.md".to_owned(),
        tags: Some(vec!["x".to_owned()]),
        notes: None,
        chunking_strategy: None,
    };
    files::insert(db, &file).await.unwrap();
    id
}

fn is_conflict<T>(result: &Result<T, DbError>) -> bool {
    matches!(result, Err(DbError::Conflict { .. }))
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn rows_come_back_as_they_went_in(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let (mine, other) = (domain("mine"), domain("Mine"));
    let index = new_index(&mut db, &mine).await;
    let file = new_file(&mut db, &mine, 'a').await;

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
        indexes::list(&mut db, &other, None, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn pages_follow_each_other_without_gaps(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain("mine");
    for _ in 0..5 {
        new_index(&mut db, &mine).await;
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = indexes::list(&mut db, &mine, None, before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.created_at, last.id));
        seen.extend(page.iter().map(|index| index.id));
    }
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (5, 5));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_index_moves_along_legal_edges_only(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain("mine");
    let index = new_index(&mut db, &mine).await;

    assert!(
        is_conflict(&indexes::mark_built(&mut db, index, IndexingStatus::Done, None).await),
        "not from not_indexed"
    );
    indexes::mark_in_progress(&mut db, index).await.unwrap();
    indexes::mark_built(&mut db, index, IndexingStatus::Failed, Some("why"))
        .await
        .unwrap();
    assert!(
        is_conflict(&indexes::mark_built(&mut db, index, IndexingStatus::Done, None).await),
        "a build ends once"
    );
    let row = indexes::get(&mut db, &mine, index).await.unwrap();
    assert_eq!(row.last_error.as_deref(), Some("why"));
    assert!(row.indexed_at.is_some());

    indexes::mark_in_progress(&mut db, index).await.unwrap();
    assert_eq!(
        indexes::get(&mut db, &mine, index).await.unwrap().last_error,
        None
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_index_takes_one_store(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let index = new_index(&mut db, &domain("mine")).await;
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
async fn attachments_move_along_legal_edges_only(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain("mine");
    let (index, file) = (
        new_index(&mut db, &mine).await,
        new_file(&mut db, &mine, 'a').await,
    );
    for from in AttachmentState::ALL {
        for to in AttachmentState::ALL {
            let new = NewAttachment {
                index_id: index,
                external_store_id: "vs_1",
                local_file_id: file,
                external_file_id: &format!("file-{from}-{to}"),
                content_sha256: &"a".repeat(64),
                size_bytes: 3,
                chunking_strategy: None,
            };
            let id = attachments::insert(&mut db, &new).await.unwrap();
            let force = format!("UPDATE rag_index_attachments SET state = '{from}' WHERE id = '{id}'");
            sqlx::query(AssertSqlSafe(force)).execute(&mut *db).await.unwrap();
            let seen = Observation {
                external_store_file_id: None,
                strategy_applied: None,
                state: *to,
                reported_strategy: None,
                usage_bytes: None,
                error_code: None,
                last_error: None,
            };
            let moved = match to {
                AttachmentState::Pending => attachments::mark_pending(&mut db, &[id]).await,
                AttachmentState::Attaching => {
                    attachments::mark_attaching(&mut db, &[id], AttachMethod::Single, Duration::ZERO).await
                }
                AttachmentState::Detaching => attachments::mark_detaching(&mut db, &[id]).await,
                AttachmentState::InProgress => {
                    attachments::mark_in_progress(&mut db, &[id], Some("vsfb_1")).await
                }
                _ => attachments::observe(&mut db, id, &seen).await,
            };
            assert_eq!(moved.is_ok(), to.predecessors().contains(from), "{from} -> {to}");
        }
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_attachment_is_deleted_only_on_its_way_out(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain("mine");
    let (index, file) = (
        new_index(&mut db, &mine).await,
        new_file(&mut db, &mine, 'a').await,
    );
    let new = NewAttachment {
        index_id: index,
        external_store_id: "vs_1",
        local_file_id: file,
        external_file_id: "file-1",
        content_sha256: &"a".repeat(64),
        size_bytes: 3,
        chunking_strategy: Some(ChunkingStrategy::fixed(400, 100)),
    };
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
    let file = new_file(&mut db, &domain("mine"), 'a').await;
    let (old, new) = ("a".repeat(64), "b".repeat(64));
    uploads::mark_pending(&mut db, "openai", file, &old)
        .await
        .unwrap();
    let first = uploads::mark_uploaded(&mut db, "openai", file, &old, "file-1", &json!({}))
        .await
        .unwrap();
    assert_eq!(first, None);
    assert!(
        is_conflict(&uploads::mark_failed(&mut db, "openai", file, &old, ("invalid_request", "late")).await),
        "uploaded stays uploaded"
    );

    // The bytes change while an upload of the old ones is on the wire: its outcome must not pass for the new content.
    uploads::mark_pending(&mut db, "openai", file, &new)
        .await
        .unwrap();
    assert!(is_conflict(
        &uploads::mark_uploaded(&mut db, "openai", file, &old, "file-x", &json!({})).await
    ));
    let replaced = uploads::mark_uploaded(&mut db, "openai", file, &new, "file-2", &json!({}))
        .await
        .unwrap();
    assert_eq!(replaced.as_deref(), Some("file-1"));
    let row = uploads::find(&mut db, "openai", file).await.unwrap().unwrap();
    assert_eq!(
        (row.status, row.external_file_id.as_deref()),
        (UploadStatus::Uploaded, Some("file-2"))
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_intent_has_one_holder(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let intent = |token| NewIntent {
        provider_id: "openai",
        operation: Operation::UploadFile,
        subject: "file",
        index_id: None,
        content: Some(Content {
            sha256: "a",
            file_name: "a.md",
            size_bytes: 3,
        }),
        claim_token: token,
    };
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
    let file = new_file(&mut db, &domain("mine"), 'a').await;
    let sha = "a".repeat(64);
    uploads::mark_pending(&mut db, "openai", file, &sha)
        .await
        .unwrap();
    uploads::mark_uploaded(&mut db, "openai", file, &sha, "file-1", &json!({}))
        .await
        .unwrap();
    assert!(!intents::retire_file(&mut db, "openai", "file-1").await.unwrap());
    assert!(
        intents::is_file_referenced(&mut db, "openai", "file-1")
            .await
            .unwrap()
    );
    assert!(intents::retire_file(&mut db, "openai", "file-2").await.unwrap());
    assert!(
        intents::is_file_referenced(&mut db, "openai", "file-2")
            .await
            .unwrap()
    );
    assert!(
        !intents::is_file_referenced(&mut db, "openai", "file-3")
            .await
            .unwrap()
    );
    let waiting = intents::list_deletions(&mut db, "openai", Operation::DeleteFile, 10)
        .await
        .unwrap();
    assert_eq!(waiting.len(), 1);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn the_composition_names_the_nearest_strategy_and_skips_foreign_files(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    let mine = domain("mine");
    let index = new_index(&mut db, &mine).await;
    let (first, second) = (
        new_file(&mut db, &mine, 'a').await,
        new_file(&mut db, &mine, 'b').await,
    );
    let foreign = new_file(&mut db, &domain("other"), 'c').await;
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
    let mine = domain("mine");
    let index = new_index(&mut db, &mine).await;
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
