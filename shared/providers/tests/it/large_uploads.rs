//! Uploads in parts.

use std::sync::Arc;
use std::time::Duration;

use rag_providers::{Effect, ErrorKind, FileUpload, Registry};
use serde_json::{Value, json};

use crate::server::{Reply, Server, json, status};
use crate::uploads::{MIB, Zeroes, file, upload};

fn part(id: &str) -> Reply {
    json(&json!({"id": id, "object": "upload.part", "created_at": 1, "upload_id": "upload_1"}))
}

fn opened(status: &str, file: &Value) -> Reply {
    json(&json!({"id": "upload_1", "object": "upload", "status": status, "file": file}))
}

fn large() -> FileUpload {
    let size_bytes = 513 * MIB;
    FileUpload {
        body: Arc::new(Zeroes { size_bytes }),
        ..upload(b"", size_bytes)
    }
}

#[tokio::test]
async fn a_large_file_goes_up_in_parts() {
    let parts: Vec<String> = (0..9).map(|number| format!("part_{number}")).collect();
    let mut replies = vec![opened("pending", &Value::Null)];
    replies.extend(parts.iter().map(|id| part(id)));
    // A part may be sent again: the third fails at first.
    replies.insert(3, status(503, &json!({})));
    replies.push(opened("completed", &file(513 * MIB)));
    let server = Server::start(replies).await;
    let mut config = server.config("openai");
    config.timeouts.upload_answer = Duration::from_secs(10);
    config.timeouts.stall = Duration::from_secs(10);
    let uploaded = Registry::builtin()
        .open(config)
        .unwrap()
        .upload_file(large())
        .await
        .unwrap();
    assert_eq!(uploaded.id, "file-1");
    let requests = server.requests();
    assert_eq!(requests[0].json()["bytes"], json!(513 * MIB));
    let sizes: Vec<u64> = requests[1..11]
        .iter()
        .map(|request| request.body.len() as u64 / MIB)
        .collect();
    assert_eq!(sizes, [64, 64, 64, 64, 64, 64, 64, 64, 64, 1]);
    assert_eq!(requests[11].path, "/uploads/upload_1/complete");
    assert_eq!(requests[11].json(), json!({"part_ids": parts}));
}

#[tokio::test]
async fn a_large_upload_that_fails_is_cancelled_and_without_effect() {
    let refused = status(400, &json!({"error": {"message": "no", "code": "bad"}}));
    let server = Server::start([
        opened("pending", &Value::Null),
        refused,
        opened("cancelled", &Value::Null),
    ])
    .await;
    let mut config = server.config("openai");
    config.timeouts.upload_answer = Duration::from_secs(10);
    config.timeouts.stall = Duration::from_secs(10);
    let error = Registry::builtin()
        .open(config)
        .unwrap()
        .upload_file(large())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.effect),
        (ErrorKind::InvalidRequest, Effect::None),
        "{error}"
    );
    assert_eq!(server.lines()[2], "POST /uploads/upload_1/cancel");
}
