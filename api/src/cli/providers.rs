//! `rag-api providers …`: what one does first at a new account.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apalis_mariadb::{JobKind as _, Queue, QueueConfig, State};
use clap::Subcommand;
use rag_jobs::{JobLimits, JobSpec as _, ProbeReport, ProbeVerdict, ProviderProbe};
use rag_mariadb::Purpose;
use rag_settings::Settings;
use tokio::time::Instant;

/// Pause between two polls of the job.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Then it is said that a worker is needed.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Try at a provider every operation that this service relies on, and print what works, differs or is missing. Needs a
    /// running worker. Ends with 0 if builds can work there, else with 1
    Probe {
        /// openai, sentralix or yandex: whichever has a connection
        provider_type: String,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
        /// Give up waiting after so many seconds; the probe itself goes on
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u64,
    },
}

pub(super) async fn run(command: Command, settings: &Settings) -> Result<()> {
    let Command::Probe {
        provider_type,
        json,
        timeout,
    } = command;
    let db = super::connect(settings, Purpose::Command).await?;
    rag_db::check_schema(&db).await?;
    let connections = super::connections(settings, db.clone())?;
    if !connections.registry().contains(&provider_type) {
        bail!("there is no provider type `{provider_type}`");
    }
    let queue = Queue::new(db.clone(), QueueConfig::default());
    let mut tx = db.begin().await?;
    let limits = JobLimits {
        build_max_attempts: settings.worker.build_max_attempts,
    };
    let job = ProviderProbe { provider_type }.to_job(limits)?;
    let enqueued = queue.enqueue(&mut tx, job).await?;
    tx.commit().await?;
    queue.notify(ProviderProbe::KIND);
    eprintln!("Job {}", enqueued.id);
    let report = wait(&queue, enqueued.id, Duration::from_secs(timeout)).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table(&report));
    }
    if report.verdict == ProbeVerdict::Unusable {
        bail!("{} can't be used as it is", report.provider_type);
    }
    Ok(())
}

async fn wait(queue: &Queue, id: apalis_mariadb::JobId, timeout: Duration) -> Result<ProbeReport> {
    let started = Instant::now();
    let mut said = false;
    loop {
        let job = queue.find_job(id).await?.context("the job is gone")?;
        match job.state {
            State::Done => {
                let output = job.output.context("the job has no output")?;
                return serde_json::from_value(output).context("the report can't be read");
            }
            State::Failed | State::Cancelled => {
                bail!(
                    "the probe is {}: {}",
                    job.state,
                    job.last_error.unwrap_or_default()
                );
            }
            State::Ready if started.elapsed() > PATIENCE && !said => {
                eprintln!("No worker has taken it yet: is one running?");
                said = true;
            }
            _ => {}
        }
        if started.elapsed() > timeout {
            bail!("the probe is still {} after {} s", job.state, timeout.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// For people.
fn table(report: &ProbeReport) -> String {
    let width = report
        .checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in &report.checks {
        let latency = check.latency_ms.map_or_else(String::new, |ms| format!("{ms} ms"));
        let _ = writeln!(
            text,
            "{:width$}  {:7}  {latency:>9}  {}",
            check.name,
            check.result.as_str(),
            check.detail
        );
    }
    for left in &report.left_behind {
        let _ = writeln!(text, "left behind, workers go on trying to delete it: {left}");
    }
    let seconds = report.duration_ms / 1000;
    let _ = writeln!(text, "{}: {} ({seconds} s)", report.provider_type, report.summary);
    text
}
