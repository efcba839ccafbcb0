//! Measures builds of indexes with the released programs, in turns with the official Python SDK where that does the same; prints
//! each bar with what was measured.
//!
//! ```text
//! cargo build --release -p rag-api -p rag-worker -p rag-emulator -p rag-bench --bins
//! DATABASE_URL=mysql://user:password@host/mysql target/release/builds [--pairs 5] [--only NAME]… [--large] [--write FILE]
//!     [--stores 2000] [--files 50]
//! ```
//!
//! Each run has a database, an API, workers and an emulator of its own. `--pairs`: how often ours and the SDK take turns; medians
//! are printed. `--only uploads --pairs 1` is a quick look; `work.rs` has the names. `--stores` and `--files`: how many stores, and
//! files of each, `syncs` has. `--large` adds what takes many minutes.
//! `--write` puts the tables into a document. The SDK's environment is made under the target folder (`python3` with `venv`, and
//! a package index for `pip`). The database server should serve nobody else meanwhile: its statements are counted.

mod arguments;
mod compared;
mod documents;
mod provider;
mod report;
mod sdk;
mod stack;
mod syncs;
mod usage;
mod work;

use anyhow::Result;

use arguments::Arguments;
use report::Report;

#[tokio::main]
async fn main() -> Result<()> {
    let _installed_already = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let mut report = Report::default();
    let measured = tokio::select! {
        measured = work::measure(&arguments, &mut report) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    // What there is, also after an error.
    println!("{}", report.text());
    measured?;
    if let Some(file) = &arguments.write {
        report.write_into(file)?;
    }
    Ok(())
}
