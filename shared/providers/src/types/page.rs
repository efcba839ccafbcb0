//! Pages, cursors, and the small answers every entity shares.

/// An opaque position in a listing. Only good for the listing (and the order) that handed it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(pub String);

impl Cursor {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// By `created_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first: entities created while a walk is under way are met at its end, never missed.
    Ascending,
    /// Newest first.
    Descending,
}

impl Order {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ascending => "asc",
            Self::Descending => "desc",
        }
    }
}

/// Which page to fetch. The default is the provider's first page in its own order and size (20 for stores, and so on).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Items a page; clamped to what the provider accepts.
    pub limit: Option<u32>,
    pub after: Option<Cursor>,
    pub order: Option<Order>,
}

/// One page. `next` is `None` only when the provider said that nothing follows.
#[derive(Debug, Clone)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<Cursor>,
}

/// The answer to a deletion or detachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    pub id: String,
    /// `false`: the provider answered that there was nothing to delete. Deleting twice is no error.
    pub existed: bool,
}

/// A change to one field that a provider lets be cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Patch<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}
