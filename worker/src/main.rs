//! `rag-worker`: runs jobs until it is told to stop. Settings come from the environment: `docs/settings.md`.

use std::process::ExitCode;

use anyhow::Context as _;
use rag_settings::Settings;
use rag_telemetry::Metrics;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rag-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    rag_telemetry::init_logs(&settings.telemetry)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let metrics = Metrics::install()?;
        let shutdown = rag_telemetry::shutdown_signal().context("cannot listen for signals")?;
        rag_worker::run(settings, metrics, shutdown).await
    })
}
