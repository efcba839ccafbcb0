//! The yandex profile: its quirks, and tokens for service accounts.

use crate::support::{Client, fixed, read, until, with};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rag_emulator::{Emulator, Options, Profile};
use reqwest::{Method, multipart};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PSS_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

async fn yandex() -> Client {
    with(Emulator::builder().profile(Profile::Yandex).indexing(1, 0.0)).await
}

/// Waits by listing, as single store files are hidden while they are indexed.
async fn indexed(client: &Client, store: &str) {
    until("the files to be indexed", async || {
        let list = client
            .get(&format!("/vector_stores/{store}/files?filter=in_progress"))
            .await;
        list["data"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn objects_have_other_ids_and_more_fields() {
    let client = yandex().await;
    let file = client.upload("a.txt", "text").await;
    let store = client.store().await;
    assert!(file.starts_with("fvt") && file.len() == 20 && store.starts_with("fvt"));
    assert_eq!(client.get(&format!("/files/{file}")).await["valid"], true);
    let bad = client.upload("bad.pdf", "%PDF").await;
    client
        .post(
            &format!("/vector_stores/{store}/files"),
            json!({ "file_id": bad }),
        )
        .await;
    indexed(&client, &store).await;
    assert_eq!(
        client.get(&format!("/vector_stores/{store}")).await["status"],
        "failed"
    );
}

#[tokio::test]
async fn attaching_has_its_quirks() {
    let client = yandex().await;
    client.hold_indexing("attaching");
    let (store, file) = (client.store().await, client.upload("a.txt", "text").await);
    let files = format!("/vector_stores/{store}/files");
    let with_strategy = json!({ "file_id": file, "chunking_strategy": fixed(100, 0) });
    assert_eq!(
        client.call(Method::POST, &files, Some(with_strategy)).await.0,
        500
    );
    client.post(&files, json!({ "file_id": file })).await;
    let (status, error) = client
        .call(Method::POST, &files, Some(json!({ "file_id": file })))
        .await;
    assert_eq!(status, 400);
    assert_eq!(
        error["message"],
        format!("Files with ids [{file}] have already been created")
    );
    assert_eq!(
        client.call(Method::GET, &format!("{files}/{file}"), None).await.0,
        404
    );
    client.open_gate("attaching");
    indexed(&client, &store).await;
    assert_eq!(
        client.get(&format!("{files}/{file}")).await["status"],
        "completed"
    );
}

#[tokio::test]
async fn only_ten_operations_and_a_hundred_files() {
    let client = yandex().await;
    client.hold_indexing("attaching");
    let store = client.store().await;
    let files = format!("/vector_stores/{store}/files");
    let mut last = 0;
    for n in 0..11 {
        let file = client.upload(&format!("{n}.txt"), "text").await;
        last = client
            .call(Method::POST, &files, Some(json!({ "file_id": file })))
            .await
            .0;
        assert_eq!(last == 200, n < 10, "operation {n}: {last}");
    }
    assert_eq!(last, 429);
    let many: Vec<String> = (0..101).map(|n| format!("fvt{n}")).collect();
    let body = Some(json!({ "file_ids": many }));
    assert_eq!(
        client
            .call(
                Method::POST,
                &format!("/vector_stores/{store}/file_batches"),
                body
            )
            .await
            .0,
        400
    );
    client.open_gate("attaching");
    indexed(&client, &store).await;
    let file = client.upload("later.txt", "text").await;
    client.post(&files, json!({ "file_id": file })).await;
}

#[tokio::test]
async fn what_it_does_not_have_or_take() {
    let mut client = yandex().await;
    client.set_authorization("Api-Key secret");
    let file = client.upload("a.txt", "text").await;
    let content = client
        .request(Method::GET, &format!("/files/{file}/content"))
        .send()
        .await
        .unwrap();
    assert_eq!(content.status(), 404);
    assert!(content.headers().contains_key("x-server-trace-id"));
    assert_eq!(content.text().await.unwrap(), "");
    let upload = json!({ "filename": "a", "purpose": "assistants", "bytes": 1, "mime_type": "text/plain" });
    assert_eq!(client.call(Method::POST, "/uploads", Some(upload)).await.0, 404);
    let store = client.store().await;
    let cancel = format!("/vector_stores/{store}/file_batches/x/cancel");
    assert_eq!(client.call(Method::POST, &cancel, None).await.0, 404);
    let part = multipart::Part::bytes(b"text".to_vec()).file_name("a.txt");
    let part = part.mime_str("application/octet-stream").unwrap();
    let form = multipart::Form::new()
        .text("purpose", "assistants")
        .part("file", part);
    let (status, error) = read(
        client
            .request(Method::POST, "/files")
            .multipart(form)
            .send()
            .await
            .unwrap(),
    )
    .await;
    // Errors have the shape of a gRPC status.
    assert_eq!((status, &error["code"]), (400, &json!(3)), "{error}");
    assert!(error["details"][0]["requestId"].is_string());
}

fn jwt(claims: &Value, header: &Value) -> String {
    let pem = include_str!("iam_test_key.pem");
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(der).unwrap()).unwrap();
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PSS_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

async fn with_tokens(token_seconds: u64) -> Client {
    let options = Options {
        profile: Profile::Yandex,
        iam_public_key: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/iam_test_key.pub.pem")),
        iam_key_id: Some("key-1".to_owned()),
        iam_service_account_id: Some("account-1".to_owned()),
        iam_token_seconds: token_seconds,
        ..Options::default()
    };
    with(Emulator::builder().options(options)).await
}

async fn exchange(client: &Client, jwt: &str) -> (u16, Value) {
    let url = format!("{}/iam/v1/tokens", client.emulator.origin());
    read(
        client
            .http
            .post(url)
            .json(&json!({ "jwt": jwt }))
            .send()
            .await
            .unwrap(),
    )
    .await
}

fn claims(now: i64) -> Value {
    let audience = "https://iam.api.cloud.yandex.net/iam/v1/tokens";
    json!({ "iss": "account-1", "aud": audience, "iat": now, "exp": now + 3600 })
}

#[tokio::test]
async fn a_signed_jwt_buys_a_token_that_ends() {
    let mut client = with_tokens(2).await;
    assert_eq!(client.call(Method::GET, "/models", None).await.0, 401);
    let header = json!({ "typ": "JWT", "alg": "PS256", "kid": "key-1" });
    let (status, answer) = exchange(&client, &jwt(&claims(chrono::Utc::now().timestamp()), &header)).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["iamToken"].as_str().unwrap();
    assert!(token.starts_with("t1.") && token.rsplit('.').next().unwrap().len() == 86);
    assert!(answer["expiresAt"].as_str().unwrap().ends_with('Z'));
    client.set_authorization(&format!("Bearer {token}"));
    client.get("/models").await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(client.call(Method::GET, "/models", None).await.0, 401);

    let (_, answer) = exchange(&client, &jwt(&claims(chrono::Utc::now().timestamp()), &header)).await;
    client.set_authorization(&format!("Bearer {}", answer["iamToken"].as_str().unwrap()));
    client.get("/models").await;
    client.emulator.control().revoke_tokens();
    assert_eq!(client.call(Method::GET, "/models", None).await.0, 401);
}

#[tokio::test]
async fn a_wrong_jwt_buys_nothing() {
    let client = with_tokens(100).await;
    let now = chrono::Utc::now().timestamp();
    let header = json!({ "typ": "JWT", "alg": "PS256", "kid": "key-1" });
    let changed = |key: &str, value: Value| {
        let mut claims = claims(now);
        claims[key] = value;
        jwt(&claims, &header)
    };
    let good = jwt(&claims(now), &header);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut flipped: Vec<u8> = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[10] ^= 1;
    for (what, wrong) in [
        ("account", changed("iss", json!("account-2"))),
        ("audience", changed("aud", json!("https://example.org"))),
        ("expired", changed("exp", json!(now - 1))),
        ("too long", changed("exp", json!(now + 3601))),
        ("future", changed("iat", json!(now + 600))),
        (
            "key id",
            jwt(&claims(now), &json!({ "alg": "PS256", "kid": "key-2" })),
        ),
        (
            "algorithm",
            jwt(&claims(now), &json!({ "alg": "RS256", "kid": "key-1" })),
        ),
        (
            "signature",
            format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(flipped)),
        ),
        ("nonsense", "nonsense".to_owned()),
    ] {
        assert_eq!(exchange(&client, &wrong).await.0, 401, "{what}");
    }
    assert_eq!(exchange(&client, &good).await.0, 200);
}
