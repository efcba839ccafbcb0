//! Lists: `{"items": […], "next_cursor": …}`, newest first, with a cursor that stays valid while rows come and go.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::problem::Problem;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// Which part of a list to answer.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

/// The checked form of [`PageParams`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageRequest<I> {
    pub(crate) limit: u32,
    /// Creation time and id of the last item of the page before.
    pub(crate) before: Option<(DateTime<Utc>, I)>,
}

impl PageParams {
    pub(crate) fn check<I: FromStr>(&self) -> Result<PageRequest<I>, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::malformed(format!("limit must be 1 to {MAX_LIMIT}")));
        }
        let before = match self.cursor.as_deref() {
            None => None,
            Some(text) => Some(
                read_cursor(text)
                    .ok_or_else(|| Problem::malformed("cursor is not a next_cursor that this API gave"))?,
            ),
        };
        Ok(PageRequest { limit, before })
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Send it as `cursor` to get the next page; null: this was the last.
    pub(crate) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Takes one row more than asked for, which tells whether there is a next page.
    pub(crate) fn of<R, I: ToString>(
        mut rows: Vec<R>,
        limit: u32,
        position: impl Fn(&R) -> (DateTime<Utc>, I),
        view: impl Fn(R) -> T,
    ) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| {
            let (created_at, id) = position(last);
            URL_SAFE_NO_PAD.encode(format!("{}:{}", created_at.timestamp_micros(), id.to_string()))
        });
        Self {
            items: rows.into_iter().map(view).collect(),
            next_cursor,
        }
    }
}

fn read_cursor<I: FromStr>(text: &str) -> Option<(DateTime<Utc>, I)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (micros, id) = text.split_once(':')?;
    let created_at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
    // The database cannot compare other years.
    (0..=253_402_300_799)
        .contains(&created_at.timestamp())
        .then_some(())?;
    Some((created_at, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use rag_domain::FileId;

    use super::*;

    fn page(rows: Vec<(DateTime<Utc>, FileId)>, limit: u32) -> Page<FileId> {
        Page::of(rows, limit, |row| *row, |row| row.1)
    }

    #[test]
    fn a_full_page_names_the_place_of_its_last_item() {
        let at = DateTime::from_timestamp_micros(1_763_720_000_123_456).unwrap();
        let rows: Vec<_> = (0..3).map(|_| (at, FileId::new())).collect();
        let full = page(rows.clone(), 2);
        assert_eq!(full.items.len(), 2);
        let params = PageParams {
            limit: Some(2),
            cursor: full.next_cursor,
        };
        assert_eq!(params.check::<FileId>().unwrap().before, Some(rows[1]));
        assert_eq!(page(rows, 3).next_cursor, None);
    }

    #[test]
    fn made_up_cursors_and_limits_are_refused() {
        for cursor in [
            "",
            "x",
            "!!",
            "MTIz",
            &URL_SAFE_NO_PAD.encode("1:not-an-id"),
            &URL_SAFE_NO_PAD.encode(format!("-1:{}", FileId::new())),
        ] {
            let params = PageParams {
                limit: None,
                cursor: Some(cursor.to_owned()),
            };
            assert!(params.check::<FileId>().is_err(), "{cursor}");
        }
        for limit in [0, 201] {
            assert!(
                PageParams {
                    limit: Some(limit),
                    cursor: None
                }
                .check::<FileId>()
                .is_err()
            );
        }
    }
}
