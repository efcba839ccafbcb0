//! Syncs' own tables: turns of the schedule, runs, items and findings.

use std::time::Duration;

use rag_db::schedules;
use sqlx::MySqlPool;

#[sqlx::test(migrations = "../../migrations")]
async fn one_of_many_is_told_that_it_is_time_and_new_work_waits_its_interval(pool: MySqlPool) {
    const EVERY: Duration = Duration::from_millis(300);
    let turn = async |every| {
        let mut db = pool.acquire().await.unwrap();
        schedules::take_turn(&mut db, "test", every).await.unwrap()
    };
    assert!(!turn(EVERY).await, "a restart starts nothing");
    tokio::time::sleep(EVERY).await;
    let turns = futures::future::join_all((0..8).map(|_| turn(EVERY))).await;
    assert_eq!(turns.into_iter().filter(|turn| *turn).count(), 1);
    assert!(!turn(EVERY).await);

    // An interval that was made shorter counts from now on.
    tokio::time::sleep(EVERY).await;
    assert!(turn(Duration::from_hours(1)).await);
    assert!(!turn(EVERY).await);
    tokio::time::sleep(EVERY).await;
    assert!(turn(EVERY).await);
}
