//! The emulator over real HTTP, one file per concern.

#![expect(clippy::unwrap_used, reason = "the support of tests fails as tests do")]

mod batches;
mod binary;
mod deviations;
mod fault_rules;
mod faults;
mod files;
mod ledger;
mod paging;
mod scale;
mod search;
mod store_files;
mod support;
mod yandex;
