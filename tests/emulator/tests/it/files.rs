//! Files and uploads.

use crate::support::{Client, ok, read, start, with};
use rag_emulator::{Emulator, Options};
use reqwest::{Method, multipart};
use serde_json::json;

#[tokio::test]
async fn a_file_keeps_its_bytes_and_tells_its_sha256() {
    let client = with(Emulator::builder().allow_content()).await;
    // Two sizes: one stays in memory, one goes to disk.
    for size in [100, 300_000] {
        let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let file = client.upload("data.txt", bytes.clone()).await;
        let shown = client.get(&format!("/files/{file}")).await;
        assert_eq!(
            (shown["bytes"].as_u64(), &shown["filename"]),
            (Some(size), &json!("data.txt"))
        );
        let known = client.emulator.control().state().files.pop().unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        assert_eq!(*known.sha256, hex::encode(digest));
        let content = client
            .request(Method::GET, &format!("/files/{file}/content"))
            .send()
            .await
            .unwrap();
        assert_eq!(content.bytes().await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn openai_refuses_the_content_of_assistants_files() {
    let client = start().await;
    let file = client.upload("a.txt", "text").await;
    let (status, error) = client
        .refused(Method::GET, &format!("/files/{file}/content"), None)
        .await;
    assert_eq!(
        (status, error["message"].as_str()),
        (400, Some("Not allowed to download files of purpose: assistants"))
    );
}

#[tokio::test]
async fn mistakes_in_a_form_are_refused_and_leave_nothing() {
    let client = with(Emulator::builder().options(Options {
        max_file_bytes: Some(1000),
        ..Options::default()
    }))
    .await;
    let part = |bytes: usize| multipart::Part::bytes(vec![b'x'; bytes]).file_name("a.txt");
    let forms = [
        (400, multipart::Form::new().part("file", part(10))),
        (400, multipart::Form::new().text("purpose", "assistants")),
        (
            400,
            multipart::Form::new()
                .text("purpose", "nonsense")
                .part("file", part(10)),
        ),
        (
            400,
            multipart::Form::new()
                .text("purpose", "assistants")
                .text("colour", "red")
                .part("file", part(10)),
        ),
        (
            400,
            multipart::Form::new()
                .text("purpose", "assistants")
                .part("file", multipart::Part::bytes(vec![1])),
        ),
        (
            413,
            multipart::Form::new()
                .text("purpose", "assistants")
                .part("file", part(1001)),
        ),
    ];
    for (expected, form) in forms {
        let response = client
            .request(Method::POST, "/files")
            .multipart(form)
            .send()
            .await
            .unwrap();
        let (status, body) = read(response).await;
        assert_eq!(status, expected, "{body}");
        assert!(body["error"]["message"].is_string());
    }
    assert!(client.emulator.control().state().files.is_empty());
}

#[tokio::test]
async fn keys_are_checked_and_every_answer_has_a_request_id() {
    let mut client = with(Emulator::builder().api_key("right")).await;
    for key in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic right",
        "Api-Key right",
    ] {
        client.set_authorization(key);
        let response = client.request(Method::GET, "/models").send().await.unwrap();
        assert_eq!(response.status(), 401, "{key}");
        assert!(
            response.headers()["x-request-id"]
                .to_str()
                .unwrap()
                .starts_with("req_")
        );
        assert_eq!(read(response).await.1["error"]["code"], "invalid_api_key");
    }
    client.set_authorization("Bearer right");
    assert_eq!(client.get("/models").await["object"], "list");
    let (status, error) = client.refused(Method::GET, "/nonsense", None).await;
    assert_eq!((status, &error["type"]), (404, &json!("invalid_request_error")));
    assert_eq!(client.refused(Method::PUT, "/files", None).await.0, 405);
}

async fn part(client: &Client, upload: &str, bytes: &[u8]) -> String {
    let form = multipart::Form::new().part("data", multipart::Part::bytes(bytes.to_vec()).file_name("part"));
    let path = format!("/uploads/{upload}/parts");
    let response = client
        .request(Method::POST, &path)
        .multipart(form)
        .send()
        .await
        .unwrap();
    ok(read(response).await)["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn parts_are_joined_in_the_order_asked_for() {
    let client = with(Emulator::builder().allow_content()).await;
    let new =
        json!({ "filename": "big.txt", "purpose": "assistants", "bytes": 10, "mime_type": "text/plain" });
    let upload = client.post("/uploads", new).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (second, first) = (
        part(&client, &upload, b"WORLD").await,
        part(&client, &upload, b"HELLO").await,
    );
    let complete = format!("/uploads/{upload}/complete");
    for wrong in [
        json!([first]),
        json!([first, "part_nope"]),
        json!([first, second, second]),
    ] {
        assert_eq!(
            client
                .refused_post(&complete, json!({ "part_ids": wrong }))
                .await
                .0,
            400
        );
    }
    let done = client
        .post(&complete, json!({ "part_ids": [first, second] }))
        .await;
    assert_eq!(
        (&done["status"], &done["file"]["bytes"]),
        (&json!("completed"), &json!(10))
    );
    let path = format!("/files/{}/content", done["file"]["id"].as_str().unwrap());
    let content = client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(content.text().await.unwrap(), "HELLOWORLD");
    assert_eq!(
        client
            .refused_post(&complete, json!({ "part_ids": [first, second] }))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn stopping_frees_the_port() {
    let client = start().await;
    let url = client.emulator.url();
    client.get("/models").await;
    client.emulator.stop().await;
    assert!(
        client
            .http
            .get(format!("{url}/models"))
            .send()
            .await
            .unwrap_err()
            .is_connect()
    );
}
