//! The queue's tables and columns are named in `shared/queue` only; everybody else asks its functions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use regex::Regex;

use super::circles::{product_crates, workspace_root};

#[test]
fn queue_tables_are_named_by_the_queue_alone() {
    let root = workspace_root();
    let queue = sql_in(&root.join("shared/queue/migrations"));
    let table = Regex::new(r"(?i)create table (?:if not exists )?`?(\w+)").unwrap();
    let tables: BTreeSet<&str> = table
        .captures_iter(&queue)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    let own: BTreeSet<&str> = columns_of(&queue).collect();
    let ours = sql_in(&root.join("migrations"));
    let shared: BTreeSet<&str> = columns_of(&ours).collect();
    // A column that our tables have, too, tells nothing.
    let columns: BTreeSet<&str> = own
        .difference(&shared)
        .copied()
        .filter(|name| name.contains('_'))
        .collect();
    assert!(
        tables.contains("queue_jobs") && columns.contains("claim_no"),
        "{tables:?} {columns:?}"
    );

    let is_sql = Regex::new(r"\b(SELECT|FROM|JOIN|UPDATE|INSERT|DELETE|WHERE|SET|ORDER BY)\b").unwrap();
    let word = Regex::new(r"\w+").unwrap();
    let mut wrong = Vec::new();
    for (name, source) in product_crates(&root) {
        if name == "shared/queue" {
            continue;
        }
        for file in files_below(&source) {
            let relative = file.strip_prefix(&root).unwrap().display().to_string();
            let tokens = std::fs::read_to_string(&file).unwrap().parse().unwrap();
            each_text(tokens, &mut |text, line| {
                for name in word.find_iter(text).map(|found| found.as_str()) {
                    if tables.contains(name) || (columns.contains(name) && is_sql.is_match(text)) {
                        wrong.push(format!("{relative}:{line} names {name}"));
                    }
                }
            });
        }
    }
    println!(
        "queue tables: {}, columns of their own: {}",
        tables.len(),
        columns.len()
    );
    assert!(wrong.is_empty(), "queue names outside shared/queue: {wrong:#?}");
}

/// Calls `seen` with each string literal and its line; comments are no literals, documentation is.
fn each_text(tokens: TokenStream, seen: &mut impl FnMut(&str, usize)) {
    let mut after_doc = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => each_text(group.stream(), seen),
            TokenTree::Literal(literal) if !after_doc => {
                let text = literal.to_string();
                if text.ends_with(['"', '#']) {
                    seen(&text, literal.span().start().line);
                }
            }
            TokenTree::Ident(ident) if ident == "doc" => after_doc = true,
            TokenTree::Punct(punct) if punct.as_char() == '=' => {}
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => after_doc = false,
        }
    }
}

fn columns_of(sql: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    sql.lines().filter_map(move |line| {
        if line.to_ascii_lowercase().starts_with("create table") {
            inside = true;
            return None;
        }
        inside &= !line.starts_with(')');
        let name = line
            .trim_start()
            .split([' ', '`'])
            .find(|word| !word.is_empty())?;
        let is_name = name
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter == '_');
        (inside && is_name).then_some(name)
    })
}

fn sql_in(folder: &Path) -> String {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap() + "\n")
        .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
