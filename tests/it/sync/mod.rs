//! Syncs: of one index, of a domain, and of a whole provider.

mod crash;
pub(crate) mod index;
pub(crate) mod provider;
mod strategies;
