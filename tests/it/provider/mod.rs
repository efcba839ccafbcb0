//! Connections and accounts: limits, refusals, missing objects, whose files are whose, and what admins see of it.

mod concurrency_limits;
mod connection_changes;
mod credentials;
mod exclusive_accounts;
mod exhausted_accounts;
mod last_errors;
mod live_listing;
mod not_found;
mod ownership;
pub(crate) mod probe;
mod rate_limits;
mod server_deviations;
mod shared_limits;
mod uploads;
