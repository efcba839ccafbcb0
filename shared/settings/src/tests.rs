//! The settings as a whole: defaults, errors, secrets, and the texts made from them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::*;

const MINIMAL: (&str, &str) = ("DATABASE_URI", "mysql://rag:hunter2@db/rag");

fn read(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let map: HashMap<&str, &str> = pairs.iter().copied().collect();
    Settings::from_lookup(|name| map.get(name).map(|value| (*value).to_owned()))
}

fn invalid(pairs: &[(&str, &str)]) -> Vec<&'static str> {
    read(pairs)
        .unwrap_err()
        .invalid
        .iter()
        .map(|invalid| invalid.name)
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
    assert_eq!(invalid(&[]), ["DATABASE_URI"]);
}

#[test]
fn blank_counts_as_not_set() {
    let settings = read(&[MINIMAL, ("API_LISTEN", "  "), ("YC_FOLDER_ID", "")]).unwrap();
    assert_eq!(settings.api.listen.port(), 8080);
    assert_eq!(settings.providers.yc_folder_id, None);
}

#[test]
fn all_invalid_settings_are_reported_at_once() {
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
    let names: Vec<_> = error.invalid.iter().map(|invalid| invalid.name).collect();
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
fn secrets_are_redacted_in_debug_output_and_in_errors() {
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
fn every_setting_has_a_name_of_its_own_and_a_valid_default() {
    let settings = settings();
    let names: BTreeSet<_> = settings.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), settings.len());
    // Only what is required is missing where nothing is set.
    let required = settings.iter().filter(|setting| setting.required);
    assert_eq!(
        invalid(&[]),
        required.map(|setting| setting.name).collect::<Vec<_>>()
    );
    for setting in &settings {
        assert!(
            !setting.help.is_empty() && !setting.section.is_empty(),
            "{setting:?}"
        );
    }
}

#[test]
fn a_value_out_of_range_is_named_with_its_variable_and_range() {
    let error = read(&[MINIMAL, ("QUEUE_LEASE_SECONDS", "0")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid settings (1):\n  QUEUE_LEASE_SECONDS: `0` is not a whole number from 1 to 3600"
    );
}

#[test]
fn texts_for_people_name_every_setting() {
    let (table, example, markdown) = (render_table(), env_example(), markdown_table());
    for setting in settings() {
        assert!(table.contains(setting.name));
        assert!(example.contains(&format!("{}=", setting.name)));
        assert!(markdown.contains(&format!("| `{}` |", setting.name)));
    }
    assert!(table.contains("(default: 127.0.0.1:8080)"));
    assert!(example.lines().all(|line| line.len() <= 120), "{example}");
}

#[test]
fn what_is_in_force_is_shown_with_its_source_and_without_secrets() {
    let given = HashMap::from([MINIMAL, ("API_LISTEN", "[::1]:1"), ("WORKER_CONCURRENCY", "many")]);
    let text = render_effective(|name| given.get(name).map(|value| (*value).to_owned()));
    let line = |name: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap().split_whitespace().skip(1).collect::<Vec<_>>()
    };
    assert_eq!(line("DATABASE_URI"), ["environment", "[REDACTED]"]);
    assert_eq!(line("API_LISTEN"), ["environment", "[::1]:1"]);
    assert_eq!(line("API_AUTH"), ["default", "keys"]);
    assert_eq!(line("YC_FOLDER_ID"), ["not", "set", "-"]);
    assert_eq!(line("PROVIDER_SECRETS_KEY"), ["not", "set", "-"]);
    assert!(text.ends_with("INVALID WORKER_CONCURRENCY: `many` is not a whole number from 1 to 1024\n"));
    assert!(!text.contains("hunter2"));
}
