//! The way in for programs: one connection that finds out whether this server and account will do, then the pool.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnection, MySqlPool};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::options::{Target, TargetError};
use crate::purpose::{Purpose, Unmet};
use crate::refusal::{Refusal, may_pass};
use crate::requirements;
use crate::{pool, session};

/// How long a server is waited for that does not answer, or not yet.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// Why the database cannot be used. Each line says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{}", list(address, unmet))]
    Requirements { address: String, unmet: Vec<Unmet> },
}

/// Connects as `uri` says (normalized by `rag-settings`), and refuses a server or account on which this product would work
/// only in part.
pub async fn connect_checked(
    uri: &str,
    max_connections: u32,
    purpose: Purpose,
) -> Result<MySqlPool, StartError> {
    let target = Target::parse(uri)?;
    let mut first = connect_once(&target).await?;
    let checked = check(&mut first, purpose).await;
    // What matters was said; how this connection ends does not.
    let _closed = first.close().await;
    // An account may be let in and refused everything: one whose password has expired, say.
    let unmet = checked.map_err(|error| Refusal::new(&target, error))?;
    if !unmet.is_empty() {
        let address = target.address();
        return Err(StartError::Requirements { address, unmet });
    }
    pool::connect(target.options(), max_connections)
        .await
        .map_err(|error| Refusal::new(&target, error).into())
}

async fn check(connection: &mut MySqlConnection, purpose: Purpose) -> Result<Vec<Unmet>, sqlx::Error> {
    let unmet = requirements::unmet(connection, purpose).await?;
    if unmet.is_empty() {
        sqlx::raw_sql(session::SETUP).execute(connection).await?;
    }
    Ok(unmet)
}

/// Without a pool, which would keep the reason to itself.
async fn connect_once(target: &Target) -> Result<MySqlConnection, Refusal> {
    let started = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(started.elapsed());
        let error = match tokio::time::timeout(left, target.options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_elapsed) => return Err(Refusal::no_answer(target, PATIENCE.as_secs())),
        };
        if !may_pass(&error) || started.elapsed() + PAUSE >= PATIENCE {
            return Err(Refusal::new(target, error));
        }
        tracing::debug!(%error, "the database does not answer yet");
        tokio::time::sleep(PAUSE).await;
    }
}

fn list(address: &str, unmet: &[Unmet]) -> String {
    let mut text = format!("the database at {address} cannot be used:");
    for one in unmet {
        let _infallible = write!(text, "\n  - {one}");
    }
    text
}
