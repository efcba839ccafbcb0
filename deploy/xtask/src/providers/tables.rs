//! Copies the tables that the cases wrote into `docs/providers.md`, between its markers.

use std::fs;
use std::path::Path;

use super::servers::Running;
use crate::failure::{Failure, Result, Trying};
use crate::run::repository;

pub(crate) fn write(results: &Path, running: &[Running]) -> Result<()> {
    let document = repository().join("docs/providers.md");
    let mut text = fs::read_to_string(&document).trying(|| format!("read {}", document.display()))?;
    for server in running {
        // Only one case writes a table, and it may not have been selected, or have failed.
        let Ok(table) = fs::read_to_string(results.join(format!("{}.md", server.name))) else {
            continue;
        };
        println!("\n{}\n\n{}", server.title, table.trim_end());
        text = replaced(&text, server.name, &table).ok_or_else(|| {
            Failure::new(format!("{} has no place for {}", document.display(), server.name))
        })?;
    }
    fs::write(&document, text).trying(|| format!("write {}", document.display()))
}

/// The text with another table between the markers of `name`.
fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- generated: {name} -->\n"),
        format!("<!-- end: {name} -->"),
    );
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}\n{end}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_table_takes_the_place_of_the_old_one() {
        let text = "a\n<!-- generated: ogx -->\nold\n<!-- end: ogx -->\nb";
        let new = "a\n<!-- generated: ogx -->\nnew\n<!-- end: ogx -->\nb";
        assert_eq!(replaced(text, "ogx", "new\n").as_deref(), Some(new));
        assert_eq!(replaced(new, "ogx", "new").as_deref(), Some(new));
        assert_eq!(replaced(text, "litellm", "new"), None);
    }
}
