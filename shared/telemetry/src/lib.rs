//! What both programs share in showing what they do: logs, metrics, and the signal that ends them.
//!
//! Not here: what is logged or counted (each crate names its own events and metrics), and the HTTP routes that serve
//! [`Metrics::render`].

mod growing;
mod logs;
mod metrics_recorder;
mod shutdown;

pub use growing::Growing;
pub use logs::{LogsError, init_logs};
pub use metrics_recorder::{Metrics, MetricsError};
pub use shutdown::shutdown_signal;
