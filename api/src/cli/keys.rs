//! `rag-api keys …`: who may call the API.

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use rag_db::api_keys::{self, ApiKey};
use rag_domain::{ApiKeyId, DomainId};
use rag_settings::Settings;
use secrecy::ExposeSecret as _;
use sqlx::MySqlConnection;

use crate::auth::{Role, fingerprint, new_key};

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
    let db = super::connect(settings).await?;
    rag_db::check_schema(&db).await?;
    let mut connection = db.acquire().await?;
    match command {
        Command::Create { name, role, domains } => create(&mut connection, &name, role, domains).await,
        Command::List => list(&mut connection).await,
        Command::Revoke { id } => revoke(&mut connection, &id).await,
    }
}

async fn create(db: &mut MySqlConnection, name: &str, role: Role, domains: Vec<String>) -> Result<()> {
    if name.trim().is_empty() || name.chars().count() > 128 {
        bail!("--name must have 1 to 128 characters");
    }
    if role == Role::Admin && !domains.is_empty() {
        bail!("an admin key is for every domain: leave --domain out, or make a service key");
    }
    for domain in &domains {
        DomainId::try_from(domain.clone()).with_context(|| format!("--domain {domain:?}"))?;
    }
    let domains = (!domains.is_empty()).then_some(domains);
    let key = new_key();
    let id = ApiKeyId::new();
    api_keys::insert(
        db,
        id,
        name,
        role.as_str(),
        domains.as_deref(),
        &fingerprint(key.expose_secret()),
    )
    .await?;
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
