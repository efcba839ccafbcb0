//! Downloads.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use rag_providers::{ErrorKind, Provider, ProviderError};
use serde_json::json;

use crate::server::{Reply, Server, status};

async fn download(provider: &dyn Provider) -> Result<Bytes, ProviderError> {
    let content = provider.file_content("file-1").await?;
    let pieces: Vec<Bytes> = content.stream.try_collect().await?;
    Ok(pieces.concat().into())
}

#[tokio::test]
async fn a_download_streams_what_the_provider_holds() {
    let server = Server::start([Reply::Answer {
        status: 200,
        headers: Vec::new(),
        body: b"hello".to_vec(),
    }])
    .await;
    assert_eq!(download(&*server.provider("openai")).await.unwrap(), "hello");
    assert_eq!(server.lines(), ["GET /files/file-1/content"]);
}

#[tokio::test]
async fn a_download_that_ends_early_or_stalls_is_an_error() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello".to_vec();
    let server = Server::start([Reply::Raw(head.clone())]).await;
    assert_eq!(
        download(&*server.provider("openai")).await.unwrap_err().kind,
        ErrorKind::Unavailable
    );

    let server = Server::start([Reply::Drip(head, vec![b'.'; 95], Duration::from_millis(10))]).await;
    let error = download(&*server.provider("openai")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_refused_download_says_nothing_about_existence() {
    let message = "Not allowed to download files of purpose: assistants";
    let server = Server::start([status(400, &json!({"error": {"message": message, "code": null}}))]).await;
    let error = download(&*server.provider("openai")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ContentUnavailable);
}
