//! Figures: the middle one, and their place in a document.

use std::path::Path;

use anyhow::{Context as _, Result};

/// The middle one; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Puts a text between `<!-- mark: begin -->` and `<!-- mark: end -->` of a file. A file without them gets them at its end,
/// under a heading; one that is not there is made.
///
/// # Errors
/// The file can't be read or written, or has one of the marks only.
pub fn write_between(file: &Path, mark: &str, heading: &str, text: &str) -> Result<()> {
    let whole = if file.exists() {
        std::fs::read_to_string(file)?
    } else {
        String::new()
    };
    let whole = replaced(&whole, mark, heading, text).with_context(|| file.display().to_string())?;
    Ok(std::fs::write(file, whole)?)
}

fn replaced(whole: &str, mark: &str, heading: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {mark}: begin -->"), format!("<!-- {mark}: end -->"));
    let text = format!("{begin}\n{}\n{end}", text.trim());
    if let Some((head, rest)) = whole.split_once(&begin) {
        let (_, tail) = rest
            .split_once(&end)
            .with_context(|| format!("`{end}` is missing"))?;
        return Ok(format!("{head}{text}{tail}"));
    }
    let head = whole.trim_end();
    let gap = if head.is_empty() { "" } else { "\n\n" };
    Ok(format!("{head}{gap}## {heading}\n\n{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let first = replaced("# Performance\n", "x", "Builds", "one").unwrap();
        assert_eq!(
            first,
            "# Performance\n\n## Builds\n\n<!-- x: begin -->\none\n<!-- x: end -->\n"
        );
        let more = format!("{first}\nMore.\n");
        let second = replaced(&more, "x", "Builds", "two\n").unwrap();
        assert_eq!(second, more.replace("one", "two"));
        assert!(replaced("<!-- x: begin -->", "x", "Builds", "").is_err());
    }
}
