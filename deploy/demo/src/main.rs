//! The demo's client: indexes a folder of documents through the API and shows what happened. This file has the command
//! line and the order of events. It speaks HTTP only and knows nothing of the database, the queue or the worker.

mod api;
mod chunks;
mod documents;
mod error;
mod progress;
mod report;
mod search;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

use api::{Api, Job};
use documents::{Document, Documents};
use progress::Progress;

/// Uploads at the same time.
const UPLOADS: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Indexes a folder of documents through rag-api, shows the progress, the result per file and a search answer.
#[derive(Debug, Parser)]
#[command(name = "rag-demo", version)]
struct Arguments {
    /// The API's address, without a path.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    api: String,

    /// The domain to work in.
    #[arg(long, default_value = "demo")]
    domain: String,

    /// Key with the role `admin`: sets the provider connection.
    #[arg(long, env = "RAG_DEMO_ADMIN_KEY", hide_env_values = true)]
    admin_key: String,

    /// Key with the role `service`: does everything else.
    #[arg(long, env = "RAG_DEMO_SERVICE_KEY", hide_env_values = true)]
    service_key: String,

    /// The provider to index at.
    #[arg(long, default_value = "sentralix")]
    provider_type: String,

    /// The provider's address, with its `/v1`.
    #[arg(long)]
    provider_url: String,

    /// The provider's key.
    #[arg(long, env = "RAG_DEMO_PROVIDER_KEY", hide_env_values = true)]
    provider_key: String,

    /// Where the provider is the emulator: its address, to ask for the number of chunks per file.
    #[arg(long)]
    emulator_control: Option<String>,

    /// What to search for at the end (default: words from one of the documents).
    #[arg(long)]
    query: Option<String>,

    /// Give up when nothing has moved for so long.
    #[arg(long, default_value_t = 300)]
    patience_seconds: u64,

    /// The folder to index.
    folder: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rag-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // The only place that may fail is a second installation, and there is none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let with_binaries = arguments.emulator_control.is_none();
    let documents = Documents::find(&arguments.folder, with_binaries).context("reading the folder")?;
    print!("{}", report::found(&documents));
    let api = Api::new(
        &arguments.api,
        &arguments.domain,
        &arguments.admin_key,
        &arguments.service_key,
    )?;

    api.connect_provider(
        &arguments.provider_type,
        &arguments.provider_url,
        &arguments.provider_key,
    )
    .await?;
    println!(
        "Provider    {} at {}",
        arguments.provider_type, arguments.provider_url
    );
    let index_id = api.create_index(&index_request(&arguments, &documents)).await?;
    println!("Index       {index_id}");
    let uploaded = upload(&api, &index_id, &documents.list).await?;
    let job = api.build(&index_id).await?;
    println!("Build       job {} accepted\n", job.id);

    let job = follow(
        &api,
        job,
        uploaded.len() as u64,
        Duration::from_secs(arguments.patience_seconds),
    )
    .await?;
    let status = api.index_status(&index_id).await?;
    let files = api.provider_files(&index_id).await?;
    let chunks = match (&arguments.emulator_control, &status.external_id) {
        (Some(control), Some(store)) => chunks::per_file(&api.http, control, store).await?,
        _ => HashMap::new(),
    };
    print!("\n{}", report::table(&files, &uploaded, &chunks));
    print!("{}", report::outcome(&status, &files, &uploaded, &job));
    if status.indexing_status != "done" {
        return Ok(ExitCode::FAILURE);
    }

    let store = status
        .external_id
        .context("the index is done, but has no vector store")?;
    let query = arguments
        .query
        .or_else(|| documents.query())
        .context("no document has words to search for")?;
    let hits = search::ask(
        &api,
        &index_id,
        &arguments.provider_url,
        &arguments.provider_key,
        &store,
        &query,
    )
    .await?;
    print!("{}", report::hits(&query, &hits, &documents));
    Ok(if search::is_answered(&query, &hits) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn index_request(arguments: &Arguments, documents: &Documents) -> serde_json::Value {
    let name = documents
        .root
        .file_name()
        .map_or_else(|| "root".into(), |name| name.to_string_lossy());
    json!({
        "name": format!("Demo: {name}"),
        "provider_type": arguments.provider_type,
        "description": "Made by the demo",
    })
}

/// Uploads every document with its own strategy and links it to the index. Answers the documents by file id.
async fn upload<'a>(
    api: &Api,
    index_id: &str,
    documents: &'a [Document],
) -> anyhow::Result<HashMap<String, &'a Document>> {
    let started = Instant::now();
    let uploads = documents.iter().enumerate().map(|(order, document)| async move {
        let file_id = api.upload(document).await?;
        api.link(index_id, &file_id, order).await?;
        Ok::<_, error::DemoError>((file_id, document))
    });
    let uploaded: HashMap<_, _> = futures::stream::iter(uploads)
        .buffer_unordered(UPLOADS)
        .try_collect()
        .await?;
    let seconds = started.elapsed().as_secs_f32();
    println!(
        "Files       {} uploaded to the API and linked to the index ({seconds:.1} s)",
        uploaded.len()
    );
    Ok(uploaded)
}

/// Polls the job until it ends, showing its progress.
async fn follow(api: &Api, mut job: Job, files: u64, patience: Duration) -> anyhow::Result<Job> {
    let mut progress = Progress::new(files);
    let mut moved = Instant::now();
    loop {
        if progress.show(&job) {
            moved = Instant::now();
        }
        if job.has_ended() {
            progress.finish();
            return Ok(job);
        }
        if moved.elapsed() > patience {
            progress.finish();
            let seconds = patience.as_secs();
            anyhow::bail!(
                "the build has not moved for {seconds} s (job {}, {})",
                job.id,
                job.state
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
        job = api.job(&job.id).await?;
    }
}
