//! Every environment variable of the programs, one section per concern, typed.
//!
//! [`Settings::from_env`] reads them all and reports every mistake at once. [`SETTINGS`] is the same list as data: names,
//! defaults and meanings for `rag-api settings` and for `docs/settings.md`; a default is written there and nowhere else.
//! Secrets are [`secrecy::SecretString`]s and print as `[REDACTED]`.
//!
//! Not here: what a value is used for (the crates that use it), and the format of `PROVIDER_SECRETS_KEY` (rag-secrets).

mod database_uri;
mod reader;
mod sections;
mod setting;
mod table;
mod values;

pub use database_uri::{DatabaseUri, DatabaseUriError};
pub use reader::{Mistake, SettingsError};
pub use sections::{
    ApiAuth, ApiSettings, DatabaseSettings, FilesSettings, LogFormat, ProviderSettings, QueueSettings,
    SyncSettings, TelemetrySettings, WorkerSettings,
};
pub use setting::{Setting, render_table};
pub use table::SETTINGS;

use reader::Reader;

/// All settings of one installation. Both programs read the same ones.
#[derive(Debug, Clone)]
pub struct Settings {
    pub database: DatabaseSettings,
    pub api: ApiSettings,
    pub worker: WorkerSettings,
    pub queue: QueueSettings,
    pub files: FilesSettings,
    pub providers: ProviderSettings,
    pub sync: SyncSettings,
    pub telemetry: TelemetrySettings,
}

impl Settings {
    /// Reads the process environment.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_lookup(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads from any source of `name -> value`. An empty or blank value counts as not set.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(&lookup);
        let database = DatabaseSettings::read(&mut reader);
        let api = ApiSettings::read(&mut reader);
        let worker = WorkerSettings::read(&mut reader);
        let queue = QueueSettings::read(&mut reader);
        let files = FilesSettings::read(&mut reader);
        let providers = ProviderSettings::read(&mut reader);
        let sync = SyncSettings::read(&mut reader);
        let telemetry = TelemetrySettings::read(&mut reader);
        let mistakes = reader.finish();
        match (database, api, worker, queue, files, providers, sync, telemetry) {
            (
                Some(database),
                Some(api),
                Some(worker),
                Some(queue),
                Some(files),
                Some(providers),
                Some(sync),
                Some(telemetry),
            ) if mistakes.is_empty() => Ok(Self {
                database,
                api,
                worker,
                queue,
                files,
                providers,
                sync,
                telemetry,
            }),
            _ => Err(SettingsError { mistakes }),
        }
    }
}

#[cfg(test)]
mod tests;
