//! Parts of SQL statements: moves of state machines, lists, pages, and domain types as columns.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use rag_domain::Transition;
use sqlx::mysql::MySqlQueryResult;
use sqlx::{Encode, MySql, QueryBuilder, Type};

use crate::DbError;

/// `column IN ('a','b')`. The states are constants of `rag-domain`, never input.
pub(crate) fn one_of<S: Display>(column: &str, states: &[S]) -> String {
    let quoted: Vec<String> = states.iter().map(|state| format!("'{state}'")).collect();
    format!("{column} IN ({})", quoted.join(","))
}

/// The two parts of the UPDATE that makes a move of a state machine.
pub(crate) struct Move {
    /// `column = 'a'`, for the SET.
    pub set: String,
    /// `column IN ('b','c')`, for the WHERE.
    pub legal: String,
}

/// Every move of a state machine is written with this, so that its WHERE is what `rag-domain` declares.
pub(crate) fn make_move<S: Display>(column: &str, transition: &Transition<S>) -> Move {
    Move {
        set: format!("{column} = '{}'", transition.to),
        legal: one_of(column, transition.from),
    }
}

/// Rows per statement, where a statement has many; a power of two.
pub(crate) const MOST_ROWS: usize = 512;

/// Rows for statements with many, in pieces whose lengths are powers of two: each length makes a statement that every
/// connection prepares once and keeps.
///
/// What is not kept is closed after its use, and sqlx 0.9.0 leaves Nagle's algorithm on: what is sent next over that
/// connection waits for 40 ms, until the server acknowledges the closing (sqlx's issue 4335). So no statement here is
/// built for one use.
pub(crate) fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = 1_usize.checked_shl(rest.len().checked_ilog2()?)?;
        let (piece, behind) = rest.split_at(length.min(MOST_ROWS));
        rest = behind;
        Some(piece)
    })
}

/// `(?, ?, …)` for `IN`. Of a few lengths, as for [`pieces`]: the last value again and again makes no difference.
pub(crate) fn push_list<'q, T>(query: &mut QueryBuilder<MySql>, values: impl IntoIterator<Item = T>)
where
    T: Clone + Encode<'q, MySql> + Type<MySql>,
{
    let values: Vec<T> = values.into_iter().collect();
    let length = if values.len() <= MOST_ROWS {
        values.len().next_power_of_two()
    } else {
        // A statement has 65,535 placeholders at most.
        values.len().next_multiple_of(MOST_ROWS)
    };
    let padding = values.last().cloned();
    query.push("(");
    let mut list = query.separated(", ");
    for value in values
        .into_iter()
        .chain(std::iter::repeat_n(padding, length).flatten())
        .take(length)
    {
        list.push_bind(value);
    }
    query.push(")");
}

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

/// The rule of every move: it affects exactly one row.
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

/// As [`exactly_one`], for a statement about this many rows.
pub(crate) fn exactly(count: usize, result: &MySqlQueryResult, what: &'static str) -> Result<(), DbError> {
    if result.rows_affected() == count as u64 {
        return Ok(());
    }
    Err(DbError::Conflict {
        what,
        id: format!("(one of {count})"),
    })
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
    SyncPhase,
    UploadId,
    UploadStatus
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_few_lengths_and_leave_nothing_out() {
        for rows in [0, 1, 2, 3, 50, 512, 513, 2000] {
            let all: Vec<usize> = (0..rows).collect();
            let mut seen = Vec::new();
            for piece in pieces(&all) {
                assert!(
                    piece.len().is_power_of_two() && piece.len() <= MOST_ROWS,
                    "{}",
                    piece.len()
                );
                seen.extend_from_slice(piece);
            }
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn lists_have_few_lengths() {
        for (values, list) in [
            (vec![1], "(?)"),
            (vec![1, 2], "(?, ?)"),
            (vec![1, 2, 3], "(?, ?, ?, ?)"),
        ] {
            let mut query = QueryBuilder::<MySql>::new("");
            push_list(&mut query, values);
            assert_eq!(query.sql().as_str(), list);
        }
        let mut query = QueryBuilder::<MySql>::new("");
        push_list(&mut query, 0..40_000);
        assert_eq!(query.sql().as_str().matches('?').count(), 40_448);
    }
}
