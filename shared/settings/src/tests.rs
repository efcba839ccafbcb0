//! The settings as a whole: defaults, mistakes, secrets, and the table against what is read.

use std::collections::HashMap;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::reader::Reader;
use crate::*;

const MINIMAL: (&str, &str) = ("DATABASE_URI", "mysql://rag:hunter2@db/rag");

fn read(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let map: HashMap<&str, &str> = pairs.iter().copied().collect();
    Settings::from_lookup(|name| map.get(name).map(|value| (*value).to_owned()))
}

fn mistakes(pairs: &[(&str, &str)]) -> Vec<&'static str> {
    read(pairs)
        .unwrap_err()
        .mistakes
        .iter()
        .map(|mistake| mistake.name)
        .collect()
}

#[test]
fn only_the_database_is_required() {
    let settings = read(&[MINIMAL]).unwrap();
    assert_eq!(settings.api.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.api.auth, ApiAuth::Keys);
    assert_eq!(settings.api.max_file_bytes, 512 * 1024 * 1024);
    assert_eq!(settings.worker.build_poll_max, Duration::from_secs(15));
    assert_eq!(settings.queue.retention, Duration::from_hours(14 * 24));
    assert_eq!(settings.files.root, std::path::Path::new("./data/files"));
    assert_eq!(settings.providers.default_domain_id, "0");
    assert!(settings.providers.secrets_key.is_none());
    assert!(!settings.providers.allow_loopback_http);
    assert_eq!(settings.telemetry.log_format, LogFormat::Text);
    assert_eq!(mistakes(&[]), ["DATABASE_URI"]);
}

#[test]
fn blank_counts_as_not_set() {
    let settings = read(&[MINIMAL, ("API_LISTEN", "  "), ("YC_FOLDER_ID", "")]).unwrap();
    assert_eq!(settings.api.listen.port(), 8080);
    assert_eq!(settings.providers.yc_folder_id, None);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let error = read(&[
        ("DATABASE_URI", "postgres://x/y"),
        ("API_LISTEN", "8080"),
        ("API_AUTH", "maybe"),
        ("WORKER_CONCURRENCY", "0"),
        ("BUILD_POLL_MIN_MS", "20000"),
        ("PROVIDER_ALLOW_LOOPBACK_HTTP", "perhaps"),
        ("YC_SA_KEY_JSON_B64", "%%%"),
        ("LOG_FORMAT", "xml"),
    ])
    .unwrap_err();
    let names: Vec<_> = error.mistakes.iter().map(|mistake| mistake.name).collect();
    assert_eq!(
        names,
        [
            "DATABASE_URI",
            "API_LISTEN",
            "API_AUTH",
            "WORKER_CONCURRENCY",
            "BUILD_POLL_MIN_MS",
            "PROVIDER_ALLOW_LOOPBACK_HTTP",
            "YC_SA_KEY_JSON_B64",
            "LOG_FORMAT"
        ]
    );
    let text = error.to_string();
    assert_eq!(text.lines().count(), 9, "{text}");
    assert!(
        text.contains("API_AUTH: `maybe` is not one of: keys, off"),
        "{text}"
    );
}

#[test]
fn the_service_account_key_is_decoded_and_checked() {
    // {"id":"k"} with a line break, as `base64` writes it.
    let settings = read(&[MINIMAL, ("YC_SA_KEY_JSON_B64", "eyJpZCI6\nImsifQ==")]).unwrap();
    assert_eq!(
        settings.providers.yc_service_account_key.unwrap().expose_secret(),
        r#"{"id":"k"}"#
    );
    // [] is JSON, but not a key.
    let error = read(&[MINIMAL, ("YC_SA_KEY_JSON_B64", "W10=")]).unwrap_err();
    assert!(error.to_string().contains("not a JSON object"));
}

#[test]
fn secrets_are_redacted_in_debug_output_and_in_mistakes() {
    let settings = read(&[
        MINIMAL,
        ("PROVIDER_SECRETS_KEY", "topsecret"),
        ("YC_SA_KEY_JSON_B64", "eyJpZCI6ImsifQ=="),
    ])
    .unwrap();
    let printed = format!("{settings:?}");
    for secret in ["hunter2", "topsecret", r#"{"id""#] {
        assert!(!printed.contains(secret), "{printed}");
    }
    let error = read(&[
        ("DATABASE_URI", "pg://u:hunter2@h/x"),
        ("YC_SA_KEY_JSON_B64", "c2VjcmV0"),
    ])
    .unwrap_err();
    assert!(!format!("{error:?}{error}").contains("hunter2"));
    assert!(!error.to_string().contains("c2VjcmV0"));
}

#[test]
fn the_table_lists_exactly_what_is_read() {
    let lookup = |name: &str| (name == MINIMAL.0).then(|| MINIMAL.1.to_owned());
    let mut reader = Reader::new(&lookup);
    DatabaseSettings::read(&mut reader);
    ApiSettings::read(&mut reader);
    WorkerSettings::read(&mut reader);
    QueueSettings::read(&mut reader);
    FilesSettings::read(&mut reader);
    ProviderSettings::read(&mut reader);
    SyncSettings::read(&mut reader);
    TelemetrySettings::read(&mut reader);
    let mut names = std::mem::take(&mut reader.names_read);
    let mut listed: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    names.sort_unstable();
    listed.sort_unstable();
    assert_eq!(names, listed);
    assert_eq!(reader.finish(), []);
}

#[test]
fn the_rendered_table_has_a_line_per_setting() {
    let text = render_table();
    for setting in SETTINGS {
        assert!(text.contains(setting.name));
    }
    assert!(text.contains("API_LISTEN"));
    assert!(text.contains("(default: 127.0.0.1:8080)"));
}
