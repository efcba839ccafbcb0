//! The OpenAI dialect: which paths and fields there are, and what an answer must look like. A provider that differs says so in
//! its [`Profile`], or wraps [`OpenAiClient`] and handles its own quirks; nothing here knows a provider's name.

mod batches;
mod decode;
mod files;
mod profile;
mod provider;
mod setup;
mod stores;
mod uploads;

pub(crate) use profile::{HealthProbe, Profile, content_type_by_name, documented_capabilities};
pub(crate) use provider::{OpenAiClient, not_visible_yet};
pub(crate) use setup::{base_url, bearer_transport, check_sendable, transport, unusable};
