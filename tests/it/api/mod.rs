//! The API itself: waiting callers, events, its document, its limits, and secrets in its answers.

mod connection_limits;
mod document;
mod job_events;
mod leaked_secrets;
mod prefer_wait;
