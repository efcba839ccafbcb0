//! The emulator as a program: prints one line when it is ready, ends at once on SIGTERM and SIGINT.

use clap::Parser;
use rag_emulator::{Emulator, Options};
use std::{net::SocketAddr, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// A vector-store provider that speaks the OpenAI protocol, keeps a ledger and injects faults.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(run(arguments));
    // Files still being read must not hold the exit.
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let emulator = Emulator::builder()
        .listen(arguments.listen)
        .options(arguments.options)
        .start()
        .await?;
    println!("rag-emulator listening on {}", emulator.url());
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    emulator.stop().await;
    Ok(())
}
