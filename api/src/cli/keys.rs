//! `rag-api keys …`: who may call the API.

use anyhow::{Result, bail};
use clap::Subcommand;
use rag_db::api_keys::{self, ApiKey};
use rag_domain::ApiKeyId;
use rag_mariadb::Purpose;
use rag_settings::Settings;
use secrecy::ExposeSecret as _;
use sqlx::MySqlConnection;

use crate::http::auth::{Domains, KeyRequest, Role};
use crate::http::validate::Checks;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key and print it; it is shown this once and stored nowhere
    Create {
        /// Whose key it is, for the list
        #[arg(long)]
        name: String,
        #[arg(long, value_enum, default_value = "service")]
        role: Role,
        /// A domain that the key may name in X-Domain-Id; repeat for several. Service keys only
        #[arg(long = "domain", value_name = "DOMAIN")]
        domains: Vec<String>,
        /// A service key that may name every domain. Admin keys always may
        #[arg(long, conflicts_with = "domains")]
        all_domains: bool,
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
        Command::Create {
            name,
            role,
            domains,
            all_domains,
        } => {
            let domains = match (all_domains, domains.is_empty()) {
                (true, _) => Some(Domains::ALL),
                (false, false) => Some(Domains::Only(domains)),
                (false, true) if role == Role::Admin => None,
                (false, true) => bail!("say for which domains: --domain DOMAIN for each, or --all-domains"),
            };
            create(&mut connection, name, role, domains).await
        }
        Command::List => list(&mut connection).await,
        Command::Revoke { id } => revoke(&mut connection, &id).await,
    }
}

async fn create(db: &mut MySqlConnection, name: String, role: Role, domains: Option<Domains>) -> Result<()> {
    let request = KeyRequest { name, role, domains };
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
    let domains = match key.domains.as_deref() {
        None => "(all)".to_owned(),
        Some([]) => "(none)".to_owned(),
        Some(domains) => domains.join(", "),
    };
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
