//! Logs.

use super::section;
use crate::setting::{choice, text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

section! {
    TelemetrySettings in "telemetry" {
        log_format: LogFormat = choice(
            "LOG_FORMAT",
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            "text or json; logs go to stderr",
        ).default("text"),
        /// In the syntax of tracing-subscriber's `EnvFilter`.
        log_filter: String = text(
            "RUST_LOG",
            "Log filter, e.g. info,rag_api=debug",
        ).default("info"),
    }
}
