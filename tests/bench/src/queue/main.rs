//! Measures the job queue against the bound that raw SQL sets on the same server, in one run, and prints tables.
//!
//! ```text
//! cargo build --release -p apalis-mariadb -p rag-bench
//! DATABASE_URL=mysql://user:password@host/mysql target/release/queue [part…]
//! ```
//!
//! Parts: `throughput`, `enqueue`, `latency`, `idle`; all of them unless named. `WAITING=0,10000,100000,1000000` and
//! `SECONDS=4` set the backlogs and the time per cell. The server should serve nobody else meanwhile; figures compare
//! within one run only.

mod database;
mod enqueue;
mod latency;
mod raw;
mod throughput;
mod worker;

use anyhow::Result;

#[tokio::main]
async fn main() -> Result<()> {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|other| other == part);
    let database = database::Database::create().await?;
    let measured = async {
        if wanted("enqueue") {
            enqueue::measure(&database).await?;
        }
        if wanted("latency") {
            latency::measure(&database).await?;
        }
        if wanted("idle") {
            latency::measure_idle(&database).await?;
        }
        if wanted("throughput") {
            throughput::measure(&database).await?;
        }
        anyhow::Ok(())
    }
    .await;
    database.drop().await?;
    measured
}
