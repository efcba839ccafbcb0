//! What one claim knows of a connection's abilities, and how it learns more: the row is read when the connection is opened,
//! and each new fact is written beside the others, unless the connection was changed meanwhile.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rag_db::DbError;
use rag_db::connections::{self, Connection};
use rag_providers::{Ability, Fact, LearnedCapabilities};
use serde_json::json;
use sqlx::MySqlConnection;

/// The learned capabilities of one version of a connection.
#[derive(Debug)]
pub struct Learned {
    provider_type: String,
    /// Of the row; facts of another version are not written into it.
    version: DateTime<Utc>,
    facts: Mutex<LearnedCapabilities>,
}

impl From<&Connection> for Learned {
    fn from(row: &Connection) -> Self {
        Self {
            provider_type: row.provider_type.clone(),
            version: row.updated_at,
            facts: Mutex::new(LearnedCapabilities::from_value(row.learned.as_ref())),
        }
    }
}

impl Learned {
    /// Whether the connection has the ability; `None`: that was never seen, or too long ago.
    pub fn holds(&self, ability: Ability) -> Option<bool> {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.holds(ability, Utc::now())
    }

    /// The connection was seen to have the ability, or to lack it. Only what is new is written.
    ///
    /// # Errors
    /// The database failed.
    pub async fn learn(
        &self,
        db: &mut MySqlConnection,
        ability: Ability,
        holds: bool,
        how: &str,
    ) -> Result<(), DbError> {
        if self.holds(ability) == Some(holds) {
            return Ok(());
        }
        let fact = Fact {
            holds,
            seen_at: Utc::now(),
            how: how.to_owned(),
        };
        let row = json!(fact);
        if connections::learn(db, &self.provider_type, self.version, ability.as_str(), &row).await? {
            tracing::info!(
                provider = self.provider_type,
                ability = ability.as_str(),
                holds,
                how,
                "learned"
            );
        }
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.insert(ability, fact);
        Ok(())
    }
}
