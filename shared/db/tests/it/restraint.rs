//! What a fleet keeps of a provider that wants less: backoffs without a hint, and exhausted accounts.

use std::time::Duration;

use rag_db::connections::{self, ConnectionSettings};
use rag_db::{backoffs, blocks};
use sqlx::{MySqlConnection, MySqlPool};

const PACE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(1));

async fn pass(db: &mut MySqlConnection) {
    sqlx::query("UPDATE rag_provider_backoffs SET until_us = 0")
        .execute(db)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_backoff_doubles_up_to_its_limit_and_a_success_halves_it(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    for expected in [10, 20, 40, 60, 60] {
        let pause = backoffs::refused(&mut db, "openai", "attach", PACE, 1.0)
            .await
            .unwrap();
        assert!(
            pause.as_secs() <= expected && pause.as_secs() + 2 > expected,
            "{pause:?} for {expected}"
        );
        // Others that were on their way make it no longer.
        let again = backoffs::refused(&mut db, "openai", "attach", PACE, 1.0)
            .await
            .unwrap();
        assert!(again <= pause, "{again:?} after {pause:?}");
        pass(&mut db).await;
    }
    assert_eq!(backoffs::list(&mut db, "openai").await.unwrap()[0].streak, 5);
    backoffs::accepted(&mut db, "openai", "upload_file")
        .await
        .unwrap();
    assert_eq!(
        backoffs::list(&mut db, "openai").await.unwrap()[0].streak,
        5,
        "another operation"
    );
    backoffs::accepted(&mut db, "openai", "attach").await.unwrap();
    assert_eq!(backoffs::list(&mut db, "openai").await.unwrap()[0].streak, 2);
    let pause = backoffs::refused(&mut db, "openai", "attach", PACE, 0.5)
        .await
        .unwrap();
    assert!((18..=20).contains(&pause.as_secs()), "{pause:?}");
    assert!(backoffs::list(&mut db, "yandex").await.unwrap().is_empty());
}

fn settings() -> ConnectionSettings {
    ConnectionSettings {
        provider_type: "openai".to_owned(),
        base_url: None,
        auth_type: "api_key".to_owned(),
        credentials_enc: None,
        max_requests_per_second: None,
        max_concurrent_requests: None,
        is_enabled: true,
        is_exclusive: false,
    }
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_exhausted_account_is_tried_by_one_and_ever_more_slowly(pool: MySqlPool) {
    let mut db = pool.acquire().await.unwrap();
    connections::insert(&mut db, &settings()).await.unwrap();
    let version = connections::find(&mut db, "openai")
        .await
        .unwrap()
        .unwrap()
        .updated_at;
    let (first, longest) = (Duration::from_secs(30), Duration::from_secs(100));
    let state = ("storage_full", "growth", "full");
    assert!(
        !blocks::take_try(&mut db, "openai", first, longest).await.unwrap(),
        "nothing to try"
    );
    blocks::set(&mut db, "openai", version, state, first)
        .await
        .unwrap();
    let block = blocks::find(&mut db, "openai").await.unwrap().unwrap();
    assert_eq!(
        (block.kind.as_str(), block.reason.as_str()),
        ("storage_full", "full")
    );
    assert!((28..=30).contains(&block.due_in().unwrap().as_secs()));
    assert!(
        !blocks::take_try(&mut db, "openai", first, longest).await.unwrap(),
        "not due"
    );
    for expected in [60, 100, 100] {
        sqlx::query("UPDATE rag_provider_connections SET blocked_next_try_at = UTC_TIMESTAMP(6), updated_at = updated_at")
            .execute(&mut *db)
            .await
            .unwrap();
        assert!(blocks::take_try(&mut db, "openai", first, longest).await.unwrap());
        assert!(
            !blocks::take_try(&mut db, "openai", first, longest).await.unwrap(),
            "one of many"
        );
        // Its refusal leaves the next try where it is.
        blocks::set(&mut db, "openai", version, state, first)
            .await
            .unwrap();
        let next = blocks::find(&mut db, "openai").await.unwrap().unwrap();
        assert_eq!(next.since, block.since);
        let seconds = next.due_in().unwrap().as_secs();
        assert!(
            (expected - 2..=expected).contains(&seconds),
            "{seconds} for {expected}"
        );
    }
    let row = connections::find(&mut db, "openai").await.unwrap().unwrap();
    assert_eq!(row.updated_at, version, "the connection is the same");
    blocks::clear(&mut db, "openai").await.unwrap();
    assert_eq!(blocks::find(&mut db, "openai").await.unwrap(), None);
    // What a client of before a change is told says nothing of the connection as it is now.
    blocks::set(
        &mut db,
        "openai",
        version - chrono::TimeDelta::seconds(1),
        state,
        first,
    )
    .await
    .unwrap();
    assert_eq!(blocks::find(&mut db, "openai").await.unwrap(), None);
    // A changed connection starts without.
    blocks::set(&mut db, "openai", version, state, first)
        .await
        .unwrap();
    backoffs::refused(&mut db, "openai", "attach", PACE, 1.0)
        .await
        .unwrap();
    connections::update(&mut db, &settings()).await.unwrap();
    assert_eq!(blocks::find(&mut db, "openai").await.unwrap(), None);
    assert!(backoffs::list(&mut db, "openai").await.unwrap().is_empty());
}
