//! Limits on requests: [`rate`] per key, [`shed`] for all callers together. Each process counts for itself. The limits of
//! headers are set in `crate::http::server`, those of bodies and deadlines in `crate::router`.

mod rate;
mod shed;

pub(crate) use rate::{Rates, limit_rate};
pub(crate) use shed::{Gates, Permit, hold_while_transferring, shed};
