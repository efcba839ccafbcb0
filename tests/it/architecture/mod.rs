//! The shape of the code: which crate may depend on which, that modules import in one direction, and who may name the
//! queue's tables.

mod circles;
mod documents;
mod graph;
mod imports;
mod module_tree;
mod queue_names;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crate → what of ours it may depend on. Development dependencies (tests, the emulator) are free.
const ALLOWED: &[(&str, &[&str])] = &[
    ("rag-mariadb", &[]),
    ("apalis-mariadb", &["rag-mariadb"]),
    ("rag-domain", &[]),
    ("rag-server", &["rag-telemetry"]),
    ("rag-settings", &[]),
    ("rag-secrets", &[]),
    ("rag-telemetry", &["rag-settings"]),
    ("rag-files", &[]),
    ("rag-db", &["rag-domain", "rag-mariadb", "apalis-mariadb"]),
    ("rag-providers", &["rag-domain"]),
    ("rag-jobs", &["rag-domain", "apalis-mariadb"]),
    (
        "rag-connections",
        &[
            "rag-db",
            "rag-domain",
            "rag-providers",
            "rag-secrets",
            "rag-settings",
        ],
    ),
    (
        "rag-api",
        &[
            "apalis-mariadb",
            "rag-connections",
            "rag-db",
            "rag-domain",
            "rag-files",
            "rag-jobs",
            "rag-mariadb",
            "rag-providers",
            "rag-secrets",
            "rag-server",
            "rag-settings",
            "rag-telemetry",
        ],
    ),
    (
        "rag-worker",
        &[
            "apalis-mariadb",
            "rag-connections",
            "rag-db",
            "rag-domain",
            "rag-files",
            "rag-jobs",
            "rag-mariadb",
            "rag-providers",
            "rag-secrets",
            "rag-server",
            "rag-settings",
            "rag-telemetry",
        ],
    ),
    ("rag-canary", &[]),
    ("rag-emulator", &[]),
    ("rag-test-mariadb", &[]),
    ("rag-demo", &[]),
    ("xtask", &[]),
    ("rag-tests", &["rag-canary", "rag-db", "rag-emulator"]),
    ("rag-bench", &["apalis-mariadb", "rag-db", "rag-emulator"]),
];

#[test]
fn crates_depend_on_each_other_as_designed() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(name, others)| (*name, others.iter().copied().collect()))
        .collect();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{name} has no line in the list of arrows"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let other = dependency["name"].as_str().unwrap();
            if allowed.contains_key(other) && !may.contains(other) {
                wrong.push(format!("{name} -> {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the design: {wrong:#?}");
}
