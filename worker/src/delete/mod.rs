//! Deletions: of an index, of its store alone, of a file; and what all of them, builds and maintenance carry out at a provider.
//!
//! | module | what |
//! |---|---|
//! | `index` | a deleted index: its store, the copies that nothing else needs, its rows |
//! | `store` | the store of an index on its own command; the index stays |
//! | `file` | a deleted file: its copies at every provider, its contents, its rows |
//! | `file_from_store` | a deleted file leaves the store of one index |
//! | `detach` | files are taken out of a store |
//! | `pending` | deletions that wait at a provider, written down as intents without a claim |
//! | `abandoned_uploads` | uploads that no job will take up again |
//! | `unconfirmed_store` | a store whose creation was never answered |
//! | `disown` | what was made under a claim that is lost |
//!
//! An index and its store are deleted by the store first: one call takes all files out of it.

pub(crate) mod abandoned_uploads;
pub(crate) mod detach;
pub(crate) mod disown;
pub(crate) mod file;
pub(crate) mod file_from_store;
pub(crate) mod index;
pub(crate) mod pending;
pub(crate) mod store;
mod unconfirmed_store;
