//! `rag-api migrate`.

use anyhow::Result;
use rag_mariadb::Purpose;
use rag_settings::Settings;

pub(super) async fn migrate(settings: &Settings) -> Result<()> {
    let db = super::connect(settings, Purpose::Migrate).await?;
    rag_db::migrate(&db).await?;
    tracing::info!("the schema is up to date");
    Ok(())
}
