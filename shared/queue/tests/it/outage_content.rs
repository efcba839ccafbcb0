//! What the server does not take as it is: statements longer than its packets, values that its columns refuse, tables that are
//! away for a moment. And collations other than ours.

use std::time::Duration;

use apalis_mariadb::{Queue, QueueConfig, State};
use rag_test_mariadb::{Server, ServerBuilder};
use serde_json::json;
use sqlx::MySqlPool;

use crate::support::{Step, TestWorker, enqueue, quick_config, task, until, until_state};

const DATABASE: &str = "odd";

/// A migrated database on a server of the test's own.
async fn start(builder: ServerBuilder) -> Option<(Server, MySqlPool)> {
    let server = builder.start().await?;
    let url = server.create_database(DATABASE).await;
    let pool = MySqlPool::connect(&url).await.unwrap();
    sqlx::migrate!().run(&pool).await.unwrap();
    Some((server, pool))
}

#[tokio::test]
async fn outputs_that_are_too_long_together_are_stored_apart() {
    let builder = Server::builder().option("--max-allowed-packet=1M");
    let Some((_server, pool)) = start(builder).await else {
        return;
    };
    let queue = Queue::new(pool.clone(), quick_config());
    let mut ids = Vec::new();
    for n in 0..20 {
        let long = task(&n.to_string(), [Step::DoneLong(200_000)]);
        ids.push(enqueue(&queue, long).await.id);
    }
    let worker = TestWorker::start(&queue, 20);
    for id in ids {
        let done = until_state(&queue, id, State::Done).await;
        assert_eq!(done.output.unwrap().as_str().map(str::len), Some(200_000));
        assert_eq!((done.attempts, done.lease_losses), (0, 0));
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn an_output_that_is_too_long_for_any_packet_is_cut_with_a_mark() {
    let builder = Server::builder().option("--max-allowed-packet=65536");
    let Some((_server, pool)) = start(builder).await else {
        return;
    };
    let queue = Queue::new(pool.clone(), quick_config());
    let worker = TestWorker::start(&queue, 4);
    let long = enqueue(&queue, task("long", [Step::DoneLong(200_000)])).await.id;
    let short = enqueue(&queue, task("short", [Step::DoneLong(10_000)])).await.id;
    let long = until_state(&queue, long, State::Done).await;
    let output = long.output.unwrap();
    assert_eq!(
        (&output["truncated"], &output["bytes"]),
        (&json!(true), &json!(200_002))
    );
    assert!(output["head"].as_str().unwrap().len() > 10_000, "{output}");
    assert_eq!(long.attempts, 0);
    let short = until_state(&queue, short, State::Done).await;
    assert_eq!(short.output.unwrap().as_str().map(str::len), Some(10_000));
    worker.shut_down().await;
}

#[tokio::test]
async fn only_an_outcome_that_the_server_refuses_for_its_content_becomes_a_failure() {
    let Some((_server, pool)) = start(Server::builder()).await else {
        return;
    };
    let config = QueueConfig {
        // More than the reason's column takes.
        max_error_bytes: 200_000,
        ..quick_config()
    };
    let queue = Queue::new(pool.clone(), config);
    let worker = TestWorker::start(&queue, 4);
    let refused = enqueue(&queue, task("refused", [Step::SnoozeLong(100_000)]))
        .await
        .id;
    let fine = enqueue(&queue, task("fine", [Step::SnoozeLong(1000)])).await.id;
    let refused = until_state(&queue, refused, State::Failed).await;
    let error = refused.last_error.unwrap();
    assert!(
        error.starts_with("its outcome could not be stored: ") && error.contains("1406"),
        "{error}"
    );
    until_state(&queue, fine, State::Done).await;
    worker.shut_down().await;
}

/// A restore, or an operator's mistake: nobody can say that the outcome is to blame.
#[tokio::test]
async fn an_outcome_waits_for_a_table_that_is_away_and_others_do_not_wait_for_it() {
    let Some((server, pool)) = start(Server::builder()).await else {
        return;
    };
    let queue = Queue::new(pool.clone(), quick_config());
    let worker = TestWorker::start(&queue, 4);
    let waits = task("waits", [Step::Sleep(1000)]).concurrency_key("k");
    let waits = enqueue(&queue, waits).await.id;
    until_state(&queue, waits, State::Running).await;
    server
        .execute(&format!(
            "RENAME TABLE {DATABASE}.queue_concurrency_keys TO {DATABASE}.away"
        ))
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Goes the long way, too.
    let other = enqueue(&queue, task("other", [Step::Snooze(1)])).await.id;
    until_state(&queue, other, State::Done).await;
    until_state(&queue, waits, State::Running).await;
    server
        .execute(&format!(
            "RENAME TABLE {DATABASE}.away TO {DATABASE}.queue_concurrency_keys"
        ))
        .await;
    let done = until_state(&queue, waits, State::Done).await;
    assert_eq!((done.attempts, done.lease_losses), (0, 0));
    worker.shut_down().await;
}

/// Everything that the worker's statements compare, unite or cast.
async fn works_with(builder: ServerBuilder, connection: &str) {
    let Some((server, pool)) = start(builder).await else {
        return;
    };
    let url = server.uri(DATABASE);
    let odd = MySqlPool::connect(&format!("{url}&{connection}")).await.unwrap();
    let queue = Queue::new(odd, quick_config());
    queue.pause("other").await.unwrap();
    let script = [Step::Snooze(10), Step::Err, Step::Done(json!({ "ключ": "é" }))];
    let delayed = task("delayed", script)
        .delay(Duration::from_millis(50))
        .concurrency_key("schlüssel")
        .unique_key("einzig");
    let id = enqueue(&queue, delayed).await.id;
    let worker = TestWorker::start(&queue, 4);
    let done = until_state(&queue, id, State::Done).await;
    assert_eq!(done.output, Some(json!({ "ключ": "é" })));
    assert_eq!((done.attempts, done.snoozes), (1, 1));
    until(Duration::from_secs(10), async || {
        let stats = queue.stats().await.unwrap();
        let counted = stats.kinds.get("task").is_some_and(|kind| !kind.jobs.is_empty());
        if counted && stats.kinds["other"].paused {
            Ok(())
        } else {
            Err(json!(stats))
        }
    })
    .await;
    // The pool of the odd collation is gone; another, with sqlx's own, finds the same.
    worker.shut_down().await;
    let usual = Queue::new(pool, quick_config());
    assert!(usual.find_job(id).await.unwrap().is_some());
}

#[tokio::test]
async fn the_servers_collation_does_not_matter() {
    let uca = Server::builder().option("--collation-server=utf8mb4_uca1400_ai_ci");
    works_with(uca, "charset=utf8mb4").await;
    let latin = Server::builder()
        .option("--character-set-server=latin1")
        .option("--collation-server=latin1_swedish_ci");
    works_with(latin, "charset=utf8mb4").await;
}

#[tokio::test]
async fn the_connections_collation_does_not_matter() {
    for connection in [
        "charset=utf8mb4&collation=utf8mb4_uca1400_as_cs",
        "charset=utf8mb4&collation=utf8mb4_bin",
    ] {
        works_with(Server::builder(), connection).await;
    }
}
