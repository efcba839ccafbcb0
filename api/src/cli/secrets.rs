//! `rag-api secrets …`: maintenance of the sealed secrets in the database.

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use rag_connections::Connections;
use rag_db::connections::{self, Connection, SealedColumn};
use rag_mariadb::Purpose;
use rag_secrets::Keyring;
use rag_settings::Settings;
use serde_json::Value;
use sqlx::MySqlConnection;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Seal every stored secret with the first key of PROVIDER_SECRETS_KEY; safe while the service runs, and to repeat
    Reseal,
}

pub(super) async fn run(command: Command, settings: &Settings) -> Result<()> {
    let db = super::connect(settings, Purpose::Command).await?;
    rag_db::check_schema(&db).await?;
    let connections = super::connections(settings, db.clone())?;
    match command {
        Command::Reseal => reseal(&mut *db.acquire().await?, &connections).await,
    }
}

/// The outcome for one envelope.
enum Resealed {
    Yes,
    /// It is sealed with the first key already.
    Current,
    /// Another process has replaced it meanwhile.
    Replaced,
}

async fn reseal(db: &mut MySqlConnection, connections: &Connections) -> Result<()> {
    let keyring = connections.keyring().context("PROVIDER_SECRETS_KEY is not set")?;
    let (mut done, mut current, mut failed) = (0_u32, 0_u32, 0_u32);
    for row in connections::list(db).await? {
        for column in [SealedColumn::Credentials, SealedColumn::Token] {
            match reseal_column(db, keyring, &row, column).await {
                Ok(None) => {}
                Ok(Some(Resealed::Yes)) => done += 1,
                Ok(Some(Resealed::Current)) => current += 1,
                Ok(Some(Resealed::Replaced)) => {
                    println!(
                        "{} {}: replaced meanwhile; run this once more",
                        row.provider_type,
                        column.as_str()
                    );
                    failed += 1;
                }
                Err(error) => {
                    println!("{} {}: {error:#}", row.provider_type, column.as_str());
                    failed += 1;
                }
            }
        }
    }
    println!(
        "{done} sealed anew with key {}, {current} were so already, {failed} left",
        keyring.current_key_id()
    );
    if failed > 0 {
        bail!("not every secret is sealed with the first key: keep the other keys");
    }
    Ok(())
}

/// `None`: the column is empty.
async fn reseal_column(
    db: &mut MySqlConnection,
    keyring: &Keyring,
    row: &Connection,
    column: SealedColumn,
) -> Result<Option<Resealed>> {
    let (provider, name) = (&row.provider_type, column.as_str());
    let sealed: Option<&Value> = match column {
        SealedColumn::Credentials => row.credentials_enc.as_ref(),
        SealedColumn::Token => row.token_enc.as_ref(),
    };
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    if keyring.is_current(sealed) {
        return Ok(Some(Resealed::Current));
    }
    let plaintext = keyring.open(provider, name, sealed)?;
    let anew = keyring.seal(provider, name, &plaintext)?;
    let replaced = connections::reseal(db, provider, column, sealed, &anew).await?;
    Ok(Some(if replaced {
        Resealed::Yes
    } else {
        Resealed::Replaced
    }))
}
