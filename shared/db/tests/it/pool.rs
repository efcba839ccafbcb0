//! What the pool's connections are like.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};

#[sqlx::test(migrations = false)]
async fn sessions_are_as_this_layer_needs_them(_: MySqlPoolOptions, options: MySqlConnectOptions) {
    let pool = rag_db::connect(options, 1).await.unwrap();
    let (zone, isolation): (String, String) =
        sqlx::query_as("SELECT @@session.time_zone, @@session.tx_isolation")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((zone.as_str(), isolation.as_str()), ("+00:00", "READ-COMMITTED"));

    // As if the process stood still.
    let mut still = pool.begin().await.unwrap();
    sqlx::query("DO 1").execute(&mut *still).await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(
        sqlx::query("DO 1").execute(&mut *still).await.is_err(),
        "the server has ended the transaction"
    );
}

#[sqlx::test(migrations = false)]
async fn a_connection_that_died_while_nobody_used_it_is_replaced(
    _: MySqlPoolOptions,
    options: MySqlConnectOptions,
) {
    let other = rag_db::connect(options.clone(), 1).await.unwrap();
    let pool = rag_db::connect(options, 1).await.unwrap();
    let id = async || {
        sqlx::query_scalar::<_, i64>("SELECT CAST(CONNECTION_ID() AS SIGNED)")
            .fetch_one(&pool)
            .await
    };
    let first = id().await.unwrap();
    // It is back in the pool, and was found alive there.
    tokio::time::sleep(Duration::from_millis(300)).await;
    sqlx::query(AssertSqlSafe(format!("KILL {first}")))
        .execute(&other)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_ne!(id().await.unwrap(), first);
}
