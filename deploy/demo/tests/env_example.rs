//! `deploy/env.example` is what operators copy: it must name every setting with its true default, and nothing else.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test")]

use std::collections::BTreeMap;

use rag_settings::SETTINGS;

/// Read by compose.yaml, not by the programs.
const OF_COMPOSE: &str = "MARIADB_PASSWORD";

/// `NAME=value` lines, commented or not.
fn example() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../env.example");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='));
    let is_name = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    lines
        .filter(|(name, _)| is_name(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn every_setting_is_in_the_example_with_its_default() {
    let example = example();
    for setting in SETTINGS {
        let value = example
            .get(setting.name)
            .unwrap_or_else(|| panic!("{} is missing", setting.name));
        if let Some(default) = setting.default {
            assert_eq!(value, default, "{}", setting.name);
        }
    }
}

#[test]
fn the_example_names_nothing_else() {
    let known = |name: &str| name == OF_COMPOSE || SETTINGS.iter().any(|setting| setting.name == name);
    let unknown: Vec<_> = example().into_keys().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
