//! `rag-api keys …`: who may call the API.

use anyhow::{Result, bail};
use clap::Subcommand;
use rag_db::api_keys::{self, ApiKey};
use rag_domain::ApiKeyId;
use rag_mariadb::Purpose;
use rag_settings::Settings;
use secrecy::ExposeSecret as _;
use sqlx::MySqlConnection;

use crate::auth::{KeyRequest, Role};
use crate::validate::Checks;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key and print it; it is shown this once and stored nowhere
    Create {
        /// Whose key it is, for the list
        #[arg(long)]
        name: String,
        #[arg(long, value_enum, default_value = "service")]
        role: Role,
        /// A domain that the key may name in X-Domain-Id; repeat for several. Without: every domain. Service keys only
        #[arg(long = "domain", value_name = "DOMAIN")]
        domains: Vec<String>,
    },
    /// List all keys, without the keys themselves
    List,
    /// Revoke a key; it stops working within seconds
    Revoke { id: String },
}

pub(super) async fn run(command: Command, settings: &Settings) -> Result<()> {
    let db = super::connect(settings, Purpose::Command).await?;
    rag_db::check_schema(&db).await?;
    let mut connection = db.acquire().await?;
    match command {
        Command::Create { name, role, domains } => create(&mut connection, &name, role, domains).await,
        Command::List => list(&mut connection).await,
        Command::Revoke { id } => revoke(&mut connection, &id).await,
    }
}

async fn create(db: &mut MySqlConnection, name: &str, role: Role, domains: Vec<String>) -> Result<()> {
    let request = KeyRequest {
        name: name.to_owned(),
        role,
        domains,
    };
    let mut checks = Checks::default();
    request.check(&mut checks);
    if let Err(problem) = checks.finish() {
        bail!("{}", problem.detail());
    }
    let (id, key) = request.issue(db).await?;
    eprintln!("Made {} key {id}. It is shown this once:", role.as_str());
    println!("{}", key.expose_secret());
    Ok(())
}

async fn list(db: &mut MySqlConnection) -> Result<()> {
    println!(
        "{:36}  {:8}  {:24}  {:24}  domains",
        "id", "role", "created", "name"
    );
    for key in api_keys::list(db).await? {
        println!("{}", line(&key));
    }
    Ok(())
}

fn line(key: &ApiKey) -> String {
    let domains = key
        .domains
        .as_ref()
        .map_or_else(|| "(every)".to_owned(), |domains| domains.join(", "));
    let revoked = if key.revoked_at.is_some() { "  REVOKED" } else { "" };
    let created = key.created_at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    format!(
        "{}  {:8}  {created:24}  {:24}  {domains}{revoked}",
        key.id, key.role, key.name
    )
}

async fn revoke(db: &mut MySqlConnection, id: &str) -> Result<()> {
    let id: ApiKeyId = id.parse()?;
    if !api_keys::revoke(db, id).await? {
        bail!("there is no key {id} in force");
    }
    eprintln!("Revoked {id}.");
    Ok(())
}
