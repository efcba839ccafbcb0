//! A server that answers what it was told to, in order, and remembers what it was asked. Plain TCP, so that it can break off,
//! drip and lie as no HTTP library would.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rag_providers::{ConnectionConfig, Credentials, Provider, Registry};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const KEY: &str = "sk-c4n4ry-0123456789abcdef";

/// What the server does once it has read a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A whole answer, and on with the connection.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// These bytes, and the connection is closed.
    Raw(Vec<u8>),
    /// The first bytes at once, the others one at a time with a pause before each.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// Nothing, for ever.
    Silence,
    /// A whole answer without a word about closing, and the connection is closed all the same.
    AnswerAndClose(u16, String),
}

pub(crate) fn json(body: &Value) -> Reply {
    status(200, body)
}

pub(crate) fn status(status: u16, body: &Value) -> Reply {
    text(status, &body.to_string())
}

pub(crate) fn text(status: u16, body: &str) -> Reply {
    Reply::Answer {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

impl Reply {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// When the replies run out, the server answers 500 with a complaint.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        rag_canary::watch_logs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            replies: Arc::new(Mutex::new(replies.into_iter().collect())),
            requests: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move { server.serve(socket).await });
            }
        });
        server
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// `METHOD /path?query` of every request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn config(&self, provider_type: &str) -> ConnectionConfig {
        let mut config = ConnectionConfig::new(provider_type, "api_key");
        config.base_url = Some(self.base_url());
        config.credentials = Some(Credentials::api_key(KEY));
        config.network.allow_http_loopback = true;
        config.timeouts.connect = Duration::from_millis(500);
        config.timeouts.per_try = Duration::from_millis(500);
        config.timeouts.whole_call = Duration::from_secs(3);
        config.timeouts.stall = Duration::from_millis(400);
        config.timeouts.upload_answer = Duration::from_millis(500);
        config
    }

    pub(crate) fn provider(&self, provider_type: &str) -> Arc<dyn Provider> {
        Registry::builtin().open(self.config(provider_type)).unwrap()
    }

    async fn serve(&self, mut socket: TcpStream) {
        while let Some(request) = read_request(&mut socket).await {
            self.requests.lock().unwrap().push(request);
            let reply = self.replies.lock().unwrap().pop_front();
            let reply = reply.unwrap_or_else(|| text(500, "the test has no more replies"));
            match reply {
                Reply::Answer {
                    status,
                    headers,
                    body,
                } => {
                    let mut answer = head(status, body.len());
                    for (name, value) in headers {
                        answer.extend([name, ": ", &value, "\r\n"]);
                    }
                    answer.push_str("\r\n");
                    let mut answer = answer.into_bytes();
                    answer.extend(body);
                    if socket.write_all(&answer).await.is_err() {
                        return;
                    }
                }
                Reply::Raw(bytes) => {
                    let _ = socket.write_all(&bytes).await;
                    let _ = socket.shutdown().await;
                    return;
                }
                Reply::Drip(first, bytes, pause) => {
                    let _ = socket.write_all(&first).await;
                    for byte in bytes {
                        tokio::time::sleep(pause).await;
                        if socket.write_all(&[byte]).await.is_err() {
                            return;
                        }
                    }
                }
                Reply::Silence => std::future::pending().await,
                Reply::AnswerAndClose(status, body) => {
                    let answer = format!("{}\r\n{body}", head(status, body.len()));
                    let _ = socket.write_all(answer.as_bytes()).await;
                    return;
                }
            }
        }
    }
}

fn head(status: u16, length: usize) -> String {
    format!("HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n")
}

async fn read_request(socket: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut first = head.split_whitespace();
    let mut request = Request {
        method: first.next()?.to_owned(),
        path: first.next()?.trim_start_matches("/v1").to_owned(),
        ..Request::default()
    };
    request.head = head;
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    socket.read_exact(&mut request.body).await.ok()?;
    Some(request)
}
