//! 640 MiB, which go up in parts, and down again, in a process of its own, so that what it takes can be measured.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use rag_providers::{ByteStream, ConnectionConfig, Credentials, FileUpload, Registry, UploadSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SIZE: u64 = 640 * 1024 * 1024;
static PIECE: [u8; 64 * 1024] = [7; 64 * 1024];
const MAX_EXTRA_KIB: u64 = 32 * 1024;

struct Sevens;

#[async_trait]
impl UploadSource for Sevens {
    async fn open(&self, offset: u64) -> io::Result<ByteStream> {
        let pieces = (SIZE - offset).div_ceil(PIECE.len() as u64);
        Ok(stream::iter(0..pieces)
            .map(|_| Ok(Bytes::from_static(&PIECE)))
            .boxed())
    }
}

/// Throws away what comes, and sends what is asked for, piece by piece.
async fn serve(mut socket: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut left: u64 = length.map_or(0, |length| length.trim().parse().expect("a length"));
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            left -= socket.read(&mut buffer[..room]).await? as u64;
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.ends_with("/content") {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            for _ in 0..SIZE / PIECE.len() as u64 {
                socket.write_all(&PIECE).await?;
            }
            continue;
        }
        let body = match path.rsplit('/').next() {
            Some("uploads") => r#"{"id":"upload_1","object":"upload","status":"pending"}"#.to_owned(),
            Some("parts") => r#"{"id":"part_1","object":"upload.part"}"#.to_owned(),
            _ => format!(
                r#"{{"id":"upload_1","object":"upload","status":"completed","file":{{"id":"file-1","object":"file","bytes":{SIZE}}}}}"#
            ),
        };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await?;
    }
}

/// Resident memory: now, and the most it ever was.
fn memory_kib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("the field");
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .expect("a number")
    };
    (field("VmRSS:"), field("VmHWM:"))
}

#[tokio::test]
async fn memory_does_not_grow_with_the_file() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    let mut config = ConnectionConfig::new("openai", "api_key");
    config.base_url = Some(format!("http://{address}/v1"));
    config.credentials = Some(Credentials::api_key("sk-0123456789"));
    config.network.allow_http_loopback = true;
    let provider = Registry::builtin().open(config).expect("a client");
    let (before, _) = memory_kib();

    let upload = FileUpload {
        file_name: "large.bin".to_owned(),
        content_type: None,
        size_bytes: SIZE,
        sha256: None,
        body: Arc::new(Sevens),
    };
    let file = provider.upload_file(upload).await.expect("an upload");
    assert_eq!(file.size_bytes, SIZE);
    let content = provider.file_content(&file.id).await.expect("a download");
    let received = content
        .stream
        .try_fold(0, async |sum, piece| Ok(sum + piece.len() as u64))
        .await;
    assert_eq!(received.expect("the whole file"), SIZE);

    let (_, peak) = memory_kib();
    let extra = peak.saturating_sub(before);
    println!("1 GiB up and down took {extra} KiB");
    assert!(extra < MAX_EXTRA_KIB, "{extra} KiB more than before");
}
