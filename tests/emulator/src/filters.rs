//! Attribute filters of a search: comparisons, joined by `and` and `or` to any depth.

use crate::error::ApiError;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::cmp::Ordering;

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Filter {
    And { filters: Vec<Filter> },
    Or { filters: Vec<Filter> },
    Eq { key: String, value: Value },
    Ne { key: String, value: Value },
    Gt { key: String, value: Value },
    Gte { key: String, value: Value },
    Lt { key: String, value: Value },
    Lte { key: String, value: Value },
    In { key: String, value: Value },
    Nin { key: String, value: Value },
}

impl Filter {
    /// Refuses values that the protocol has no meaning for.
    pub(crate) fn validate(&self) -> Result<(), ApiError> {
        let refuse = |message: &str| Err(ApiError::invalid(message, "filters"));
        match self {
            Self::And { filters } | Self::Or { filters } => filters.iter().try_for_each(Self::validate),
            Self::In { value, .. } | Self::Nin { value, .. } => match value {
                Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_number()) => {
                    Ok(())
                }
                _ => refuse("Invalid filter: 'in' and 'nin' take an array of strings or numbers."),
            },
            Self::Gt { value, .. }
            | Self::Gte { value, .. }
            | Self::Lt { value, .. }
            | Self::Lte { value, .. }
                if !value.is_number() && !value.is_string() =>
            {
                refuse("Invalid filter: order comparisons take a number or a string.")
            }
            Self::Eq { value, .. } | Self::Ne { value, .. }
                if !(value.is_string() || value.is_number() || value.is_boolean()) =>
            {
                refuse("Invalid filter: a value is a string, a number or a boolean.")
            }
            _ => Ok(()),
        }
    }

    /// A missing attribute, or one of another type, equals nothing and has no order.
    pub(crate) fn accepts(&self, attributes: &Map<String, Value>) -> bool {
        let compare = |key: &str, value: &Value| attributes.get(key).and_then(|own| order(own, value));
        match self {
            Self::And { filters } => filters.iter().all(|filter| filter.accepts(attributes)),
            Self::Or { filters } => filters.iter().any(|filter| filter.accepts(attributes)),
            Self::Eq { key, value } => compare(key, value) == Some(Ordering::Equal),
            Self::Ne { key, value } => compare(key, value) != Some(Ordering::Equal),
            Self::Gt { key, value } => compare(key, value) == Some(Ordering::Greater),
            Self::Gte { key, value } => compare(key, value).is_some_and(Ordering::is_ge),
            Self::Lt { key, value } => compare(key, value) == Some(Ordering::Less),
            Self::Lte { key, value } => compare(key, value).is_some_and(Ordering::is_le),
            Self::In { key, value } => contains(key, value, attributes),
            Self::Nin { key, value } => !contains(key, value, attributes),
        }
    }
}

fn contains(key: &str, values: &Value, attributes: &Map<String, Value>) -> bool {
    let Some(own) = attributes.get(key) else {
        return false;
    };
    values.as_array().is_some_and(|values| {
        values
            .iter()
            .any(|value| order(own, value) == Some(Ordering::Equal))
    })
}

fn order(own: &Value, other: &Value) -> Option<Ordering> {
    match (own, other) {
        (Value::Number(own), Value::Number(other)) => own.as_f64()?.partial_cmp(&other.as_f64()?),
        (Value::String(own), Value::String(other)) => Some(own.cmp(other)),
        (Value::Bool(own), Value::Bool(other)) => Some(own.cmp(other)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn accepts(filter: Value) -> bool {
        let filter: Filter = serde_json::from_value(filter).unwrap();
        filter.validate().unwrap();
        let attributes = json!({ "lang": "ru", "year": 2024, "draft": false });
        filter.accepts(attributes.as_object().unwrap())
    }

    #[test]
    fn comparisons() {
        for (filter, expected) in [
            (json!({ "type": "eq", "key": "lang", "value": "ru" }), true),
            (json!({ "type": "eq", "key": "lang", "value": "en" }), false),
            (json!({ "type": "ne", "key": "missing", "value": "x" }), true),
            (json!({ "type": "gte", "key": "year", "value": 2024.0 }), true),
            (json!({ "type": "gt", "key": "year", "value": 2024 }), false),
            (json!({ "type": "lt", "key": "missing", "value": 1 }), false),
            (
                json!({ "type": "in", "key": "year", "value": [2023, 2024] }),
                true,
            ),
            (json!({ "type": "nin", "key": "lang", "value": ["ru"] }), false),
            (json!({ "type": "eq", "key": "draft", "value": false }), true),
        ] {
            assert_eq!(accepts(filter.clone()), expected, "{filter}");
        }
    }

    #[test]
    fn compounds_nest() {
        let old = json!({ "type": "lt", "key": "year", "value": 2000 });
        let russian = json!({ "type": "eq", "key": "lang", "value": "ru" });
        let or = json!({ "type": "or", "filters": [old, russian] });
        assert!(accepts(or.clone()));
        assert!(!accepts(json!({ "type": "and", "filters": [or, old] })));
    }
}
