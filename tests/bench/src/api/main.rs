//! Measures the HTTP API, each part against a reference in the same run, and prints the figures.
//!
//! ```text
//! cargo build --release -p rag-api -p rag-bench --bins
//! DATABASE_URL=mysql://user:password@host/mysql target/release/api [part…]
//! ```
//!
//! Parts, all unless named:
//! - `status`: response times of `GET /indexes/{id}/status` against those of a bare axum server that selects one row by its
//!   primary key; all callers about the same index, then each about its own; at rest, and while they are being built. Both
//!   are asked in turn, in slices of a second: what disturbs one disturbs the other.
//! - `listeners`: statements a second on the database server with 10 and with 10,000 listeners to job events, and whether
//!   any of them misses how its job ends, though some reconnect on the way. The server must serve nobody else meanwhile, and
//!   `ulimit -n` must allow for the connections.
//!
//! `PAIRS=20` slices, `CALLERS=` (without it 8 and 64), `LISTENERS=10000` and `JOBS=200` set the sizes.

#![expect(clippy::cast_precision_loss, reason = "figures for people, of a few digits")]

mod bare;
mod listeners;
mod load;
mod setting;
mod status;

use anyhow::Result;

#[tokio::main]
async fn main() -> Result<()> {
    let _installed_already = rustls::crypto::ring::default_provider().install_default();
    let parts: Vec<String> = std::env::args().skip(1).collect();
    if let [part, address, uri] = &parts[..]
        && part == "bare"
    {
        return bare::serve(address, uri).await;
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|other| other == part);
    let setting = setting::Setting::create().await?;
    let measured = async {
        if wanted("status") {
            status::measure(&setting).await?;
        }
        if wanted("listeners") {
            listeners::measure(&setting).await?;
        }
        anyhow::Ok(())
    }
    .await;
    setting.drop().await?;
    measured
}

/// A size from the environment.
fn size(name: &str, default: usize) -> usize {
    let value = std::env::var(name).ok().and_then(|value| value.parse().ok());
    value.unwrap_or(default)
}
