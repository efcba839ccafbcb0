//! Uploads in one request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use rag_providers::{
    ByteStream, BytesSource, Effect, ErrorKind, FileUpload, ProviderError, Registry, UploadSource,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{Reply, Server, json, status};

pub(super) const MIB: u64 = 1024 * 1024;

pub(super) fn file(bytes: u64) -> Value {
    json!({"id": "file-1", "object": "file", "bytes": bytes, "created_at": 1, "filename": "a.txt",
        "purpose": "assistants", "status": "processed"})
}

pub(super) fn upload(content: &'static [u8], size_bytes: u64) -> FileUpload {
    FileUpload {
        file_name: "résumé \"1\".txt".to_owned(),
        content_type: None,
        size_bytes,
        sha256: None,
        body: Arc::new(BytesSource(Bytes::from_static(content))),
    }
}

/// Zeroes, in pieces, without holding them.
pub(super) struct Zeroes {
    pub(super) size_bytes: u64,
}

#[async_trait]
impl UploadSource for Zeroes {
    async fn open(&self, offset: u64) -> io::Result<ByteStream> {
        static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
        let left = self.size_bytes - offset;
        let stream = stream::unfold(left, |left| async move {
            let size = left.min(PIECE.len() as u64);
            (size > 0).then(|| {
                (
                    Ok(Bytes::from_static(&PIECE[..usize::try_from(size).unwrap()])),
                    left - size,
                )
            })
        });
        Ok(stream.boxed())
    }
}

#[tokio::test]
async fn an_upload_is_a_form_of_known_length() {
    let server = Server::start([json(&file(5))]).await;
    let uploaded = server
        .provider("openai")
        .upload_file(upload(b"hello", 5))
        .await
        .unwrap();
    assert_eq!((uploaded.id.as_str(), uploaded.size_bytes), ("file-1", 5));
    let request = &server.requests()[0];
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.header("openai-beta"), None);
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert!(body.contains("name=\"purpose\"\r\n\r\nassistants\r\n"), "{body}");
    assert!(
        body.contains("Content-Type: text/plain\r\n\r\nhello\r\n"),
        "{body}"
    );
    // As browsers do: the name as it is, only quotes escaped.
    assert!(
        body.contains("name=\"file\"; filename=\"résumé \\\"1\\\".txt\""),
        "{body}"
    );
}

#[tokio::test]
async fn a_source_that_lies_about_its_length_fails_without_effect() {
    for (content, announced) in [(&b"hello"[..], 6), (b"hello", 4), (b"", 1)] {
        let server = Server::start([json(&file(announced))]).await;
        let error = server
            .provider("openai")
            .upload_file(upload(content, announced))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (ErrorKind::LocalCorruption, Effect::None),
            "{error}"
        );
        assert_eq!(server.requests().len(), 0, "the form never arrived whole");
    }
}

/// SHA-256 of `hello`.
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[tokio::test]
async fn bytes_with_another_hash_never_arrive_whole() {
    for content in [&b"hello"[..], b"hellO", b"hxllo"] {
        let server = Server::start([json(&file(5))]).await;
        let upload = FileUpload {
            sha256: Some(HELLO.to_owned()),
            ..upload(content, 5)
        };
        let result = server.provider("openai").upload_file(upload).await;
        if content == b"hello" {
            assert_eq!(result.unwrap().id, "file-1");
            continue;
        }
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (ErrorKind::LocalCorruption, Effect::None),
            "{error}"
        );
        assert!(error.message.contains(HELLO), "{error}");
        assert_eq!(server.requests().len(), 0);
    }
}

/// Opens, or breaks after some bytes, as a disk does.
struct Broken {
    opens: bool,
}

#[async_trait]
impl UploadSource for Broken {
    async fn open(&self, _: u64) -> io::Result<ByteStream> {
        let broken = || io::Error::from_raw_os_error(5);
        if self.opens {
            Ok(stream::iter([Ok(Bytes::from_static(b"he")), Err(broken())]).boxed())
        } else {
            Err(broken())
        }
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_not_the_files_fault() {
    for opens in [false, true] {
        let server = Server::start([json(&file(5))]).await;
        let upload = FileUpload {
            body: Arc::new(Broken { opens }),
            ..upload(b"", 5)
        };
        let error = server.provider("openai").upload_file(upload).await.unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (ErrorKind::SourceUnreadable, Effect::None),
            "{error}"
        );
        assert_eq!(server.requests().len(), 0);
    }
}

/// A server that answers an upload before it has its last byte, and then is asked to delete a file.
async fn hasty_server() -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let answer = |body: Value| {
            let body = body.to_string();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
        };
        let (mut socket, _) = listener.accept().await.unwrap();
        // More than the head of the form, and less than all of it.
        socket.read_exact(&mut vec![0; 100_000]).await.unwrap();
        socket.write_all(answer(file(200_000)).as_bytes()).await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        let mut line = vec![0; 4096];
        let read = second.read(&mut line).await.unwrap();
        let deleted = json!({"id": "file-1", "object": "file", "deleted": true});
        second.write_all(answer(deleted).as_bytes()).await.unwrap();
        String::from_utf8_lossy(&line[..read])
            .lines()
            .next()
            .unwrap()
            .to_owned()
    });
    (base_url, asked)
}

/// Most of the bytes at once, the rest when the server has had time to answer.
struct Late;

#[async_trait]
impl UploadSource for Late {
    async fn open(&self, _: u64) -> io::Result<ByteStream> {
        let first = stream::iter([Ok(Bytes::from(vec![b'a'; 150_000]))]);
        let rest = stream::once(async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok(Bytes::from(vec![b'b'; 50_000]))
        });
        Ok(first.chain(rest).boxed())
    }
}

#[tokio::test]
async fn a_file_that_a_provider_made_of_a_part_of_the_bytes_is_deleted_again() {
    let (base_url, asked) = hasty_server().await;
    let mut config = Server::start([]).await.config("openai");
    config.base_url = Some(base_url);
    config.timeouts.stall = Duration::from_secs(10);
    let upload = FileUpload {
        body: Arc::new(Late),
        ..upload(b"", 200_000)
    };
    let provider = Registry::builtin().open(config).unwrap();
    let error = provider.upload_file(upload).await.unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::Protocol, Effect::None),
        "{error}"
    );
    assert!(asked.await.unwrap().starts_with("DELETE /v1/files/file-1 "));
}

#[tokio::test]
async fn a_provider_that_counts_other_bytes_has_stored_something_else() {
    let server = Server::start([json(&file(3))]).await;
    let error = server
        .provider("openai")
        .upload_file(upload(b"hello", 5))
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Protocol, Effect::Done));
}

#[tokio::test]
async fn an_upload_is_not_repeated_once_sent() {
    for (reply, kind) in [
        (Reply::Silence, ErrorKind::Timeout),
        (Reply::Raw(Vec::new()), ErrorKind::Unavailable),
        (status(503, &json!({})), ErrorKind::Unavailable),
    ] {
        let server = Server::start(vec![reply; 3]).await;
        let error = server
            .provider("openai")
            .upload_file(upload(b"hello", 5))
            .await
            .unwrap_err();
        assert_eq!((error.kind, error.effect), (kind, Effect::Unknown), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_upload_that_stalls_ends_and_one_that_moves_does_not() {
    // Accepts, reads so many bytes a step, and answers when it has all.
    async fn slow_server(step: usize, answer: Option<usize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; step];
            let mut total = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                match (answer, total) {
                    (None, 1..) => std::future::pending().await,
                    (Some(enough), total) if total >= enough => break,
                    _ => total += socket.read(&mut buffer).await.unwrap(),
                }
            }
            let body = file(32 * MIB).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            socket.write_all(head.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        format!("http://{address}/v1")
    }
    async fn run(base_url: String) -> Result<(), ProviderError> {
        let server = Server::start([]).await;
        let mut config = server.config("openai");
        config.base_url = Some(base_url);
        let provider = Registry::builtin().open(config).unwrap();
        let size_bytes = 32 * MIB;
        let source = FileUpload {
            body: Arc::new(Zeroes { size_bytes }),
            ..upload(b"", size_bytes)
        };
        provider.upload_file(source).await.map(drop)
    }
    let error = run(slow_server(1024, None).await).await.unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::Timeout, Effect::None),
        "{error}"
    );
    assert!(error.message.contains("stalled"), "{error}");
    // More than a second in all, longer than every time-out of the connection, and never still.
    let whole = usize::try_from(32 * MIB).unwrap();
    run(slow_server(256 * 1024, Some(whole)).await).await.unwrap();
}

/// Reads the beginning of an upload of 32 MiB, says `answer`, and hangs up at once or waits.
async fn upload_to_an_impatient_server(answer: &'static str, hang_up: bool) -> ProviderError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.read_exact(&mut vec![0; 256 * 1024]).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            if !hang_up {
                std::future::pending::<()>().await;
            }
        }
    });
    let mut config = Server::start([]).await.config("openai");
    config.base_url = Some(base_url);
    let size_bytes = 32 * MIB;
    let source = FileUpload {
        body: Arc::new(Zeroes { size_bytes }),
        ..upload(b"", size_bytes)
    };
    Registry::builtin()
        .open(config)
        .unwrap()
        .upload_file(source)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn an_upload_cut_off_within_its_body_had_no_effect() {
    let error = upload_to_an_impatient_server("", true).await;
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::Unavailable, Effect::None),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_an_upload_is_heard() {
    let answer = "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    let error = upload_to_an_impatient_server(answer, false).await;
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::TooLarge, Effect::None),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_too_large_is_not_sent() {
    let server = Server::start([]).await;
    for (provider_type, size) in [("openai", 9 * 1024 * MIB), ("sentralix", 513 * MIB)] {
        let provider = server.provider(provider_type);
        let error = provider.upload_file(upload(b"", size)).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (ErrorKind::TooLarge, Effect::None));
        assert!(size > provider.capabilities().max_file_bytes);
    }
    assert_eq!(server.requests().len(), 0);
}
