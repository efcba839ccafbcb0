//! Every move from every state: where it is not legal, the job must not move.

use serde_json::json;
use sqlx::MySqlPool;

use crate::ack::{End, PlainEnd, Within, ack_rows};
use crate::id::{ClaimToken, JobId, WorkerId};
use crate::new_job::NewJob;
use crate::outcome::Outcome;
use crate::queue::Queue;
use crate::state::{Move, State};
use crate::{maintenance, take};

use super::{KIND, LEASE, config, empty, want};

/// Tries every way to make a move on a job in every state; where the move is not legal, the job must not move.
#[sqlx::test]
async fn no_forbidden_move_happens(pool: MySqlPool) {
    let queue = Queue::new(pool.clone(), config());
    let ends = [
        (Move::Complete, End::Handler(Outcome::done())),
        (Move::Fail, End::Handler(Outcome::Fail { error: String::new() })),
        (
            Move::Reschedule,
            End::Handler(Outcome::Snooze {
                after: LEASE,
                reason: None,
            }),
        ),
        (Move::Release, End::Release),
        (Move::Stop, End::Handler(Outcome::Cancelled)),
    ];
    let mut tried = 0;
    for wanted in Move::ALL {
        for state in State::ALL {
            empty(&pool).await;
            let taken_key = matches!(wanted, Move::Block | Move::Unblock | Move::ReviveBlocked);
            let id = job_in(&queue, &pool, state, taken_key).await;
            match wanted {
                Move::Promote | Move::Block => {
                    maintenance::promote(&pool, &[KIND]).await.unwrap();
                }
                Move::Unblock => {
                    let holder = put_in_line(&pool, id).await;
                    let mut tx = queue.begin().await.unwrap();
                    crate::keys::release_concurrency(&mut tx, "k", holder)
                        .await
                        .unwrap();
                    tx.commit().await.unwrap();
                }
                Move::Claim => {
                    let mut conn = pool.acquire().await.unwrap();
                    take::ack_and_claim(&mut conn, &[], want(10), WorkerId::generate(), LEASE)
                        .await
                        .unwrap();
                }
                Move::Complete | Move::Fail | Move::Reschedule | Move::Release | Move::Stop => {
                    let (_, end) = ends.iter().find(|(step, _)| *step == wanted).unwrap();
                    let mut tx = queue.begin().await.unwrap();
                    let end = [(ClaimToken::new(id, 1), end.clone())];
                    ack_rows(&mut tx, &end, &config(), Within::Callers).await.unwrap();
                    tx.commit().await.unwrap();
                }
                Move::Cancel => drop(queue.cancel(id).await),
                Move::Revive | Move::ReviveBlocked => drop(queue.retry(id).await),
            }
            let after = queue.find_job(id).await.unwrap().unwrap().state;
            if wanted == Move::Complete && after != State::Done {
                // Nor does it the short way.
                let done = PlainEnd::of(ClaimToken::new(id, 1), false, &ends[0].1, &config()).unwrap();
                take::ack(&mut pool.acquire().await.unwrap(), &[done])
                    .await
                    .unwrap();
                assert_eq!(queue.find_job(id).await.unwrap().unwrap().state, after, "{state}");
            }
            let legal = wanted.is_legal_from(state);
            assert_eq!(
                after,
                if legal { wanted.to() } else { state },
                "{wanted:?} from {state}"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, Move::ALL.len() * State::ALL.len());
}

/// Only a running job whose lease has ended is rescued.
#[sqlx::test]
async fn rescue_touches_running_jobs_only(pool: MySqlPool) {
    let queue = Queue::new(pool.clone(), config());
    for state in State::ALL {
        empty(&pool).await;
        let id = job_in(&queue, &pool, state, false).await;
        maintenance::rescue(&pool, &config()).await.unwrap();
        let after = queue.find_job(id).await.unwrap().unwrap().state;
        let legal = Move::Release.is_legal_from(state);
        assert_eq!(after, if legal { Move::Release.to() } else { state }, "{state}");
    }
}

/// Puts the job in line for the concurrency key `k`, whatever its state; answers who has the key.
async fn put_in_line(pool: &MySqlPool, id: JobId) -> JobId {
    sqlx::query("INSERT IGNORE INTO queue_blocked SELECT 'k', rank_us, id FROM queue_jobs WHERE id = ?")
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    sqlx::query_scalar("SELECT job_id FROM queue_concurrency_keys WHERE concurrency_key = 'k'")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// A job in some state, under claim 1 where that means something, with everything it could wait for come about.
async fn job_in(queue: &Queue, pool: &MySqlPool, state: State, key_is_taken: bool) -> JobId {
    let mut job = NewJob::new(KIND, &json!(null)).unwrap();
    if key_is_taken {
        job = job.concurrency_key("k");
    }
    let mut tx = queue.begin().await.unwrap();
    let id = queue.enqueue(&mut tx, job).await.unwrap().id;
    tx.commit().await.unwrap();
    if key_is_taken {
        let other = JobId::generate();
        sqlx::query("UPDATE queue_concurrency_keys SET job_id = ?")
            .bind(other)
            .execute(pool)
            .await
            .unwrap();
    }
    sqlx::query("UPDATE queue_jobs SET state = ?, order_us = 1, claim_no = ? WHERE id = ?")
        .bind(state.as_str())
        .bind(u32::from(!key_is_taken))
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    id
}
