//! The provider's description of a store, kept in its index's metadata beside the caller's own keys.

use rag_db::indexes::{self, Index, IndexChanges};
use serde_json::{Map, Value};
use sqlx::MySqlConnection;

use crate::step_error::StepError;

/// The key of an index's metadata under which the provider's description of the store is kept.
pub(crate) const PAYLOAD: &str = "provider_payload";

/// The caller's own metadata with the provider's description of the store beside it. `None`: it is there already.
pub(crate) fn with_payload(metadata: Option<&Value>, payload: &Value) -> Option<Value> {
    let mut own = match metadata {
        Some(Value::Object(own)) => own.clone(),
        _ => Map::new(),
    };
    let older = own.insert(PAYLOAD.to_owned(), payload.clone());
    (older.as_ref() != Some(payload)).then_some(Value::Object(own))
}

/// Removes the description of a store that the index no longer has.
pub(crate) async fn forget_payload(db: &mut MySqlConnection, index: &Index) -> Result<(), StepError> {
    if let Some(Value::Object(mut metadata)) = index.metadata.clone()
        && metadata.remove(PAYLOAD).is_some()
    {
        let changes = IndexChanges {
            metadata: Some(Some(Value::Object(metadata))),
            ..IndexChanges::default()
        };
        indexes::update(db, &index.domain_id, index.id, &changes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_payload_stands_beside_the_callers_own_keys() {
        let payload = json!({"id": "vs_1"});
        let own = json!({"team": "ops"});
        let both = json!({"team": "ops", PAYLOAD: {"id": "vs_1"}});
        assert_eq!(with_payload(Some(&own), &payload), Some(both.clone()));
        assert_eq!(with_payload(Some(&both), &payload), None, "nothing new");
        assert_eq!(
            with_payload(None, &payload),
            Some(json!({PAYLOAD: {"id": "vs_1"}}))
        );
    }
}
