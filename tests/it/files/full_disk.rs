//! No room for a file: the caller is told so, and nothing of the file stays.

use rag_tests::Stack;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Response};
use serde_json::Value;

/// More than the API's largest file of 1 MiB (2 MiB where a shell counts in kibibytes).
const LARGE: usize = 4 << 20;
const SMALL: usize = 100_000;

async fn problem(answer: Response) -> (u16, String, Value) {
    let status = answer.status().as_u16();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (status, kind, answer.json().await.unwrap())
}

async fn upload(stack: &Stack, bytes: usize) -> Response {
    let part = Part::bytes(vec![b'x'; bytes]).file_name("a.txt");
    let request = stack.client.request(Method::POST, "/files");
    request
        .multipart(Form::new().part("file", part))
        .send()
        .await
        .unwrap()
}

/// The limit for one file of a process is one that every system has, and that needs no rights: writing beyond it fails (EFBIG)
/// as it does on a full disk (ENOSPC, which `rag-files` tests against `/dev/full`).
#[tokio::test]
async fn what_does_not_fit_is_answered_507_and_leaves_nothing() {
    let stack = Stack::builder()
        // The signal (SIGXFSZ) would end the process.
        .before_api("trap '' 25 && ulimit -f 2048")
        .start()
        .await;
    let expect = async |answer: Response, what: &str| {
        let (status, kind, body) = problem(answer).await;
        assert_eq!(
            (status, kind.as_str()),
            (507, "application/problem+json"),
            "{what}: {body}"
        );
        assert_eq!(body["type"], "insufficient-storage", "{body}");
        assert!(
            !body.to_string().contains("files/"),
            "paths are nobody's business: {body}"
        );
    };
    expect(upload(&stack, LARGE).await, "an upload").await;
    assert_eq!(stack.stored_files(), 0);

    let kept = upload(&stack, SMALL).await;
    assert_eq!(kept.status(), 201);
    let file: Value = kept.json().await.unwrap();
    let path = format!("/files/{}", file["id"].as_str().unwrap());
    let request = stack.client.request(Method::PUT, &format!("{path}/content"));
    let replaced = request.body(vec![b'y'; LARGE]).send().await.unwrap();
    expect(replaced, "a replacement").await;
    assert_eq!(stack.stored_files(), 1, "what was there stays");
    let request = stack.client.request(Method::GET, &format!("{path}/download"));
    let bytes = request.send().await.unwrap().bytes().await.unwrap();
    assert_eq!((bytes.len(), bytes[0]), (SMALL, b'x'));
}
