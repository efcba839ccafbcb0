//! Rows that many tests begin with.

use rag_db::attachments::{NewAttachment, Observation};
use rag_db::files::{self, NewFile};
use rag_db::intents::{self, Content, Declared, NewIntent, Operation};
use rag_db::uploads::{self, Arrived};
use rag_db::{DbError, indexes};
use rag_domain::{AttachmentState, ChunkingStrategy, DomainId, FileId, IndexId};
use serde_json::json;
use sqlx::MySqlConnection;

pub(crate) const OPENAI: &str = "openai";

pub(crate) fn domain() -> DomainId {
    domain_named("mine")
}

pub(crate) fn domain_named(name: &str) -> DomainId {
    DomainId::try_from(name.to_owned()).unwrap()
}

/// Of every file here.
pub(crate) fn sha() -> String {
    "a".repeat(64)
}

pub(crate) async fn new_index(db: &mut MySqlConnection) -> IndexId {
    index_of(db, &domain()).await
}

pub(crate) async fn index_of(db: &mut MySqlConnection, domain: &DomainId) -> IndexId {
    let id = IndexId::new();
    let index = indexes::NewIndex {
        id,
        domain_id: domain.clone(),
        name: "handbook".to_owned(),
        description: None,
        provider_type: OPENAI.to_owned(),
        chunking_strategy: Some(ChunkingStrategy::AUTO),
        expires_after: None,
        metadata: Some(json!({"team": "ops"})),
    };
    indexes::insert(db, &index).await.unwrap();
    id
}

pub(crate) async fn new_file(db: &mut MySqlConnection) -> FileId {
    file_of(db, &domain()).await
}

pub(crate) async fn file_of(db: &mut MySqlConnection, domain: &DomainId) -> FileId {
    let file = file_row(domain);
    files::insert(db, &file).await.unwrap();
    file.id
}

pub(crate) fn file_row(domain: &DomainId) -> NewFile {
    let id = FileId::new();
    NewFile {
        id,
        domain_id: domain.clone(),
        file_name: "a.md".to_owned(),
        file_type: "text/markdown".to_owned(),
        size_bytes: 3,
        sha256: sha(),
        local_path: format!("d/{id}"),
        tags: Some(vec!["x".to_owned()]),
        notes: None,
        chunking_strategy: None,
    }
}

pub(crate) fn attachment(index: IndexId, file: FileId, external: &str) -> NewAttachment<'_> {
    NewAttachment {
        index_id: index,
        external_store_id: "vs_1",
        local_file_id: file,
        external_file_id: external,
        content_sha256: "a",
        size_bytes: 3,
        chunking_strategy: Some(ChunkingStrategy::fixed(400, 100)),
    }
}

pub(crate) fn observation(state: AttachmentState) -> Observation<'static> {
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

pub(crate) fn upload_intent<'a>(subject: &'a str, claim_token: &'a str) -> NewIntent<'a> {
    NewIntent {
        provider_id: OPENAI,
        operation: Operation::UploadFile,
        subject,
        index_id: None,
        content: Some(Content {
            sha256: "a",
            file_name: "a.md",
            size_bytes: 3,
        }),
        claim_token,
    }
}

pub(crate) async fn declare(db: &mut MySqlConnection, subject: &str) -> intents::Intent {
    match intents::declare(db, &upload_intent(subject, "t")).await.unwrap() {
        Declared::New(intent) => intent,
        Declared::Existing(_) => panic!("{subject} is new"),
    }
}

pub(crate) fn is_conflict<T>(result: &Result<T, DbError>) -> bool {
    matches!(result, Err(DbError::Conflict { .. }))
}

/// One copy has arrived; see [`uploads::mark_uploaded_many`].
pub(crate) async fn mark_uploaded(
    db: &mut MySqlConnection,
    file: FileId,
    sha256: &str,
    external_file_id: &str,
) -> Result<Option<String>, DbError> {
    let arrived = Arrived {
        file,
        content_sha256: sha256,
        external_file_id,
        raw: &json!({}),
    };
    let older = uploads::mark_uploaded_many(db, OPENAI, &[arrived]).await?;
    Ok(older.into_iter().next().map(|(_, older)| older))
}
