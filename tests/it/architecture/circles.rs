//! No module imports from a sibling that, by whatever detour, imports from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::graph::{Circle, circles, levels};
use super::module_tree::Crate;

#[test]
fn modules_import_in_one_direction() {
    let root = workspace_root();
    let (mut crates, mut modules, mut edges) = (0, 0, 0);
    let mut found = Vec::new();
    for (name, source) in product_crates(&root) {
        let read = Crate::read(&source);
        crates += 1;
        modules += read.modules.len();
        for level in levels(&read, &root) {
            edges += level.edges.values().map(BTreeMap::len).sum::<usize>();
            for circle in circles(&level.edges) {
                found.push(describe(&name, &level.parent, &circle));
            }
        }
    }
    println!(
        "crates: {crates}, modules: {modules}, edges: {edges}, circles: {}",
        found.len()
    );
    assert!(
        found.is_empty(),
        "modules that import in a circle:\n{}",
        found.join("\n")
    );
}

/// `api::http: auth -> server (api/src/http/auth.rs:12) -> auth (api/src/http/server.rs:9)`
fn describe(name: &str, level: &[String], circle: &Circle) -> String {
    let mut text = [&[name.to_owned()], level].concat().join("::");
    write!(text, ": {}", circle[0].0).unwrap();
    let next = circle.iter().cycle().skip(1);
    for ((_, places), (module, _)) in circle.iter().zip(next) {
        let shown = places
            .iter()
            .take(3)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = if places.len() > 3 { ", …" } else { "" };
        write!(text, " -> {module} ({shown}{more})").unwrap();
    }
    text
}

pub(super) fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The crates whose code is shipped: name and folder of sources.
pub(super) fn product_crates(root: &Path) -> Vec<(String, PathBuf)> {
    let mut folders = vec![root.join("api"), root.join("worker")];
    for entry in std::fs::read_dir(root.join("shared")).unwrap() {
        folders.push(entry.unwrap().path());
    }
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    folders.sort();
    folders
        .into_iter()
        .map(|folder| {
            let name = folder.strip_prefix(root).unwrap().display().to_string();
            (name, folder.join("src"))
        })
        .collect()
}

/// A crate of three files in which `a` reaches `b` through a re-export, and `b` names `a` inside a macro.
#[test]
fn a_circle_is_found_through_reexports_and_macros() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "lib.rs",
        "mod a; mod b; mod c; pub use b::deep::Thing; pub struct Root;",
    );
    write(
        "a.rs",
        "use crate::Thing;\nuse super::Root;\npub struct A(Thing);",
    );
    write("b/mod.rs", "pub mod deep; pub mod other;");
    write(
        "b/deep.rs",
        "\npub struct Thing;\nfn f() { println!(\"{:?}\", crate::a::A); }",
    );
    write("b/other.rs", "use super::deep::Thing;\nuse crate::Root;");
    write(
        "c.rs",
        "use crate::a::A;\n#[cfg(test)]\nmod tests { use crate::b::other; }",
    );
    let read = Crate::read(folder.path());
    let found: Vec<_> = levels(&read, folder.path())
        .iter()
        .flat_map(|level| circles(&level.edges))
        .collect();
    let ring = vec![
        ("b".to_owned(), vec!["b/deep.rs:3".to_owned()]),
        ("a".to_owned(), vec!["a.rs:1".to_owned()]),
    ];
    assert_eq!(found, [ring]);
}
