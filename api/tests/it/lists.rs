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
    let hash = api.upload("other.md", "other text").await["sha256"].to_string();
    let hash = hash.trim_matches('"');
    let (by_hash, by_upper_hash) = (
        format!("sha256={hash}"),
        format!("sha256={}", hash.to_uppercase()),
    );
    for (query, expected) in [
        ("name=REPORT", vec!["report_2026.txt", "Report 2025.txt"]),
        ("name=%25", vec!["100%.txt"]),
        ("name=_", vec!["report_2026.txt"]),
        ("name=отчёт", vec!["ОТЧЁТ.txt"]),
        ("tag=contract", vec!["report_2026.txt", "100%.txt"]),
        ("tag=contrac", vec![]),
        ("tag=a%22b", vec!["Report 2025.txt"]),
        ("tag=contract&name=report", vec!["report_2026.txt"]),
        (&by_hash, vec!["other.md"]),
        (&by_upper_hash, vec!["other.md"]),
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
    for wrong in ["files?nam=x", "files?sha256=abc", "indexes?indexing_status=ready"] {
        let answer = api.get(&format!("/api/v1/{wrong}")).await;
        answer.expect_problem(400, "malformed-request");
    }

    api.make_index().await;
    assert_eq!(names(&api, "indexes?name=TRACT", "name").await, ["Contracts"]);
    assert!(names(&api, "indexes?name=letters", "name").await.is_empty());
    let standing =
        async |status: &str| names(&api, &format!("indexes?indexing_status={status}"), "name").await;
    assert_eq!(standing("not_indexed").await, ["Contracts"]);
    assert!(standing("done").await.is_empty());
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

/// Rows as another version, or somebody's hand, may write them.
#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_unreadable_job_is_listed_as_far_as_it_can_be_read(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let nested = format!("'{}1{}'", "[".repeat(300), "]".repeat(300));
    let damages = [
        ("payload", "'{'".to_owned()),
        (
            "history",
            r#"'[{"ended":"vanished","ended_at":"2026-01-01T00:00:00Z"}]'"#.to_owned(),
        ),
        ("output", nested),
        ("state", "'hibernating'".to_owned()),
        ("created_at", "'0000-00-00 00:00:00'".to_owned()),
    ];
    let mut jobs = Vec::new();
    for _ in 0..=damages.len() {
        let build = format!("/api/v1/indexes/{}/build", api.make_index().await);
        jobs.push(id(&api.call("POST", &build).send().await.expect(202)));
    }
    for ((column, value), job) in damages.iter().zip(&jobs) {
        let sql = format!(
            "SET STATEMENT sql_mode = '' FOR UPDATE queue_jobs SET {column} = {value} WHERE id = UNHEX(REPLACE(?, '-', ''))"
        );
        let changed = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(job)
            .execute(&api.db)
            .await;
        assert_eq!(changed.unwrap().rows_affected(), 1, "{column}");
    }
    let mut listed = Vec::new();
    let mut path = "/api/v1/jobs?limit=2".to_owned();
    loop {
        let page = api.get(&path).await.expect(200);
        listed.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/v1/jobs?limit=2&cursor={cursor}");
    }
    listed.reverse();
    assert_eq!(listed.iter().map(id).collect::<Vec<_>>(), jobs);
    for (job, damage) in listed.iter().zip(damages.iter().map(Some).chain([None])) {
        let unreadable: Vec<&str> = damage.iter().map(|(column, _)| *column).collect();
        assert_eq!(job["unreadable"], serde_json::json!(unreadable), "{job}");
        assert_eq!(job["kind"], "index_build", "what can be read is shown: {job}");
        let state = if unreadable == ["state"] {
            "unknown"
        } else {
            "ready"
        };
        assert_eq!(job["state"], state);
        assert!(job["created_at"].as_str().unwrap() > "2026", "{job}");
        assert_eq!(job["index_id"].is_string(), unreadable != ["payload"], "{job}");
        let path = format!("/api/v1/jobs/{}", id(job));
        let alone = api.get(&path).await.expect(200);
        assert_eq!(alone["unreadable"], job["unreadable"]);
        let elsewhere = api.call("GET", &path).domain("tenant-2").send().await;
        elsewhere.expect_problem(404, "not-found");
    }
}
