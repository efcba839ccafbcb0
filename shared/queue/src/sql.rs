//! What every statement shares: the database's clock, the isolation level, and trying again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt;
use sqlx::{MySql, MySqlPool, Transaction};

use crate::error::QueueError;

/// Microseconds since 1970 UTC by the database's clock, whatever the session's time zone.
macro_rules! now_us {
    () => {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    };
}
pub(crate) use now_us;

/// For statements about many rows: reads the clock once into [`NOTED_NOW`], where [`now_us!`] would do so for each row.
pub(crate) const NOTE_NOW: &str = concat!("SET @queue_now_us = ", now_us!(), "; ");
pub(crate) const NOTED_NOW: &str = "@queue_now_us";

/// REPEATABLE READ would lock the gaps that a claim walks over, and every claimer would wait for every other.
const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";

const TRIES: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A READ COMMITTED transaction, in one round trip.
pub(crate) async fn begin(pool: &MySqlPool) -> Result<Transaction<'static, MySql>, sqlx::Error> {
    pool.begin_with(BEGIN).await
}

/// Runs a transaction of our own again while what ends it is transient, for some seconds at most; `?` for what is not.
/// It must be safe to repeat when a commit's outcome is unknown. (A macro: a function over async closures would lose
/// the proof that its future is `Send`.)
macro_rules! retrying {
    ($run:expr) => {{
        let mut retries = $crate::sql::Retries::default();
        loop {
            match $run.await {
                Ok(answer) => break answer,
                Err(error) => retries.after(error).await?,
            }
        }
    }};
}
pub(crate) use retrying;

#[derive(Default)]
pub(crate) struct Retries {
    tries: u32,
}

impl Retries {
    /// Waits if it is worth another try.
    pub(crate) async fn after(&mut self, error: QueueError) -> Result<(), QueueError> {
        self.tries += 1;
        if !error.is_transient() || self.tries >= TRIES {
            return Err(error);
        }
        tracing::debug!(%error, tries = self.tries, "trying a queue transaction again");
        tokio::time::sleep(pause(self.tries)).await;
        Ok(())
    }
}

/// Grows from milliseconds (a deadlock is gone at once) to a second (a server restarts), with jitter.
pub(crate) fn pause(tries: u32) -> Duration {
    let ceiling = FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
    ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// A text as SQL: hexadecimal, so it needs no escaping, whatever the session's SQL mode.
pub(crate) fn text_literal(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut literal = String::with_capacity(text.len() * 2 + 12);
    literal.push_str("_utf8mb4 x'");
    for byte in text.bytes() {
        literal.push(char::from(DIGITS[usize::from(byte >> 4)]));
        literal.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    literal.push('\'');
    literal
}

/// The values, the last one again and again until their number is a power of two: for lists to whose meaning that adds
/// nothing. A few lengths make a few statements, which a connection prepares once and keeps. (What is not kept is closed
/// after its use, and sqlx 0.9.0 leaves Nagle's algorithm on: what is sent next over that connection then waits for
/// 40 ms, until the server acknowledges the closing.)
pub(crate) fn padded<T>(values: &[T]) -> impl Iterator<Item = &T> {
    let padding = values.last().into_iter().cycle();
    values
        .iter()
        .chain(padding)
        .take(values.len().next_power_of_two())
}

pub(crate) fn time_of(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}
