//! The claim's cost: with a hundred thousand jobs waiting, and as many scheduled and finished, it reads what it takes. With
//! a million too, but filling the table takes too long for every run: `cargo test -p apalis-mariadb million -- --ignored`.

use std::time::Duration;

use apalis_mariadb::{JobFilter, Page, State, testing};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, MySqlPool, Row};

use crate::support::queue;

/// Jobs in bulk, by the server itself, of two kinds: `n` waiting and half as many done; up to 100,000 in other states.
async fn fill(pool: &MySqlPool, n: u32) {
    let states = [
        "ready",
        "scheduled",
        "blocked",
        "running",
        "done",
        "failed",
        "cancelled",
    ];
    for (at, state) in states.iter().enumerate() {
        let rows = match *state {
            "ready" => n,
            "done" => n / 2,
            "running" => 50,
            _ => n.min(100_000),
        };
        let insert = format!(
            "INSERT INTO queue_jobs (id, kind, state, order_us, rank_us, max_attempts, payload, created_at) \
             SELECT UNHEX(CONCAT('{at:02}', LPAD(HEX(seq), 24, '0'), '000000')), IF(seq % 2, 'task', 'other'), \
               '{state}', 1000000000000 + CRC32(seq), 1000000000000 + CRC32(seq), 10, '{{}}', UTC_TIMESTAMP(6) \
             FROM seq_1_to_{rows}"
        );
        sqlx::query(AssertSqlSafe(insert)).execute(pool).await.unwrap();
    }
    sqlx::query("ANALYZE TABLE queue_jobs")
        .execute(pool)
        .await
        .unwrap();
}

async fn handler_reads(conn: &mut MySqlConnection) -> u64 {
    let rows = sqlx::query("SHOW SESSION STATUS LIKE 'Handler_read%'")
        .fetch_all(conn)
        .await
        .unwrap();
    rows.iter()
        .map(|row| row.get::<String, _>(1).parse::<u64>().unwrap())
        .sum()
}

#[sqlx::test]
async fn a_claim_walks_its_index_and_reads_what_it_takes(pool: MySqlPool) {
    fill(&pool, 100_000).await;
    assert_claims_read_what_they_take(&pool).await;
}

#[sqlx::test]
async fn the_jobs_of_a_key_are_found_without_reading_their_tenants_others(
    options: MySqlPoolOptions,
    connect: MySqlConnectOptions,
) {
    // One connection, so that what it has read is what the listing has read.
    let pool = options.max_connections(1).connect_with(connect).await.unwrap();
    fill(&pool, 20_000).await;
    sqlx::query("UPDATE queue_jobs SET tenant = 'a'")
        .execute(&pool)
        .await
        .unwrap();
    let keyed = "UPDATE queue_jobs SET concurrency_key = 'index 7' WHERE state = 'done' ORDER BY id LIMIT 5";
    sqlx::query(keyed).execute(&pool).await.unwrap();
    let queue = queue(&pool);
    for state in [None, Some(State::Done)] {
        let filter = JobFilter {
            tenant: Some("a".to_owned()),
            concurrency_key: Some("index 7".to_owned()),
            state,
            ..JobFilter::default()
        };
        let before = handler_reads(&mut pool.acquire().await.unwrap()).await;
        let page = Page {
            limit: 50,
            after: None,
        };
        let found = queue.list_jobs(&filter, &page).await.unwrap();
        let reads = handler_reads(&mut pool.acquire().await.unwrap()).await - before;
        assert_eq!(found.items.len(), 5);
        assert!(reads <= 40, "{reads} reads for 5 jobs, {state:?}");
    }
}

#[sqlx::test]
#[ignore = "fills a table with three million rows"]
async fn a_claim_reads_what_it_takes_with_a_million_waiting(pool: MySqlPool) {
    // A million of each kind.
    fill(&pool, 2_000_000).await;
    assert_claims_read_what_they_take(&pool).await;
}

async fn assert_claims_read_what_they_take(pool: &MySqlPool) {
    let mut conn = pool.acquire().await.unwrap();
    let middle: i64 = sqlx::query_scalar(
        "SELECT order_us FROM queue_jobs WHERE state = 'ready' AND kind = 'task' \
         ORDER BY order_us LIMIT 1 OFFSET 20000",
    )
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    for (floor, matched_by) in [(None, "ref"), (Some(middle), "range")] {
        let explain = format!("EXPLAIN {}", testing::claim_query_from("task", 32, floor));
        let plan = sqlx::query(AssertSqlSafe(explain))
            .fetch_all(&mut *conn)
            .await
            .unwrap();
        assert_eq!(plan.len(), 1);
        assert_eq!(plan[0].get::<String, _>("key"), "ix_queue_jobs_order");
        assert_eq!(plan[0].get::<String, _>("type"), matched_by);
        let extra: String = plan[0].get("Extra");
        assert!(
            !extra.contains("filesort") && !extra.contains("temporary"),
            "{extra}"
        );
    }

    sqlx::query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .execute(&mut *conn)
        .await
        .unwrap();
    let mut tx = conn.begin().await.unwrap();
    for floor in [None, Some(middle)] {
        let before = handler_reads(&mut tx).await;
        let taken = sqlx::query(AssertSqlSafe(testing::claim_query_from("task", 32, floor)))
            .fetch_all(&mut *tx)
            .await
            .unwrap();
        let read = handler_reads(&mut tx).await - before;
        assert_eq!(taken.len(), 32);
        assert!(floor.is_none_or(|floor| taken.iter().all(|row| row.get::<i64, _>("order_us") >= floor)));
        // One index entry per row, and the bookkeeping of SHOW STATUS itself.
        assert!(read <= 32 + 8, "{read} reads for 32 rows");
    }

    // Another claimer gets the next ones, without waiting.
    let mut other = pool.begin().await.unwrap();
    let next = sqlx::query(AssertSqlSafe(testing::claim_query("task", 32)));
    let next = tokio::time::timeout(Duration::from_secs(1), next.fetch_all(&mut *other))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next.len(), 32);
}
