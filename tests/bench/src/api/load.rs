//! Callers that ask the same thing as fast as it is answered. They speak HTTP/1.1 by hand, because on a small machine a
//! client that thinks much would be most of what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that is kept, and what is sent on it.
pub(crate) struct Caller {
    connection: TcpStream,
    request: String,
    buffer: Vec<u8>,
}

impl Caller {
    pub(crate) async fn connect(address: &str, path: &str, headers: &str) -> Result<Self> {
        let connection = TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        Ok(Self {
            connection,
            request: format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n"),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Asks for so long; answers how long each answer took.
    pub(crate) async fn ask(&mut self, time: Duration) -> Result<Vec<Duration>> {
        let began = Instant::now();
        let mut took = Vec::new();
        while began.elapsed() < time {
            let asked = Instant::now();
            self.once().await?;
            took.push(asked.elapsed());
        }
        Ok(took)
    }

    async fn once(&mut self) -> Result<()> {
        self.connection.write_all(self.request.as_bytes()).await?;
        let mut filled = 0;
        loop {
            let read = self.connection.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the server has closed the connection");
            filled += read;
            if let Some(length) = whole_length(&self.buffer[..filled])? {
                ensure!(filled <= length, "more than one answer");
                if filled == length {
                    return Ok(());
                }
            }
        }
    }
}

/// Of head and body, once the head is there.
fn whole_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "not answered with 200: {head}");
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("no Content-Length")?;
    Ok(Some(end + 4 + length.1.trim().parse::<usize>()?))
}

/// The middle one; the slice is sorted.
pub(crate) fn median<T: Copy + PartialOrd>(values: &mut [T]) -> Option<T> {
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}
