//! Tests of the state machine in the database against a model, with random histories. Every forbidden move is in
//! `forbidden`.

mod expected;
mod forbidden;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use sqlx::{AssertSqlSafe, MySqlPool};

use crate::ack::{Acked, End, PlainEnd, Within, ack_rows};
use crate::config::QueueConfig;
use crate::id::{ClaimToken, JobId, WorkerId};
use crate::maintenance;
use crate::new_job::NewJob;
use crate::operate::Cancelled;
use crate::outcome::Outcome;
use crate::queue::Queue;
use crate::state::{Move, State};
use crate::take::{self, ClaimRequest};

use expected::{Model, ModelJob, Seen};

const KIND: &str = "model";
const LEASE: Duration = Duration::from_hours(1);
const MAX_ATTEMPTS: u32 = 2;
const MAX_LOSSES: u16 = 2;

fn config() -> QueueConfig {
    QueueConfig {
        lease: LEASE,
        max_lease_losses: MAX_LOSSES,
        backoff_base: LEASE,
        ..QueueConfig::default()
    }
}

fn want(limit: usize) -> ClaimRequest {
    ClaimRequest {
        kind: KIND,
        limit,
        floor: None,
    }
}

/// Something that happens. Numbers pick among what there is.
#[derive(Clone, Debug)]
enum Op {
    Enqueue {
        unique: Option<u8>,
        key: Option<u8>,
        delayed: bool,
    },
    /// On the way, these claims end the plain way, if they can.
    Claim {
        limit: usize,
        done: Vec<usize>,
    },
    End {
        claim: usize,
        end: End,
    },
    Cancel {
        job: usize,
    },
    Retry {
        job: usize,
    },
    ComesDue {
        job: usize,
    },
    LeaseEnds {
        job: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let key = || prop::option::of(0..2_u8);
    let end = prop_oneof![
        3 => Just(End::Handler(Outcome::done())),
        2 => Just(End::Handler(Outcome::Retry { error: "e".to_owned(), after: Some(LEASE) })),
        2 => Just(End::Handler(Outcome::Snooze { after: LEASE, reason: None })),
        1 => Just(End::Handler(Outcome::Fail { error: "f".to_owned() })),
        1 => Just(End::Handler(Outcome::Cancelled)),
        1 => Just(End::Release),
    ];
    prop_oneof![
        4 => (key(), key(), prop::bool::weighted(0.2))
            .prop_map(|(unique, key, delayed)| Op::Enqueue { unique, key, delayed }),
        4 => (0..4_usize, vec(any::<usize>(), 0..4)).prop_map(|(limit, done)| Op::Claim { limit, done }),
        6 => (any::<usize>(), end).prop_map(|(claim, end)| Op::End { claim, end }),
        2 => any::<usize>().prop_map(|job| Op::Cancel { job }),
        2 => any::<usize>().prop_map(|job| Op::Retry { job }),
        3 => any::<usize>().prop_map(|job| Op::ComesDue { job }),
        2 => any::<usize>().prop_map(|job| Op::LeaseEnds { job }),
    ]
}

struct Machine {
    pool: MySqlPool,
    queue: Queue,
    model: Model,
}

impl Machine {
    async fn run(&mut self, op: &Op) {
        let jobs = self.model.jobs.len();
        match op {
            Op::Enqueue { unique, key, delayed } => self.enqueue(*unique, *key, *delayed).await,
            Op::Claim { limit, done } => self.claim(*limit, done).await,
            Op::End { claim, end } if !self.model.tokens.is_empty() => {
                self.end(self.model.tokens[claim % self.model.tokens.len()], end)
                    .await;
            }
            Op::Cancel { job } if jobs > 0 => self.cancel(job % jobs).await,
            Op::Retry { job } if jobs > 0 => self.retry(job % jobs).await,
            Op::ComesDue { job } if jobs > 0 => self.comes_due(job % jobs).await,
            Op::LeaseEnds { job } if jobs > 0 => self.lease_ends(job % jobs).await,
            _ => {}
        }
    }

    async fn enqueue(&mut self, unique: Option<u8>, key: Option<u8>, delayed: bool) {
        let mut job = NewJob::new(KIND, &json!(null))
            .unwrap()
            .max_attempts(MAX_ATTEMPTS);
        if let Some(unique) = unique {
            job = job.unique_key(unique.to_string());
        }
        if let Some(key) = key {
            job = job.concurrency_key(key.to_string());
        }
        if delayed {
            job = job.delay(LEASE);
        }
        let mut tx = self.queue.begin().await.unwrap();
        let enqueued = self.queue.enqueue(&mut tx, job).await.unwrap();
        tx.commit().await.unwrap();

        let active = unique.and_then(|unique| self.model.uniques.get(&unique));
        assert_eq!(enqueued.existing, active.is_some());
        if let Some(active) = active {
            assert_eq!(enqueued.id, *active);
            return;
        }
        let state = State::Scheduled;
        let seen = Seen {
            state,
            claim_no: 0,
            attempts: 0,
            losses: 0,
            snoozes: 0,
            cancel_requested: false,
        };
        self.model.jobs.push(ModelJob {
            id: enqueued.id,
            unique,
            key,
            delayed,
            seen,
        });
        if let Some(unique) = unique {
            self.model.uniques.insert(unique, enqueued.id);
        }
        if !delayed {
            self.model.queue_up(self.model.jobs.len() - 1);
        }
    }

    /// Ends claims the plain way and takes jobs, in one go; with a limit of 0, only the former.
    async fn claim(&mut self, limit: usize, done: &[usize]) {
        let mut ends: Vec<PlainEnd> = Vec::new();
        for at in done {
            let Some(token) = self.model.tokens.get(at % self.model.tokens.len().max(1)) else {
                continue;
            };
            let job = self.model.job_of(*token);
            let has_keys = job.key.is_some() || job.unique.is_some();
            let end = End::Handler(Outcome::Done(json!(if at % 2 == 0 { None } else { Some(at) })));
            let end = PlainEnd::of(*token, has_keys, &end, &config());
            // Nobody ends a claim twice at a time.
            ends.extend(end.filter(|end| ends.iter().all(|other| other.token() != end.token())));
        }
        let mut conn = self.pool.acquire().await.unwrap();
        let jobs = if limit == 0 {
            take::ack(&mut conn, &ends).await.unwrap();
            Vec::new()
        } else {
            let got = take::ack_and_claim(&mut conn, &ends, want(limit), WorkerId::generate(), LEASE).await;
            got.unwrap().taken
        };
        for end in ends {
            let (token, end) = end.into_end();
            self.model.end_if_current(token, &end);
        }
        let mut wanted = self.model.in_order(|job| job.seen.state == State::Ready);
        wanted.truncate(limit);
        let wanted: Vec<ClaimToken> = wanted
            .into_iter()
            .map(|at| {
                let job = &mut self.model.jobs[at];
                job.seen.state = State::Running;
                job.seen.claim_no += 1;
                ClaimToken::new(job.id, job.seen.claim_no)
            })
            .collect();
        let claimed: Vec<ClaimToken> = jobs.into_iter().map(|job| job.token).collect();
        assert_eq!(claimed, wanted);
        self.model.tokens.extend(claimed);
    }

    async fn end(&mut self, token: ClaimToken, end: &End) {
        let mut tx = self.queue.begin().await.unwrap();
        let (acked, _) = ack_rows(&mut tx, &[(token, end.clone())], &config(), Within::Callers)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let wanted = if self.model.end_if_current(token, end) {
            Acked::Applied
        } else {
            Acked::Bounced
        };
        assert_eq!(acked, [wanted]);
    }

    async fn cancel(&mut self, at: usize) {
        let answer = self.queue.cancel(self.model.jobs[at].id).await.unwrap();
        let seen = &mut self.model.jobs[at].seen;
        let wanted = match seen.state {
            State::Running => Cancelled::Requested,
            state if state.is_finished() => Cancelled::Finished(state),
            _ => Cancelled::Now,
        };
        assert_eq!(answer, wanted);
        seen.cancel_requested |= !seen.state.is_finished();
        if answer == Cancelled::Now {
            self.model.is_over(at, State::Cancelled);
        }
    }

    async fn retry(&mut self, at: usize) {
        let job = self.model.jobs[at].clone();
        let answer = self.queue.retry(job.id).await;
        let key_taken = job
            .unique
            .is_some_and(|unique| self.model.uniques.get(&unique).is_some_and(|id| *id != job.id));
        let legal = Move::Revive.is_legal_from(job.seen.state) && !key_taken;
        assert_eq!(answer.is_ok(), legal, "{answer:?}");
        if !legal {
            return;
        }
        let seen = &mut self.model.jobs[at].seen;
        if seen.state.is_finished() {
            (seen.attempts, seen.losses, seen.cancel_requested) = (0, 0, false);
        }
        if let Some(unique) = job.unique {
            self.model.uniques.insert(unique, job.id);
        }
        self.model.queue_up(at);
    }

    async fn comes_due(&mut self, at: usize) {
        self.set_time(at, State::Scheduled).await;
        maintenance::promote(&self.pool, &[KIND]).await.unwrap();
        if self.model.jobs[at].seen.state == State::Scheduled {
            self.model.queue_up(at);
        }
    }

    async fn lease_ends(&mut self, at: usize) {
        self.set_time(at, State::Running).await;
        maintenance::rescue(&self.pool, &config()).await.unwrap();
        if self.model.jobs[at].seen.state == State::Running {
            self.model.end(at, &End::LeaseLost);
        }
    }

    /// Makes the time come that a job in this state waits for.
    async fn set_time(&self, at: usize, state: State) {
        sqlx::query("UPDATE queue_jobs SET order_us = 1 WHERE id = ? AND state = ?")
            .bind(self.model.jobs[at].id)
            .bind(state.as_str())
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn assert_agreement(&self) {
        for job in &self.model.jobs {
            let (state, claim_no, attempts, losses, snoozes, cancel): (String, u32, u32, u32, u32, bool) =
                sqlx::query_as(
                    "SELECT CAST(state AS CHAR), claim_no, attempts, lease_losses, snoozes, cancel_requested \
                     FROM queue_jobs WHERE id = ?",
                )
                .bind(job.id)
                .fetch_one(&self.pool)
                .await
                .unwrap();
            let state = state.parse().unwrap();
            let seen = Seen {
                state,
                claim_no,
                attempts,
                losses,
                snoozes,
                cancel_requested: cancel,
            };
            assert_eq!(seen, job.seen, "{job:?}");
        }
        let holders: Vec<(String, JobId)> = sqlx::query_as(
            "SELECT concurrency_key, job_id FROM queue_concurrency_keys ORDER BY concurrency_key",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let wanted: Vec<_> = self
            .model
            .holders
            .iter()
            .map(|(key, id)| (key.to_string(), *id))
            .collect();
        assert_eq!(holders, wanted);
        let uniques: Vec<(String, JobId)> =
            sqlx::query_as("SELECT unique_key, job_id FROM queue_unique_keys ORDER BY unique_key")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        let wanted: Vec<_> = self
            .model
            .uniques
            .iter()
            .map(|(key, id)| (key.to_string(), *id))
            .collect();
        assert_eq!(uniques, wanted);
        let blocked: Vec<JobId> = sqlx::query_scalar("SELECT job_id FROM queue_blocked ORDER BY job_id")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        let mut wanted: Vec<JobId> = self
            .model
            .jobs
            .iter()
            .filter(|job| job.seen.state == State::Blocked)
            .map(|job| job.id)
            .collect();
        wanted.sort_unstable();
        assert_eq!(blocked, wanted);
    }
}

async fn empty(pool: &MySqlPool) {
    for table in [
        "queue_jobs",
        "queue_unique_keys",
        "queue_concurrency_keys",
        "queue_blocked",
    ] {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")))
            .execute(pool)
            .await
            .unwrap();
    }
}

#[sqlx::test]
async fn random_histories_agree_with_the_model(pool: MySqlPool) {
    let mut runner = TestRunner::deterministic();
    let histories = std::env::var("HISTORIES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(40);
    for _ in 0..histories {
        empty(&pool).await;
        let ops = vec(op(), 1..60).new_tree(&mut runner).unwrap().current();
        let queue = Queue::new(pool.clone(), config());
        let mut machine = Machine {
            pool: pool.clone(),
            queue,
            model: Model::default(),
        };
        for (at, op) in ops.iter().enumerate() {
            // Shown when a later assertion fails.
            println!("{at}: {op:?}");
            machine.run(op).await;
            machine.assert_agreement().await;
        }
    }
}
