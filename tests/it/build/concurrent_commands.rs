//! Cancel, delete and rebuild at once, from many clients, with two workers and a provider that fails now and then: only legal
//! moves, no orphan once it is quiet, nothing twice (design invariants I1 to I5).

use std::time::Duration;

use rag_emulator::{Action, Emulator, Loss, Rule, When};
use rag_tests::{Client, Stack, eventually};
use serde_json::{Value, json};

use crate::fixtures::indexes::prose;
use crate::fixtures::jobs::search_orphans;
use crate::fixtures::ledger::assert_no_orphans;
use crate::fixtures::rows::make_deletions_due;

const LIMIT: Duration = Duration::from_mins(3);
const ROUNDS: usize = 6;
const CLIENTS: usize = 6;
const FILES: usize = 8;
const STEPS: usize = 16;

/// Writes down every move of an index's status, whoever makes it.
async fn watch_statuses(stack: &Stack) {
    for sql in [
        "CREATE TABLE seen_moves (id BIGINT AUTO_INCREMENT PRIMARY KEY, index_id CHAR(36) CHARACTER SET ascii, \
         before_it VARCHAR(32), after_it VARCHAR(32), was_deleted BOOLEAN)",
        "CREATE TRIGGER see_moves AFTER UPDATE ON rag_indexes FOR EACH ROW \
         INSERT INTO seen_moves (index_id, before_it, after_it, was_deleted) \
         SELECT NEW.id, OLD.indexing_status, NEW.indexing_status, OLD.deleted_at IS NOT NULL FROM DUAL \
         WHERE OLD.indexing_status <> NEW.indexing_status",
    ] {
        sqlx::raw_sql(sql).execute(&stack.database.pool).await.unwrap();
    }
}

async fn assert_legal_moves(stack: &Stack) {
    let moves: Vec<(String, String, bool)> =
        sqlx::query_as("SELECT before_it, after_it, was_deleted FROM seen_moves ORDER BY id")
            .fetch_all(&stack.database.pool)
            .await
            .unwrap();
    assert!(moves.len() > ROUNDS, "something happened: {moves:?}");
    for (before, after, was_deleted) in &moves {
        let legal = match (before.as_str(), after.as_str()) {
            ("not_indexed" | "done" | "failed", "in_progress") => !was_deleted,
            ("in_progress", "done" | "failed") => true,
            _ => false,
        };
        assert!(legal, "{before} -> {after} (deleted: {was_deleted}) in {moves:?}");
    }
}

fn faults() -> Vec<Rule> {
    let some = |operation: &str, probability: f64, seed: u64, then: Action| Rule {
        when: When {
            operation: Some(operation.to_owned()),
            probability: Some(probability),
            seed,
            ..When::default()
        },
        then,
    };
    let broken = Action::Respond {
        status: 502,
        headers: std::collections::BTreeMap::new(),
        body: None,
        text: None,
        after_effect: true,
    };
    vec![
        some("files.create", 0.1, 1, Action::LoseAnswer { how: Loss::Close }),
        some(
            "vector_stores.create",
            0.2,
            2,
            Action::LoseAnswer { how: Loss::Reset },
        ),
        some("vector_stores.file_batches.create", 0.2, 3, broken.clone()),
        some("vector_stores.delete", 0.2, 4, broken.clone()),
        some("files.delete", 0.1, 5, broken),
        some("files.create", 0.5, 6, Action::Delay { ms: 60 }),
        some(
            "vector_stores.files.list",
            0.1,
            7,
            Action::LoseRequest { how: Loss::Close },
        ),
    ]
}

/// One of many who want something of the same index at the same time.
async fn send_commands(client: Client, index: String, files: Vec<String>, seed: usize, may_delete: bool) {
    let mut last_job: Option<String> = None;
    for step in 0..STEPS {
        // A different order for each, and the same each time.
        let what = (seed * 7 + step * 5 + seed * step) % 10;
        let answer = match what {
            0..=3 | 6 => {
                let answer = client.post(&format!("/indexes/{index}/build"), &json!({})).await;
                last_job = answer.body["id"].as_str().map(str::to_owned).or(last_job);
                answer
            }
            4..=5 => match &last_job {
                Some(job) => client.post(&format!("/jobs/{job}/cancel"), &json!({})).await,
                None => continue,
            },
            7 => {
                let file = &files[(seed + step) % files.len()];
                client.delete(&format!("/indexes/{index}/files/{file}")).await
            }
            8 => {
                let file = &files[(seed + step) % files.len()];
                client
                    .post(&format!("/indexes/{index}/files/{file}"), &json!({}))
                    .await
            }
            _ if may_delete && step > STEPS / 2 => client.delete(&format!("/indexes/{index}")).await,
            _ => {
                let path = format!("/indexes/{index}/build?recreate=true");
                client.post(&path, &json!({})).await
            }
        };
        let status = answer.status.as_u16();
        assert!(
            matches!(status, 200 | 201 | 202 | 204 | 404 | 409 | 503),
            "step {step} of {seed}: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(40 + 60 * ((seed + step) as u64 % 4))).await;
    }
}

async fn quiet(stack: &Stack) {
    eventually("the queue to be empty", LIMIT, || async {
        let active: Vec<(String, String)> = sqlx::query_as(
            "SELECT kind, CAST(state AS CHAR) FROM queue_jobs WHERE state NOT IN ('done', 'failed', 'cancelled')",
        )
        .fetch_all(&stack.database.pool)
        .await
        .unwrap();
        active.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn cancel_delete_and_rebuild_race_on_one_index() {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(150, 0.0))
        .setting("ORPHANS_MIN_AGE_SECONDS", "1")
        .setting("BUILD_MAX_ATTEMPTS", "40")
        .start()
        .await;
    watch_statuses(&stack).await;
    let _workers = [stack.worker("one"), stack.worker("two")];
    let client = &stack.client;
    let mut files = Vec::new();
    for n in 0..FILES {
        let name = format!("page-{n}.md");
        files.push(client.upload(&name, &prose(&format!("w{n}x"), 40), None).await);
    }
    for round in 0..ROUNDS {
        for rule in faults() {
            stack.control().add_fault(rule).unwrap();
        }
        let index = client.create_index(&format!("round {round}"), "openai").await;
        for file in &files {
            client.link(&index, file).await;
        }
        let clients = (0..CLIENTS).map(|n| {
            tokio::spawn(send_commands(
                client.clone(),
                index.clone(),
                files.clone(),
                round * 11 + n,
                round % 2 == 0,
            ))
        });
        for client_task in futures::future::join_all(clients).await {
            client_task.unwrap();
        }
        stack.control().clear_faults();
        if round % 2 == 0 {
            let answer = client.delete(&format!("/indexes/{index}")).await;
            assert!(matches!(answer.status.as_u16(), 202 | 204 | 404), "{answer:?}");
        }
    }
    hurry(&stack).await;
    // I1: every job ends.
    quiet(&stack).await;

    // What is left is built once more, in peace.
    let listed = client.get("/indexes").await.expect(200);
    for index in listed["items"].as_array().unwrap() {
        let id = index["id"].as_str().unwrap();
        let job = client.finished(&client.build(id).await, LIMIT).await;
        assert_eq!(job["output"]["indexing_status"], "done", "{job}");
    }
    quiet(&stack).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    search_orphans(&stack, "openai", "delete", &json!({})).await;
    carry_out_deletions(&stack).await;

    // I2 to I4: one store per index, nothing unreferenced, every file once and with its own strategy.
    assert_no_orphans(&stack).await;
    let twice: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT 1 FROM rag_index_attachments GROUP BY index_id, local_file_id HAVING COUNT(*) > 1) AS twice",
    )
    .fetch_one(&stack.database.pool)
    .await
    .unwrap();
    assert_eq!(twice, 0, "no file is attached to a store twice");
    for store in &stack.control().state().stores {
        let mut names: Vec<_> = store.files.iter().map(|file| file.filename.clone()).collect();
        names.sort();
        let distinct = names.len();
        names.dedup();
        assert_eq!(names.len(), distinct, "{store:?}");
    }
    assert_legal_moves(&stack).await;
    // I9: nothing but failures was counted as one.
    let jobs: Vec<Value> = client.get("/jobs?limit=200").await.expect(200)["items"]
        .as_array()
        .unwrap()
        .clone();
    for job in jobs {
        let failures = job["history"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|run| matches!(run["ended"].as_str(), Some("retried" | "failed")))
            .count();
        let attempts = job["attempts"].as_u64().unwrap();
        assert!(failures as u64 >= attempts.min(20), "{job}");
    }
}

/// What waits for its next try after a failure need not wait any longer: the faults are over.
async fn hurry(stack: &Stack) {
    let waiting: Vec<String> = sqlx::query_scalar(
        "SELECT LOWER(CONCAT_WS('-', SUBSTR(HEX(id), 1, 8), SUBSTR(HEX(id), 9, 4), SUBSTR(HEX(id), 13, 4), \
         SUBSTR(HEX(id), 17, 4), SUBSTR(HEX(id), 21))) FROM queue_jobs WHERE state = 'scheduled'",
    )
    .fetch_all(&stack.database.pool)
    .await
    .unwrap();
    for job in waiting {
        stack.client.post(&format!("/jobs/{job}/retry"), &json!({})).await;
    }
}

/// Deletions that failed amid the faults are carried out by maintenance, in their own time.
async fn carry_out_deletions(stack: &Stack) {
    make_deletions_due(stack).await;
    eventually("the deletions to be carried out", LIMIT, || async {
        let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM rag_provider_intents")
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
        (left == 0).then_some(())
    })
    .await;
}
