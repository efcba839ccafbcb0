//! Harness of the end-to-end tests: real binaries, real HTTP, a real MariaDB, and the emulator as the provider.
//!
//! `DATABASE_URL` names a server on which databases may be created; `RAG_BIN_DIR` the folder of the built programs (by
//! default the one beside the test itself). `cargo xtask test` sets both.

#![expect(clippy::missing_panics_doc, reason = "a harness reports by panicking")]
#![expect(clippy::unwrap_used, reason = "a harness reports by panicking")]

mod client;
mod database;
mod program;
mod stack;

pub use client::{Answer, Client};
pub use database::TestDatabase;
pub use program::{Ended, Program, run};
pub use stack::{DOMAIN, PROVIDER_KEY, Stack, StackBuilder, free_address};

use std::time::{Duration, Instant};

/// Asks until the answer is there, or panics with what was waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
