//! a build is one job, whoever asks how often; and its state can be read.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http_body_util::BodyExt as _;
use rag_jobs::{IndexSync, JobLimits, JobSpec as _};
use serde_json::json;
use sqlx::MySqlPool;

use crate::harness::{Api, id};

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn many_builds_at_once_are_one_job(pool: MySqlPool) {
    let api = Arc::new(Api::new(pool).await);
    api.make_connection().await;
    let index = api.make_index().await;
    let path = format!("/api/v1/indexes/{index}/build?recreate=true");
    let calls = (0..40).map(|_| {
        let (api, path) = (Arc::clone(&api), path.clone());
        tokio::spawn(async move {
            let answer = loop {
                let answer = api.call("POST", &path).send().await;
                // A busy machine may have no connection to the database to spare in time.
                if answer.status.as_u16() != 503 {
                    break answer;
                }
            };
            let job = answer.expect(202);
            assert_eq!(answer.headers["location"], format!("/api/v1/jobs/{}", id(&job)));
            id(&job)
        })
    });
    let mut jobs: Vec<String> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    jobs.dedup();
    assert_eq!(jobs.len(), 1);
    assert_eq!(api.count("queue_jobs").await, 1);

    let job = api.get(&format!("/api/v1/jobs/{}", jobs[0])).await.expect(200);
    assert_eq!(job["kind"], "index_build");
    assert_eq!(job["state"], "ready");
    assert_eq!(job["index_id"], index);
    assert_eq!(job["input"]["recreate"], true);
    assert_eq!(job["waiting"]["reason"], "waits for a worker");
    assert_eq!(
        (&job["progress"], &job["attempts"], &job["max_attempts"]),
        (&json!(null), &json!(0), &json!(8))
    );
    let status = api
        .get(&format!("/api/v1/indexes/{index}/status"))
        .await
        .expect(200);
    assert_eq!(status["job"]["id"], jobs[0]);
    //
    api.call("GET", &format!("/api/v1/jobs/{}", jobs[0]))
        .domain("tenant-2")
        .send()
        .await
        .expect_problem(404, "not-found");
    api.get("/api/v1/jobs/00000000-0000-0000-0000-000000000000")
        .await
        .expect_problem(404, "not-found");
    api.get("/api/v1/jobs/x").await.expect_problem(404, "not-found");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_new_build_is_a_new_job_once_the_old_one_is_over(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let path = format!("/api/v1/indexes/{}/build", api.make_index().await);
    let first = id(&api.call("POST", &path).send().await.expect(202));
    api.queue.cancel(first.parse().unwrap()).await.unwrap();
    let second = id(&api.call("POST", &path).send().await.expect(202));
    assert_ne!(first, second);
    let listed = |answer: serde_json::Value| -> Vec<String> {
        answer["items"].as_array().unwrap().iter().map(id).collect()
    };
    assert_eq!(
        listed(api.get("/api/v1/jobs").await.expect(200)),
        [second.clone(), first.clone()]
    );
    assert_eq!(
        listed(
            api.get("/api/v1/jobs?state=ready&kind=index_build")
                .await
                .expect(200)
        ),
        std::slice::from_ref(&second)
    );
    let page = api.get("/api/v1/jobs?limit=1").await.expect(200);
    let next = format!(
        "/api/v1/jobs?limit=1&cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    assert_eq!(
        listed(api.get(&next).await.expect(200)),
        std::slice::from_ref(&first)
    );
    let other = api.call("GET", "/api/v1/jobs").domain("tenant-2").send().await;
    assert_eq!(listed(other.expect(200)), [""; 0], "R-10.6");
    for query in ["state=lost", "cursor=x", "limit=0"] {
        api.get(&format!("/api/v1/jobs?{query}"))
            .await
            .expect_problem(400, "malformed-request");
    }
    assert_eq!(
        api.get(&format!("/api/v1/jobs/{first}")).await.expect(200)["state"],
        "cancelled"
    );
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_job_that_cannot_be_read_hides_no_other(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let path = format!("/api/v1/indexes/{}/build", api.make_index().await);
        jobs.push(id(&api.call("POST", &path).send().await.expect(202)));
    }
    let mut listeners = Vec::new();
    for job in &jobs {
        let listener = api.call("GET", &format!("/api/v1/jobs/{job}/events")).start();
        listeners.push(listener.await.unwrap());
    }
    sqlx::query("UPDATE queue_jobs SET payload = 'no JSON' WHERE id = UNHEX(REPLACE(?, '-', ''))")
        .bind(&jobs[0])
        .execute(&api.db)
        .await
        .unwrap();
    let paths = jobs.iter().map(|job| format!("/api/v1/jobs/{job}"));
    let paths: Vec<String> = paths.collect();
    for _ in 0..10 {
        let [broken, sound] = [&paths[0], &paths[1]].map(|path| api.get(path));
        let (broken, sound) = tokio::join!(broken, sound);
        assert_eq!(broken.expect(200)["unreadable"], json!(["payload"]));
        assert_eq!(sound.expect(200)["unreadable"], json!([]));
    }
    api.call("POST", &format!("{}/cancel", paths[1]))
        .send()
        .await
        .expect(200);
    let events = listeners.pop().unwrap().into_body().collect();
    let events = tokio::time::timeout(Duration::from_secs(20), events)
        .await
        .unwrap()
        .unwrap();
    assert!(String::from_utf8_lossy(&events.to_bytes()).contains("cancelled"));
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn many_callers_of_many_jobs_get_each_its_own(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let mut jobs = Vec::new();
    for _ in 0..10 {
        let path = format!("/api/v1/indexes/{}/build", api.make_index().await);
        jobs.push(id(&api.call("POST", &path).send().await.expect(202)));
    }
    let calls = (0..200).map(|n| {
        let (n, api) = (n % jobs.len(), &api);
        let job = &jobs[n];
        async move {
            let path = format!("/api/v1/jobs/{job}");
            api.call("GET", &path)
                .domain("tenant-2")
                .send()
                .await
                .expect_problem(404, "not-found");
            let answer = api.get(&path).await.expect(200);
            assert_eq!((&id(&answer), &answer["waiting"]["ahead"]), (job, &json!(n)));
        }
    });
    join_all(calls).await;
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn without_a_usable_connection_nothing_is_enqueued(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let path = format!("/api/v1/indexes/{}/build", api.make_index().await);
    let body = api
        .call("POST", &path)
        .send()
        .await
        .expect_problem(409, "conflict");
    assert!(
        body["detail"].as_str().unwrap().contains("no connection"),
        "{body}"
    );
    api.make_connection().await;
    let off = json!({"is_enabled": false});
    api.call("PATCH", "/api/v1/admin/providers/connections/openai")
        .json(&off)
        .send()
        .await
        .expect(200);
    //
    let body = api
        .call("POST", &path)
        .send()
        .await
        .expect_problem(409, "conflict");
    assert!(
        body["detail"].as_str().unwrap().contains("switched off"),
        "{body}"
    );
    api.call("POST", &format!("{path}?recreat=true"))
        .send()
        .await
        .expect_problem(400, "malformed-request");
    assert_eq!(api.count("queue_jobs").await, 0);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn status_plan_and_provider_files_follow_the_rows(pool: MySqlPool) {
    let api = Api::new(pool).await;
    let index = api.make_index().await;
    let mut files = Vec::new();
    for name in ["done.txt", "failed.txt", "new.txt"] {
        let file = id(&api.upload(name, name).await);
        api.call("POST", &format!("/api/v1/indexes/{index}/files/{file}"))
            .send()
            .await
            .expect(201);
        files.push(file);
    }
    sqlx::query("UPDATE rag_indexes SET external_id = 'vs_1', indexing_status = 'failed', last_error = 'one file' WHERE id = ?")
        .bind(&index)
        .execute(&api.db)
        .await
        .unwrap();
    for (number, state) in [(0_u32, "completed"), (1, "failed")] {
        sqlx::query("INSERT INTO rag_provider_file_uploads (id, provider_id, local_file_id, external_file_id, content_sha256, status) SELECT UUID(), 'openai', id, CONCAT('file-', ?), sha256, 'uploaded' FROM rag_files WHERE id = ?")
            .bind(number)
            .bind(&files[number as usize])
            .execute(&api.db)
            .await
            .unwrap();
        sqlx::query("INSERT INTO rag_index_attachments (id, index_id, external_store_id, local_file_id, external_file_id, content_sha256, size_bytes, state, last_error) SELECT UUID(), ?, 'vs_1', id, CONCAT('file-', ?), sha256, size_bytes, ?, IF(? = 'failed', 'no text', NULL) FROM rag_files WHERE id = ?")
            .bind(&index)
            .bind(number)
            .bind(state)
            .bind(state)
            .bind(&files[number as usize])
            .execute(&api.db)
            .await
            .unwrap();
    }

    let status = api
        .get(&format!("/api/v1/indexes/{index}/status"))
        .await
        .expect(200);
    assert_eq!(
        (&status["indexing_status"], &status["last_error"]),
        (&json!("failed"), &json!("one file"))
    );
    let counts =
        json!({"total": 3, "pending": 1, "in_progress": 0, "completed": 1, "failed": 1, "cancelled": 0});
    assert_eq!(status["file_counts"], counts);

    // R-B3
    let listed = api
        .get(&format!("/api/v1/indexes/{index}/provider-files"))
        .await
        .expect(200);
    assert_eq!(listed["items"][0]["attachments"][0]["state"], "completed");
    assert_eq!(listed["items"][1]["attachments"][0]["last_error"], "no text");
    assert_eq!(
        (&listed["items"][2]["upload"], &listed["items"][2]["attachments"]),
        (&json!(null), &json!([]))
    );
    assert_eq!(listed["leaving"], json!([]));
    api.call("DELETE", &format!("/api/v1/indexes/{index}/files/{}", files[0]))
        .send()
        .await
        .expect(204);
    let listed = api
        .get(&format!("/api/v1/indexes/{index}/provider-files"))
        .await
        .expect(200);
    assert_eq!(listed["leaving"][0]["external_file_id"], "file-0");

    // R-B7
    let plan = api
        .call("POST", &format!("/api/v1/indexes/{index}/build?dry_run=true"))
        .send()
        .await
        .expect(200);
    assert_eq!(plan["create_vector_store"], false);
    assert_eq!(
        (plan["upload"].as_array().unwrap().len(), &plan["bytes_to_upload"]),
        (1, &json!(7))
    );
    assert_eq!(plan["attach"].as_array().unwrap().len(), 2);
    let reasons: Vec<_> = plan["detach"]
        .as_array()
        .unwrap()
        .iter()
        .map(|detach| detach["reason"].clone())
        .collect();
    assert_eq!(reasons, [json!("failed_before"), json!("unlinked")]);
    assert_eq!(api.count("queue_jobs").await, 0);
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn who_waits_hears_how_many_are_before_it(pool: MySqlPool) {
    let api = Api::new(pool).await;
    api.make_connection().await;
    let mut indexes = Vec::new();
    for _ in 0..3 {
        let index = api.make_index().await;
        let path = format!("/api/v1/indexes/{index}/build");
        indexes.push((id(&api.call("POST", &path).send().await.expect(202)), index));
    }
    for (ahead, (job, index)) in indexes.iter().enumerate() {
        let status = api
            .get(&format!("/api/v1/indexes/{index}/status"))
            .await
            .expect(200);
        assert_eq!(status["job"]["id"], json!(job));
        assert_eq!(status["job"]["waiting"]["ahead"], json!(ahead), "{status}");
        assert_eq!(status["job"]["waiting"]["reason"], "waits for a worker");
        assert_eq!(status["provider_seen_at"], json!(null));
        let read = api.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
        assert_eq!(read["waiting"]["ahead"], json!(ahead));

        let listed = api
            .get(&format!("/api/v1/jobs?index_id={index}&state=ready"))
            .await
            .expect(200);
        let listed = listed["items"].as_array().unwrap();
        assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(job)), "{listed:?}");
    }
    let none = api.get("/api/v1/jobs?state=running").await.expect(200);
    assert_eq!(none["items"], json!([]));
    for wrong in ["index_id=x", "kind=%C3%A4", "state=lazy", "colour=red"] {
        let answer = api.get(&format!("/api/v1/jobs?{wrong}")).await;
        answer.expect_problem(400, "malformed-request");
    }

    // A job of the same index that is enqueued behind another one.
    let (first, index) = &indexes[0];
    let sync = IndexSync {
        index_id: index.parse().unwrap(),
        domain_id: "tenant-1".to_owned().try_into().unwrap(),
        keep_gone: false,
    };
    let job = sync
        .to_job(JobLimits {
            build_max_attempts: 1,
        })
        .unwrap();
    let mut tx = api.queue.begin().await.unwrap();
    let second = api.queue.enqueue(&mut tx, job).await.unwrap().id;
    tx.commit().await.unwrap();
    let read = api.get(&format!("/api/v1/jobs/{second}")).await.expect(200);
    assert_eq!(
        (&read["state"], &read["waiting"]["ahead"]),
        (&json!("blocked"), &json!(1)),
        "{read}, behind {first}"
    );
}
