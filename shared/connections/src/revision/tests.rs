use rag_db::connections::ConnectionSettings;

use super::*;

const PROVIDER: &str = "openai";

fn settings(is_enabled: bool) -> ConnectionSettings {
    ConnectionSettings {
        provider_type: PROVIDER.to_owned(),
        base_url: None,
        auth_type: "api_key".to_owned(),
        credentials_enc: None,
        max_requests_per_second: None,
        max_concurrent_requests: None,
        is_enabled,
        is_exclusive: false,
    }
}

/// Of a connection that was read once, and switched off afterwards.
async fn switched_off_after_a_check(pool: &MySqlPool) -> RevisionCheck {
    let mut db = pool.acquire().await.unwrap();
    connections::insert(&mut db, &settings(true)).await.unwrap();
    let row = connections::find(&mut db, PROVIDER).await.unwrap().unwrap();
    let check = RevisionCheck::new(pool.clone(), &row);
    check.check().await.unwrap();
    connections::update(&mut db, &settings(false)).await.unwrap();
    check
}

async fn began_at(check: &RevisionCheck, at: Instant) {
    check.last.lock().await.as_mut().unwrap().began_at = at;
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_reading_serves_those_who_ask_soon_after(pool: MySqlPool) {
    let check = switched_off_after_a_check(&pool).await;
    let found = check.last.lock().await.as_ref().unwrap().found;
    // This test may be stopped for longer than a reading is good, but not every time.
    for _ in 0..50 {
        let began_at = Instant::now();
        *check.last.lock().await = Some(Reading { began_at, found });
        if check.check().await.is_ok() {
            return;
        }
    }
    panic!("each request reads the row");
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn an_older_reading_serves_nobody(pool: MySqlPool) {
    let check = switched_off_after_a_check(&pool).await;
    began_at(&check, Instant::now() - READING_GOOD_FOR).await;
    check.check().await.unwrap_err();
}

#[sqlx::test(migrator = "rag_db::MIGRATOR")]
async fn a_reading_is_as_old_as_its_statement(pool: MySqlPool) {
    let check = switched_off_after_a_check(&pool).await;
    began_at(&check, Instant::now() - READING_GOOD_FOR).await;
    let mut locking = pool.acquire().await.unwrap();
    sqlx::raw_sql("LOCK TABLES rag_provider_connections WRITE")
        .execute(&mut *locking)
        .await
        .unwrap();
    let reading = async {
        check.check().await.unwrap_err();
        check.last.lock().await.as_ref().unwrap().began_at
    };
    let unlocking = async {
        while waiting(&pool).await == 0 {
            tokio::task::yield_now().await;
        }
        let unlocked_at = Instant::now();
        sqlx::raw_sql("UNLOCK TABLES")
            .execute(&mut *locking)
            .await
            .unwrap();
        unlocked_at
    };
    let (began_at, unlocked_at) = tokio::join!(reading, unlocking);
    assert!(began_at < unlocked_at);
}

/// Statements of this database that wait for a locked table.
async fn waiting(pool: &MySqlPool) -> i64 {
    let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND STATE LIKE 'Waiting for table%'";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}
