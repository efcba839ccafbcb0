//! Builds of an index: undisturbed, cancelled, killed, changed under way, and at providers that fail.

pub(crate) mod basic;
mod cancellation;
mod concurrent_commands;
mod crash;
mod indexing_timeouts;
mod large_build;
mod mid_build_changes;
mod provider_faults;
mod provider_profiles;
mod server_errors;
mod side_by_side;
mod store_mismatches;
mod store_settings;
