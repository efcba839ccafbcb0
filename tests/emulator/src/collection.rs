//! Objects in order of creation, found by id, read in pages. Pages cost what they return: no sorting, no copying.

use crate::{error::ApiError, ids::Id};
use std::collections::{BTreeMap, HashMap};

#[derive(Debug)]
pub(crate) struct Collection<T> {
    items: BTreeMap<u64, (Id, T)>,
    /// Never forgets an id: a cursor stays usable after its object was deleted.
    position_of: HashMap<Id, u64>,
    next: u64,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            position_of: HashMap::new(),
            next: 0,
        }
    }
}

/// Which page of a list is wanted.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    pub limit: usize,
    pub newest_first: bool,
    pub after: Option<String>,
    pub before: Option<String>,
    /// A cursor that names nothing is no cursor.
    pub ignore_unknown: bool,
}

#[derive(Debug)]
pub(crate) struct Page<'a, T> {
    pub items: Vec<(&'a Id, &'a T)>,
    pub has_more: bool,
}

impl<T> Collection<T> {
    /// Adds `item` as the newest; an item with the same id is replaced.
    pub(crate) fn insert(&mut self, id: Id, item: T) {
        self.next += 1;
        if let Some(old) = self.position_of.insert(id.clone(), self.next) {
            self.items.remove(&old);
        }
        self.items.insert(self.next, (id, item));
    }

    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        self.items.get(self.position_of.get(id)?).map(|(_, item)| item)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.items
            .get_mut(self.position_of.get(id)?)
            .map(|(_, item)| item)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<T> {
        self.items.remove(self.position_of.get(id)?).map(|(_, item)| item)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Id, &T)> {
        self.items.values().map(|(id, item)| (id, item))
    }

    /// The items that `keep` accepts, from the cursor on. With `before` (and no `after`) the page ends right before
    /// that cursor, and `has_more` speaks of what lies ahead of the page.
    pub(crate) fn page(
        &self,
        request: &PageRequest,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<'_, T>, ApiError> {
        let known = |id: &str| !request.ignore_unknown || self.position_of.contains_key(id);
        let cursor = |id: &'_ Option<String>| id.clone().filter(|id| known(id));
        let after = self.cursor(cursor(&request.after).as_deref(), "after")?;
        let before = self.cursor(cursor(&request.before).as_deref(), "before")?;
        let (low, high) = if request.newest_first {
            (before, after)
        } else {
            (after, before)
        };
        let (low, high) = (low.map_or(0, |low| low + 1), high.unwrap_or(u64::MAX));
        let backwards = after.is_none() && before.is_some();

        let range = self
            .items
            .range(low.min(high)..high)
            .map(|(_, (id, item))| (id, item));
        let wanted = request.limit + 1;
        let kept = |(_, item): &(&Id, &T)| keep(item);
        let mut items: Vec<_> = if request.newest_first == backwards {
            range.filter(kept).take(wanted).collect()
        } else {
            range.rev().filter(kept).take(wanted).collect()
        };
        let has_more = items.len() == wanted;
        items.truncate(request.limit);
        if backwards {
            items.reverse();
        }
        Ok(Page { items, has_more })
    }

    fn cursor(&self, id: Option<&str>, param: &'static str) -> Result<Option<u64>, ApiError> {
        let Some(id) = id else { return Ok(None) };
        let position = self.position_of.get(id);
        position.copied().map(Some).ok_or_else(|| {
            ApiError::invalid(
                format!("Invalid '{param}': no object with id '{id}' was found."),
                param,
            )
        })
    }
}
