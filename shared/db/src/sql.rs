//! How domain types meet columns.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use sqlx::mysql::MySqlQueryResult;
use sqlx::{MySql, QueryBuilder};

use crate::DbError;

/// A status column compares with any of these: `state IN ('a','b')`. The words are constants of `rag-domain`, never input.
pub(crate) fn in_list<T: Display>(words: &[T]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    format!("({})", quoted.join(","))
}

/// Rows per statement, where a statement has many.
pub(crate) const CHUNK: usize = 1000;

/// The end of a list's query, newest first; `before` is the (created_at, id) of the last row of the page before.
pub(crate) fn newest_first<I: Display + Send + 'static>(
    query: &mut QueryBuilder<MySql>,
    before: Option<(DateTime<Utc>, I)>,
    limit: u32,
) {
    if let Some((created_at, id)) = before {
        query.push(" AND (created_at, id) < (").push_bind(created_at);
        query.push(", ").push_bind(Text(id)).push(")");
    }
    query
        .push(" ORDER BY created_at DESC, id DESC LIMIT ")
        .push_bind(limit);
}

/// The rule of one transition: exactly one row moved.
pub(crate) fn exactly_one(
    result: &MySqlQueryResult,
    what: &'static str,
    id: impl Display,
) -> Result<(), DbError> {
    match result.rows_affected() {
        1 => Ok(()),
        _ => Err(DbError::Conflict {
            what,
            id: id.to_string(),
        }),
    }
}

/// A domain type that is text in the database: ids and statuses.
///
/// `TEXT` columns are compared and decoded through their one spelling in `rag-domain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<T>(pub T);

impl<T> sqlx::Type<sqlx::MySql> for Text<T> {
    fn type_info() -> sqlx::mysql::MySqlTypeInfo {
        <str as sqlx::Type<sqlx::MySql>>::type_info()
    }

    fn compatible(ty: &sqlx::mysql::MySqlTypeInfo) -> bool {
        <str as sqlx::Type<sqlx::MySql>>::compatible(ty)
    }
}

impl<'q, T: Display> sqlx::Encode<'q, sqlx::MySql> for Text<T> {
    fn encode_by_ref(&self, buffer: &mut Vec<u8>) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        <String as sqlx::Encode<'q, sqlx::MySql>>::encode(self.0.to_string(), buffer)
    }
}

impl<'r, T> sqlx::Decode<'r, sqlx::MySql> for Text<T>
where
    T: TryFrom<String>,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    fn decode(value: sqlx::mysql::MySqlValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        let text = <String as sqlx::Decode<'r, sqlx::MySql>>::decode(value)?;
        Ok(Self(T::try_from(text)?))
    }
}

/// Lets rows hold the domain types themselves: `#[sqlx(try_from = "Text<IndexId>")]`.
macro_rules! unwrap_text {
    ($($name:ident),+ $(,)?) => {
        $(impl From<Text<rag_domain::$name>> for rag_domain::$name {
            fn from(text: Text<Self>) -> Self {
                text.0
            }
        })+
    };
}

unwrap_text!(
    ApiKeyId,
    AttachmentId,
    AttachmentState,
    DomainId,
    FileId,
    FindingKind,
    IndexId,
    IndexingStatus,
    IntentId,
    ItemState,
    UploadId,
    UploadStatus
);
