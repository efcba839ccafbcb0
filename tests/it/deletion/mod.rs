//! Deletions: of indexes, files and stores, and the search for what nothing refers to.

pub(crate) mod index_and_file;
pub(crate) mod orphans;
mod store;
