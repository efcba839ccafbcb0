//! What the demo says: plain text from what was found. Nothing is asked or decided here.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;

use crate::api::{IndexStatus, Job, ProviderFile};
use crate::documents::{Document, Documents};
use crate::search::{self, Hit};

/// Writing into a String cannot fail; this says so once.
macro_rules! say {
    ($out:expr, $($format:tt)*) => { let _ = writeln!($out, $($format)*); };
}

pub(crate) fn found(documents: &Documents) -> String {
    let mut out = String::new();
    let bytes: u64 = documents.list.iter().map(|document| document.size_bytes).sum();
    say!(
        out,
        "Documents   {} in {} ({})",
        documents.list.len(),
        documents.root.display(),
        size(bytes)
    );
    for (reason, count) in &documents.skipped {
        say!(out, "            left out: {count} {reason}");
    }
    out
}

/// One line per file, and a sum.
pub(crate) fn table(
    files: &[ProviderFile],
    uploaded: &HashMap<String, &Document>,
    chunks: &HashMap<String, u64>,
) -> String {
    let mut rows: Vec<[String; 5]> = files
        .iter()
        .map(|file| {
            let count = chunks
                .get(&file.file.file_name)
                .map_or_else(|| "-".to_owned(), u64::to_string);
            let strategy = strategy(file.chunking_strategy.as_ref());
            [
                shown(file, uploaded),
                strategy,
                count,
                file.file.size_bytes.to_string(),
                file.status.clone(),
            ]
        })
        .collect();
    rows.sort();
    let heads = ["file", "strategy", "chunks", "bytes", "status"].map(str::to_owned);
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let cells = rows.iter().chain([&heads]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut out = String::new();
    for row in [&heads].into_iter().chain(&rows) {
        let cells = row
            .iter()
            .zip(widths)
            .zip(heads.iter())
            .map(|((cell, width), head)| match head.as_str() {
                "chunks" | "bytes" => format!("{cell:>width$}"),
                _ => format!("{cell:width$}"),
            });
        say!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let bytes = files.iter().map(|file| file.file.size_bytes).sum();
    let all_chunks: u64 = chunks.values().sum();
    let of_chunks = if chunks.is_empty() {
        String::new()
    } else {
        format!(", {all_chunks} chunks")
    };
    say!(out, "\n{} files, {}{of_chunks}", files.len(), size(bytes));
    out
}

/// The index's state, and what failed.
pub(crate) fn outcome(
    status: &IndexStatus,
    files: &[ProviderFile],
    uploaded: &HashMap<String, &Document>,
    job: &Job,
) -> String {
    let mut out = String::new();
    say!(
        out,
        "The index is {} (build {}).",
        status.indexing_status,
        job.state
    );
    if status.indexing_status == "done" {
        return out;
    }
    for error in [&job.last_error, &status.last_error].into_iter().flatten() {
        say!(out, "  {error}");
    }
    for file in files {
        if let Some(error) = &file.last_error {
            let text = error
                .as_str()
                .or_else(|| error["message"].as_str())
                .map_or(error.to_string(), str::to_owned);
            say!(out, "  {}: {text}", shown(file, uploaded));
        }
    }
    out
}

/// The hits with the piece of text around a word of the query.
pub(crate) fn hits(query: &str, hits: &[Hit], documents: &Documents) -> String {
    let mut out = String::new();
    say!(out, "\nSearch      \"{query}\"");
    for (rank, hit) in hits.iter().enumerate() {
        say!(
            out,
            "  {}. {} (score {:.3})",
            rank + 1,
            documents.shown(&hit.file_name),
            hit.score
        );
        say!(out, "     {}", snippet(&hit.text, &search::words(query)));
    }
    if hits.is_empty() {
        say!(out, "  nothing was found");
    } else if !search::is_answered(query, hits) {
        say!(out, "  but the best hit contains no word of the query");
    }
    out
}

fn shown(file: &ProviderFile, uploaded: &HashMap<String, &Document>) -> String {
    uploaded
        .get(&file.file.id)
        .map_or_else(|| file.file.file_name.clone(), |document| document.shown.clone())
}

fn strategy(value: Option<&Value>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match (
        &value["static"]["max_chunk_size_tokens"],
        &value["static"]["chunk_overlap_tokens"],
    ) {
        (Value::Number(size), Value::Number(overlap)) => format!("static {size}/{overlap}"),
        _ => value["type"].as_str().unwrap_or("?").to_owned(),
    }
}

/// The line with the most different words of the query, cut to fit.
fn snippet(text: &str, words: &[String]) -> String {
    const WIDTH: usize = 110;
    let matches = |line: &str| {
        let line = line.to_lowercase();
        words.iter().filter(|word| line.contains(word.as_str())).count()
    };
    // max_by_key takes the last of equals; the first reads better.
    let best = text
        .lines()
        .rev()
        .max_by_key(|line| matches(line))
        .unwrap_or_default();
    let line = best.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WIDTH {
        line
    } else {
        line.chars().take(WIDTH).collect::<String>() + "…"
    }
}

fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        0..KIB => format!("{bytes} bytes"),
        KIB..MIB => format!("{} KiB", bytes.div_ceil(KIB)),
        _ => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(name: &str, status: &str, last_error: &Value) -> ProviderFile {
        serde_json::from_value(json!({
            "file": {"id": name, "file_name": name, "size_bytes": 2048},
            "status": status,
            "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 400, "chunk_overlap_tokens": 100}},
            "last_error": last_error,
        }))
        .unwrap()
    }

    #[test]
    fn the_table_has_a_line_per_file_and_a_sum() {
        let files = [
            file("b.md", "completed", &Value::Null),
            file("a.md", "completed", &Value::Null),
        ];
        let chunks = HashMap::from([("a.md".to_owned(), 7)]);
        let text = table(&files, &HashMap::new(), &chunks);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("a.md  static 400/100       7   2048  completed"),
            "{text}"
        );
        assert!(lines[2].starts_with("b.md  static 400/100       -"), "{text}");
        assert_eq!(lines[4], "2 files, 4 KiB, 7 chunks");
    }

    #[test]
    fn a_failure_names_the_files_and_their_errors() {
        let files = [
            file(
                "a.md",
                "failed",
                &json!({"code": "unsupported_file", "message": "not text"}),
            ),
            file("b.md", "failed", &json!("too large")),
        ];
        let status: IndexStatus =
            serde_json::from_value(json!({"indexing_status": "failed", "last_error": "2 of 2 files failed"}))
                .unwrap();
        let job: Job = serde_json::from_value(json!({"id": "j", "state": "done"})).unwrap();
        let text = outcome(&status, &files, &HashMap::new(), &job);
        for part in [
            "The index is failed",
            "2 of 2 files failed",
            "a.md: not text",
            "b.md: too large",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_snippet_is_the_line_that_matches_best() {
        let text = "The lease\nA lease of a job\nA job";
        assert_eq!(
            snippet(text, &["lease".to_owned(), "job".to_owned()]),
            "A lease of a job"
        );
        assert_eq!(snippet(&"x".repeat(300), &[]).chars().count(), 111);
    }
}
