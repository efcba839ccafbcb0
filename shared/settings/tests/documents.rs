//! `docs/settings.md` and `deploy/env.example` are made from the list that the programs read. `UPDATE_DOCS=1` writes them.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test")]

use std::path::Path;

fn check(path: &str, make: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let found = std::fs::read_to_string(&path).unwrap();
    let wanted = make(&found);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
        return;
    }
    assert_eq!(found, wanted, "run this test with UPDATE_DOCS=1");
}

#[test]
fn every_setting_is_documented() {
    check("docs/settings.md", |document| {
        let (before, rest) = document.split_once("<!-- settings -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- /settings -->").unwrap();
        let table = rag_settings::markdown_table();
        format!("{before}<!-- settings -->\n{table}<!-- /settings -->{after}")
    });
}

#[test]
fn the_example_for_operators_has_every_setting_with_its_default() {
    check("deploy/env.example", |_| rag_settings::env_example());
}
