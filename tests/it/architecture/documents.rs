//! The documents name files that there are: a move takes its mentions along.

use std::path::{Path, PathBuf};

use regex::Regex;

use super::circles::workspace_root;

const DOCUMENTS: [&str; 2] = ["README.md", "ARCHITECTURE.md"];

/// How `docs/requirements.md` shortens the folders of tests.
const SHORT: [(&str, &str); 4] = [
    ("it/", "tests/it/"),
    ("api/", "api/tests/it/"),
    ("db/", "shared/db/tests/it/"),
    ("providers/", "shared/providers/tests/it/"),
];

#[test]
fn documents_name_files_that_there_are() {
    let root = workspace_root();
    let mut documents: Vec<PathBuf> = DOCUMENTS.iter().map(|name| root.join(name)).collect();
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        documents.push(entry.unwrap().path());
    }
    let path = Regex::new(
        r"`((?:api|worker|shared|tests|deploy|migrations|docs|findings|it|db|providers)/[\w./-]*)`",
    )
    .unwrap();
    let (mut named, mut wrong) = (0, Vec::new());
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for found in path.captures_iter(&text) {
            named += 1;
            if !exists(&root, &found[1]) {
                wrong.push(format!("{}: {}", document.display(), &found[1]));
            }
        }
    }
    println!("{named} files and folders are named");
    assert!(named > 100, "{named}");
    assert!(wrong.is_empty(), "there is no such file: {wrong:#?}");
}

fn exists(root: &Path, name: &str) -> bool {
    let of_tests = SHORT.iter().filter_map(|(short, folder)| {
        let rest = name.strip_prefix(short)?;
        Some(root.join(folder).join(rest))
    });
    std::iter::once(root.join(name))
        .chain(of_tests)
        .any(|path| path.exists())
}
