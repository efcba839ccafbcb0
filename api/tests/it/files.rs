//! R-B1: upload, list, change, replace, download, delete; and that what is refused leaves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use sqlx::MySqlPool;

use crate::harness::{Api, id};

const FILES: &str = "/api/v1/files";

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_uploaded_file_comes_back_as_it_was(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let strategy =
        json!({"type": "static", "static": {"max_chunk_size_tokens": 400, "chunk_overlap_tokens": 100}});
    let answer = api
        .call("POST", FILES)
        .form(&[
            ("notes", None, "first draft"),
            ("file", Some("отчёт.md"), "# Hello"),
            ("tags", None, r#"["a","b"]"#),
            ("chunking_strategy", None, &strategy.to_string()),
        ])
        .send()
        .await;
    let file = answer.expect(201);
    assert_eq!(answer.headers["location"], format!("{FILES}/{}", id(&file)));
    assert_eq!(file["file_name"], "отчёт.md");
    assert_eq!(file["file_type"], "text/markdown");
    assert_eq!(file["size_bytes"], 7);
    assert_eq!(file["tags"], json!(["a", "b"]));
    assert_eq!(file["notes"], "first draft");
    assert_eq!(file["chunking_strategy"], strategy);
    assert!(
        file.get("local_path").is_none(),
        "paths of this machine are nobody's business"
    );

    let path = format!("{FILES}/{}", id(&file));
    assert_eq!(api.get(&path).await.expect(200), file);
    let download = api.get(&format!("{path}/download")).await;
    assert_eq!(download.bytes.as_ref(), b"# Hello");
    assert_eq!(
        download.headers["etag"],
        format!("\"{}\"", file["sha256"].as_str().unwrap())
    );
    assert_eq!(download.headers["content-length"], "7");
    let disposition = download.headers["content-disposition"].to_str().unwrap();
    assert!(
        disposition.ends_with("filename*=UTF-8''%D0%BE%D1%82%D1%87%D1%91%D1%82.md"),
        "{disposition}"
    );
    let etag = download.headers["etag"].to_str().unwrap().to_owned();
    let again = api
        .call("GET", &format!("{path}/download"))
        .header("if-none-match", &etag)
        .send()
        .await;
    assert_eq!((again.status.as_u16(), again.bytes.len()), (304, 0));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn refused_uploads_leave_nothing(pool: MySqlPool) {
    let api = Api::new(pool).await;
    for name in ["../../etc/passwd", "/etc/passwd", "..", "a/b.txt", ""] {
        let answer = api
            .call("POST", FILES)
            .form(&[("file", Some(name), "x")])
            .send()
            .await;
        answer.expect_problem(422, "validation-failed");
        assert_eq!(answer.fields(), ["file"], "{name:?}");
    }
    let large = "x".repeat(200_001);
    let answer = api
        .call("POST", FILES)
        .form(&[("file", Some("a.txt"), &large)])
        .send()
        .await;
    answer.expect_problem(413, "content-too-large");
    let huge = "x".repeat(400_000);
    let answer = api
        .call("POST", FILES)
        .form(&[("file", Some("a.txt"), &huge)])
        .send()
        .await;
    answer.expect_problem(413, "content-too-large");

    // The file has arrived when the mistake shows.
    let bad_parts: [(&str, &str); 6] = [
        (
            "chunking_strategy",
            r#"{"type":"static","static":{"max_chunk_size_tokens":1,"chunk_overlap_tokens":0}}"#,
        ),
        ("chunking_strategy", "{"),
        ("tags", r#"{"a":1}"#),
        ("tags", r#"[""]"#),
        ("colour", "red"),
        ("notes", "a\0b"),
    ];
    for (name, value) in bad_parts {
        let form = [("file", Some("a.txt"), "x"), (name, None, value)];
        let answer = api.call("POST", FILES).form(&form).send().await;
        answer.expect_problem(422, "validation-failed");
        assert!(answer.fields()[0].starts_with(name), "{:?}", answer.fields());
    }
    let twice = [("file", Some("a.txt"), "x"), ("file", Some("b.txt"), "y")];
    api.call("POST", FILES)
        .form(&twice)
        .send()
        .await
        .expect_problem(422, "validation-failed");
    api.call("POST", FILES)
        .form(&[("notes", None, "x")])
        .send()
        .await
        .expect_problem(422, "validation-failed");

    let cut = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc";
    let form = "multipart/form-data; boundary=XX";
    let answer = api
        .call("POST", FILES)
        .header("content-type", form)
        .body(cut)
        .send()
        .await;
    answer.expect_problem(400, "malformed-request");
    // A control character in a part's header is not even a form.
    let bell = [("file", Some("a\u{7}b"), "x")];
    api.call("POST", FILES)
        .form(&bell)
        .send()
        .await
        .expect_problem(400, "malformed-request");
    let answer = api.call("POST", FILES).json(&json!({})).send().await;
    answer.expect_problem(415, "unsupported-media-type");
    api.call("POST", FILES)
        .without("x-domain-id")
        .form(&[("file", Some("a"), "x")])
        .send()
        .await
        .expect_problem(400, "invalid-domain");

    assert_eq!(api.count("rag_files").await, 0);
    assert_eq!(api.stored(), Vec::<std::path::PathBuf>::new());
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_failed_insert_removes_the_bytes(pool: MySqlPool) {
    let api = Api::new(pool).await;
    sqlx::raw_sql("ALTER TABLE rag_files ADD CONSTRAINT no_rows CHECK (size_bytes > 1000000)")
        .execute(&api.db)
        .await
        .unwrap();
    let answer = api
        .call("POST", FILES)
        .form(&[("file", Some("a.txt"), "x")])
        .send()
        .await;
    let body = answer.expect_problem(500, "internal-error");
    assert!(!body.to_string().contains("no_rows"), "{body}");
    assert_eq!(api.stored().len(), 0);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_stalled_upload_is_given_up(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let start = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc";
    let stalled = futures::stream::iter([Ok::<_, std::io::Error>(start)]);
    let stalled = futures::StreamExt::chain(stalled, futures::stream::pending());
    let answer = api
        .call("POST", FILES)
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(axum::body::Body::from_stream(stalled))
        .send()
        .await;
    answer.expect_problem(408, "request-timeout");
    assert_eq!(api.stored().len(), 0);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn pages_are_complete_and_newest_first(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let mut uploaded = Vec::new();
    for number in 0..5 {
        uploaded.push(id(&api.upload(&format!("{number}.txt"), "x").await));
    }
    uploaded.reverse();
    let mut listed = Vec::new();
    let mut path = format!("{FILES}?limit=2");
    loop {
        let page = api.get(&path).await.expect(200);
        listed.extend(page["items"].as_array().unwrap().iter().map(id));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("{FILES}?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, uploaded);
    let other = api.call("GET", FILES).domain("tenant-2").send().await.expect(200);
    assert_eq!(other["items"], json!([]), "R-7.5");
    for query in ["limit=0", "limit=201", "limit=x", "cursor=x", "sort=name"] {
        api.get(&format!("{FILES}?{query}"))
            .await
            .expect_problem(400, "malformed-request");
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_record_is_patched_field_by_field(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let path = format!("{FILES}/{}", id(&api.upload("a.txt", "x").await));
    let patch = |body: Value| api.call("PATCH", &path).json(&body).send();
    let changed = patch(json!({"tags": ["x"], "notes": "n", "chunking_strategy": {"type": "auto"}}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["tags"], &changed["notes"]),
        (&json!(["x"]), &json!("n"))
    );
    assert_eq!(changed["chunking_strategy"], json!({"type": "auto"}));
    let changed = patch(json!({"notes": null, "file_name": "b.txt"}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["notes"], &changed["file_name"], &changed["tags"]),
        (&json!(null), &json!("b.txt"), &json!(["x"]))
    );
    assert_eq!(
        patch(json!({"chunking_strategy": null})).await.expect(200)["chunking_strategy"],
        json!(null)
    );
    for (body, field) in [
        (json!({"file_name": "../b"}), "file_name"),
        (json!({"tags": [1]}), "tags[0]"),
        (json!({"size_bytes": 1}), "size_bytes"),
        (json!({"chunking_strategy": {"type": "x"}}), "chunking_strategy"),
    ] {
        let answer = patch(body).await;
        answer.expect_problem(422, "validation-failed");
        assert_eq!(answer.fields(), [field]);
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn contents_are_replaced_and_the_old_ones_go(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let file = api.upload("a.md", "old").await;
    let path = format!("{FILES}/{}/content", id(&file));
    let same = api.call("PUT", &path).body("old").send().await.expect(200);
    assert_eq!(same, file, "equal contents change nothing");
    let new = api
        .call("PUT", &path)
        .header("content-type", "text/plain")
        .body("newer")
        .send()
        .await
        .expect(200);
    assert_eq!(
        (&new["size_bytes"], &new["file_name"], &new["file_type"]),
        (&json!(5), &json!("a.md"), &json!("text/markdown"))
    );
    assert_ne!(new["sha256"], file["sha256"]);
    api.call("PUT", &path)
        .send()
        .await
        .expect_problem(422, "validation-failed");
    assert_eq!(api.stored().len(), 1);
    let download = api.get(&format!("{FILES}/{}/download", id(&file))).await;
    assert_eq!(download.bytes.as_ref(), b"newer");

    api.call("PUT", &path)
        .body("x".repeat(200_001))
        .send()
        .await
        .expect_problem(413, "content-too-large");
    api.call("PUT", &path)
        .form(&[("file", Some("a"), "x")])
        .send()
        .await
        .expect_problem(415, "unsupported-media-type");
    api.call("PUT", &path)
        .domain("tenant-2")
        .body("evil")
        .send()
        .await
        .expect_problem(404, "not-found");
    assert_eq!(api.stored().len(), 1);
    assert_eq!(
        api.get(&format!("{FILES}/{}/download", id(&file)))
            .await
            .bytes
            .as_ref(),
        b"newer"
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn only_a_file_that_nothing_needs_is_deleted(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let file = id(&api.upload("a.txt", "x").await);
    let index = api.make_index().await;
    let link = format!("/api/v1/indexes/{index}/files/{file}");
    api.call("POST", &link).send().await.expect(201);
    let path = format!("{FILES}/{file}");
    api.call("DELETE", &path)
        .send()
        .await
        .expect_problem(409, "conflict");
    api.call("DELETE", &link).send().await.expect(204);

    sqlx::query("INSERT INTO rag_provider_file_uploads (id, provider_id, local_file_id, external_file_id, content_sha256, status) VALUES (UUID(), 'openai', ?, 'file-1', '', 'uploaded')")
        .bind(&file)
        .execute(&api.db)
        .await
        .unwrap();
    // A copy has to be deleted first: by a job, and the contents go last.
    let copied = id(&api.upload("b.txt", "y").await);
    sqlx::query("UPDATE rag_provider_file_uploads SET local_file_id = ?")
        .bind(&copied)
        .execute(&api.db)
        .await
        .unwrap();
    let copied = format!("{FILES}/{copied}");
    let answer = api.call("DELETE", &copied).send().await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let job = answer.expect(202);
    assert_eq!(location, format!("/api/v1/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!(
        (&job["kind"], &job["state"]),
        (&json!("file_delete"), &json!("ready"))
    );
    for hidden in [
        &copied,
        &format!("{copied}/download"),
        &format!("{copied}/provider-uploads"),
    ] {
        api.get(hidden).await.expect_problem(404, "not-found");
    }
    api.call("DELETE", &copied)
        .send()
        .await
        .expect_problem(404, "not-found");
    assert_eq!(api.stored().len(), 2);
    sqlx::query("UPDATE rag_provider_file_uploads SET status = 'deleted', local_file_id = ?")
        .bind(&file)
        .execute(&api.db)
        .await
        .unwrap();
    api.call("DELETE", &path)
        .domain("tenant-2")
        .send()
        .await
        .expect_problem(404, "not-found");
    api.call("DELETE", &path).send().await.expect(204);
    api.get(&path).await.expect_problem(404, "not-found");
    assert_eq!(
        (api.stored().len(), api.count("rag_provider_file_uploads").await),
        (1, 1),
        "the record of a copy that was deleted stays"
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_body_with_the_wrong_boundary_is_not_read_into_memory(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    // Slowly, so that the answer comes while it is being sent. What comes after it is thrown away for the connection's sake.
    let pieces = futures::stream::iter(0..190).then(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok::<_, std::io::Error>("x".repeat(1000))
        }
    });
    let answer = api
        .call("POST", FILES)
        .header("content-type", "multipart/form-data; boundary=YY")
        .body(axum::body::Body::from_stream(pieces))
        .send()
        .await;
    let body = answer.expect_problem(400, "malformed-request");
    assert!(body["detail"].as_str().unwrap().contains("boundary"), "{body}");
    assert!(
        sent.load(Ordering::Relaxed) <= 100,
        "{sent:?} pieces of 1000 bytes were read before the answer"
    );
}
