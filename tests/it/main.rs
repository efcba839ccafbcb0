//! End to end: real programs, real HTTP, a real MariaDB.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod absence;
mod architecture;
mod behind;
mod build;
mod canaries;
mod cancel;
mod concurrency;
mod crash;
mod deletion;
mod document;
mod events;
mod exhausted;
mod fleet;
mod guises;
mod index_sync;
mod killing;
mod large_build;
mod late_effects;
mod ledger;
mod live;
mod mariadb_accounts;
mod mariadb_refusals;
mod mariadb_rights;
mod mariadb_settings;
mod mariadb_tls;
mod orphans;
mod outage;
mod probe;
mod provider_cases;
mod provider_reality;
mod provider_sync;
mod provider_uploads;
mod racing;
mod real_servers;
mod review;
mod secrets;
mod server_errors;
mod store_settings;
mod stuck;
mod switchover;
mod sync_crash;
mod trouble;
mod wait;
mod waiting;
