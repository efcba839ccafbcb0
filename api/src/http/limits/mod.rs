//! What keeps one caller, or all of them together, from taking more than the process has: [`rate`] per key, [`shed`] for
//! everybody. Both are counted in each process for itself. How large headers may be, and how long they may take, is the
//! server's concern (`crate::http::server`); bodies and deadlines are set where the routes are grouped.

mod rate;
mod shed;

pub(crate) use rate::{Rates, limit_rate};
pub(crate) use shed::{Gates, Slot, hold_while_transferring, shed};
