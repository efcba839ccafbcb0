//! Every environment variable of the programs, one section per concern, typed.
//!
//! [`Settings::from_env`] reads them all and reports every invalid one at once. A variable's name, default, range and help are
//! declared in one place, beside its field (`sections`); [`settings`] is the list of them, and `rag-api settings`,
//! `docs/settings.md` and `deploy/env.example` are made from it. Secrets are [`secrecy::SecretString`]s and print as
//! `[REDACTED]`.
//!
//! Not here: what a value is used for (the crates that use it), and the format of `PROVIDER_SECRETS_KEY` (rag-secrets).

mod database_uri;
mod documents;
mod reader;
mod sections;
mod setting;
mod values;

pub use database_uri::{DatabaseUri, DatabaseUriError};
pub use documents::{env_example, markdown_table, render_effective, render_table};
pub use reader::{InvalidSetting, SettingsError};
pub use sections::{
    ApiAuth, ApiSettings, DatabaseSettings, FilesSettings, LogFormat, ProviderSettings, QueueSettings,
    SyncSettings, TelemetrySettings, WorkerSettings,
};
pub use setting::Setting;

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
        Self::from_lookup(environment)
    }

    /// Reads from any source of `name -> value`. An empty or blank value counts as not set.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        match read_all(&lookup) {
            (Some(settings), reader) if reader.invalid.is_empty() => Ok(settings),
            (_, reader) => Err(SettingsError {
                invalid: reader.invalid,
            }),
        }
    }
}

/// The process environment, as a source of settings.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Every setting, in the order in which it is documented.
pub fn settings() -> Vec<Setting> {
    let reader = read_all(&|_| None).1;
    reader
        .effective
        .into_iter()
        .map(|effective| effective.setting)
        .collect()
}

/// Reads every section, whatever is invalid in those before it.
fn read_all(lookup: &dyn Fn(&str) -> Option<String>) -> (Option<Settings>, Reader<'_>) {
    let mut reader = Reader::new(lookup);
    let database = DatabaseSettings::read(&mut reader);
    let api = ApiSettings::read(&mut reader);
    let worker = WorkerSettings::read(&mut reader);
    let queue = QueueSettings::read(&mut reader);
    let files = FilesSettings::read(&mut reader);
    let providers = ProviderSettings::read(&mut reader);
    let sync = SyncSettings::read(&mut reader);
    let telemetry = TelemetrySettings::read(&mut reader);
    let settings = || {
        Some(Settings {
            database: database?,
            api: api?,
            worker: worker?,
            queue: queue?,
            files: files?,
            providers: providers?,
            sync: sync?,
            telemetry: telemetry?,
        })
    };
    (settings(), reader)
}

#[cfg(test)]
mod tests;
