//! The program `rag-api`: its commands. Each is a small file; this one says which there are.

mod files_root;
mod keys;
mod migrate;
mod providers;
mod secrets;
mod serve;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use rag_connections::Connections;
use rag_mariadb::Purpose;
use rag_settings::Settings;
use sqlx::MySqlPool;

/// The HTTP API of rag-indexer. Settings are environment variables: `rag-api settings` lists them.
#[derive(Debug, Parser)]
#[command(name = "rag-api", version, about, after_help = rag_settings::render_table())]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API (the default)
    Serve,
    /// Bring the database schema to this version; safe to run from several places at once
    Migrate,
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Maintain the sealed secrets in the database
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// Try out what a provider can do
    #[command(subcommand)]
    Providers(providers::Command),
    /// Print the settings in force, and where each comes from; secrets are masked. `--help` explains them
    Settings,
    /// Print the OpenAPI document
    Openapi,
}

/// Runs one command to its end.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(&read_settings()?).await,
        Command::Migrate => migrate::migrate(&read_settings()?).await,
        Command::Keys(command) => keys::run(command, &read_settings()?).await,
        Command::Secrets(command) => secrets::run(command, &read_settings()?).await,
        Command::Providers(command) => providers::run(command, &read_settings()?).await,
        Command::Settings => {
            print!("{}", rag_settings::render_effective(rag_settings::environment));
            Ok(())
        }
        Command::Openapi => {
            println!(
                "{}",
                crate::document()
                    .to_pretty_json()
                    .context("the document could not be written")?
            );
            Ok(())
        }
    }
}

/// Settings first, then logs, so that everything after can be logged.
fn read_settings() -> Result<Settings> {
    let settings = Settings::from_env()?;
    rag_telemetry::init_logs(&settings.telemetry)?;
    Ok(settings)
}

/// Refuses a server that will not do for `purpose`.
async fn connect(settings: &Settings, purpose: Purpose) -> Result<MySqlPool> {
    let database = &settings.database;
    Ok(rag_mariadb::connect_checked(database.uri.expose(), database.max_connections, purpose).await?)
}

fn connections(settings: &Settings, pool: MySqlPool) -> Result<Connections> {
    Connections::from_settings(&settings.providers, pool).context("PROVIDER_SECRETS_KEY is not usable")
}
