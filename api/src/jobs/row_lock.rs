//! Workers lock a job's row for moments. A request that changes the job does not wait for the lock inside a transaction, but
//! rolls back and tries again.

use std::time::Duration;

use crate::http::problem::{Kind, Problem};

const PAUSE: Duration = Duration::from_millis(20);
const MAX_TRIES: u32 = 100;

/// Repeats `attempt` until it finds the row unlocked; it says `None` if not.
pub(crate) async fn until_unlocked<T, F>(attempt: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<Option<T>, Problem>>,
{
    for _ in 0..MAX_TRIES {
        if let Some(done) = attempt().await? {
            return Ok(done);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Problem::new(Kind::Unavailable, "the job is busy, try again"))
}
