//! Lists by name and tag, and parts of files.

use serde_json::Value;
use sqlx::MySqlPool;

use crate::harness::{Api, id};

async fn names(api: &Api, query: &str, field: &str) -> Vec<String> {
    let body = api.get(&format!("/api/v1/{query}")).await.expect(200);
    let items = body["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item[field].as_str().unwrap().to_owned())
        .collect()
}

async fn tagged(api: &Api, name: &str, tags: &str) -> Value {
    let parts = [("file", Some(name), "text"), ("tags", None, tags)];
    let answer = api.call("POST", "/api/v1/files").form(&parts).send().await;
    answer.expect(201)
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn lists_are_filtered_page_by_page(pool: MySqlPool) {
    let api = Api::new(pool).await;
    tagged(&api, "Report 2025.txt", r#"["old", "a\"b"]"#).await;
    tagged(&api, "100%.txt", r#"["contract"]"#).await;
    tagged(&api, "report_2026.txt", r#"["contract"]"#).await;
    api.upload("ОТЧЁТ.txt", "text").await;
    for (query, expected) in [
        ("name=REPORT", vec!["report_2026.txt", "Report 2025.txt"]),
        ("name=%25", vec!["100%.txt"]),
        ("name=_", vec!["report_2026.txt"]),
        ("name=отчёт", vec!["ОТЧЁТ.txt"]),
        ("tag=contract", vec!["report_2026.txt", "100%.txt"]),
        ("tag=contrac", vec![]),
        ("tag=a%22b", vec!["Report 2025.txt"]),
        ("tag=contract&name=report", vec!["report_2026.txt"]),
    ] {
        assert_eq!(
            names(&api, &format!("files?{query}"), "file_name").await,
            expected,
            "{query}"
        );
    }
    let page = api.get("/api/v1/files?tag=contract&limit=1").await.expect(200);
    let next = page["next_cursor"].as_str().unwrap();
    let next = names(
        &api,
        &format!("files?tag=contract&limit=1&cursor={next}"),
        "file_name",
    )
    .await;
    assert_eq!(next, ["100%.txt"]);
    api.get("/api/v1/files?nam=x")
        .await
        .expect_problem(400, "malformed-request");

    api.make_index().await;
    assert_eq!(names(&api, "indexes?name=TRACT", "name").await, ["Contracts"]);
    assert!(names(&api, "indexes?name=letters", "name").await.is_empty());
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_part_of_a_file_is_downloaded(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let file = api.upload("a.txt", "0123456789").await;
    let path = format!("/api/v1/files/{}/download", id(&file));
    let part = api.call("GET", &path).header("range", "bytes=2-4").send().await;
    assert_eq!((part.status.as_u16(), &part.bytes[..]), (206, &b"234"[..]));
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
    assert_eq!(part.headers["content-length"], "3");
    let etag = part.headers["etag"].to_str().unwrap().to_owned();

    let whole = api.get(&path).await;
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    assert_eq!((whole.status.as_u16(), whole.bytes.len()), (200, 10));
    let behind = api.call("GET", &path).header("range", "bytes=10-").send().await;
    behind.expect_problem(416, "range-not-satisfiable");
    assert_eq!(behind.headers["content-range"], "bytes */10");

    let resumed = |etag: String| {
        let call = api.call("GET", &path).header("range", "bytes=8-");
        call.header("if-range", &etag).send()
    };
    assert_eq!(&resumed(etag.clone()).await.bytes[..], b"89");
    let content = format!("/api/v1/files/{}/content", id(&file));
    let replaced = api.call("PUT", &content).body("abcdefghijkl").send().await;
    replaced.expect(200);
    let resumed = resumed(etag).await;
    assert_eq!(
        (resumed.status.as_u16(), &resumed.bytes[..]),
        (200, &b"abcdefghijkl"[..])
    );
}
