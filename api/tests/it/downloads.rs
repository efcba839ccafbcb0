//! Downloads beside what changes or removes the contents.

use futures::future::join_all;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::MySqlPool;

use crate::harness::{Answer, Api, id};

const FILES: &str = "/api/v1/files";
const VERSIONS: usize = 60;
const READERS: usize = 6;

/// One version, and all of it.
fn assert_whole(answer: &Answer) {
    answer.expect_bytes(200);
    let hash = hex::encode(Sha256::digest(&answer.bytes));
    assert_eq!(answer.headers["etag"].to_str().unwrap(), format!("\"{hash}\""));
    assert_eq!(
        answer.headers["content-length"].to_str().unwrap(),
        answer.bytes.len().to_string()
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_download_beside_replacements_is_one_version_as_a_whole(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let path = format!("{FILES}/{}", id(&api.upload("a.txt", "0").await));
    let replacing = async {
        for version in 1..=VERSIONS {
            // Of a length of its own.
            let contents = "x".repeat(version * 1000);
            let call = api.call("PUT", &format!("{path}/content"));
            call.body(contents).send().await.expect(200);
        }
    };
    let download = format!("{path}/download");
    let (api, download) = (&api, download.as_str());
    let reading = async move {
        let mut answers = Vec::new();
        loop {
            answers.clear();
            answers.extend(join_all((0..READERS).map(|_| api.get(download))).await);
            answers.iter().for_each(assert_whole);
            if answers.iter().any(|answer| answer.bytes.len() == VERSIONS * 1000) {
                break;
            }
        }
    };
    tokio::join!(replacing, reading);
    assert_eq!(api.stored().len(), 1);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_download_beside_a_deletion_is_whole_or_not_found(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let mut found = 0;
    for _ in 0..80 {
        let path = format!("{FILES}/{}", id(&api.upload("a.txt", "contents").await));
        let deleting = async { api.call("DELETE", &path).send().await.expect(204) };
        let download = format!("{path}/download");
        // Each asks again and again, until the file is gone.
        let reading = (0..READERS).map(async |_| {
            let mut found = 0;
            loop {
                let answer = api.get(&download).await;
                if answer.status == 404 {
                    answer.expect_problem(404, "not-found");
                    break found;
                }
                assert_whole(&answer);
                found += 1;
            }
        });
        let (_, whole) = tokio::join!(deleting, join_all(reading));
        found += whole.iter().sum::<usize>();
    }
    assert!(found > 0, "some came before the deletion");
    assert_eq!(api.stored().len(), 0);
}

/// A row whose contents are gone is no race: nobody has changed it, and somebody must hear of it.
#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn contents_that_are_lost_are_an_error(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let file = api.upload("a.txt", "contents").await;
    for path in api.stored() {
        std::fs::remove_file(path).unwrap();
    }
    let answer = api.get(&format!("{FILES}/{}/download", id(&file))).await;
    let problem = answer.expect_problem(500, "internal-error");
    assert_ne!(problem["detail"], json!(null));
}
