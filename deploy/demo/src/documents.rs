//! The documents of a folder: which files are taken, with which chunking strategy and under which name. Nothing is read
//! that git would ignore, and no hidden file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::DemoError;
use crate::search;

/// Larger files are skipped: a demo should be short.
const LARGEST_BYTES: u64 = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text for people: short chunks.
    Prose,
    /// Source code: long chunks, as functions are.
    Source,
    /// Anything else: what the provider thinks best.
    Other,
    /// The same, and it is not text, which the emulator cannot index.
    Binary,
}

/// By extension; None for files that are left out.
fn kind(extension: &str) -> Option<Kind> {
    Some(match extension {
        "md" | "markdown" | "rst" | "adoc" | "txt" | "tex" => Kind::Prose,
        "rs" | "sql" | "py" | "js" | "ts" | "go" | "java" | "c" | "h" | "cpp" | "hpp" | "cs" | "sh"
        | "rb" | "php" | "kt" | "swift" | "css" => Kind::Source,
        "toml" | "yaml" | "yml" | "json" | "html" | "csv" | "xml" | "service" => Kind::Other,
        "pdf" | "docx" | "pptx" => Kind::Binary,
        _ => return None,
    })
}

/// Formats that OpenAI's file search accepts by their extension. Others go as `.txt`.
const KNOWN_TO_PROVIDERS: [&str; 20] = [
    "c", "cpp", "cs", "css", "docx", "go", "html", "java", "js", "json", "md", "pdf", "php", "pptx", "py",
    "rb", "sh", "tex", "ts", "txt",
];

#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    /// Relative to the folder.
    pub(crate) shown: String,
    /// The file name at the API: one name without folders, because an index has no folders.
    pub(crate) upload_name: String,
    pub(crate) size_bytes: u64,
    kind: Kind,
}

impl Document {
    fn new(path: &Path, root: &Path, size_bytes: u64) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_lowercase();
        let kind = kind(&extension)?;
        let shown = path.strip_prefix(root).unwrap_or(path).to_str()?.to_owned();
        let mut upload_name = shown.replace('/', "__");
        if !KNOWN_TO_PROVIDERS.contains(&extension.as_str()) {
            upload_name.push_str(".txt");
        }
        Some(Self {
            path: path.to_path_buf(),
            shown,
            upload_name,
            size_bytes,
            kind,
        })
    }

    /// `chunking_strategy`, sizes in tokens.
    pub(crate) fn strategy(&self) -> Value {
        let fixed = |size: u32, overlap: u32| json!({"type": "static", "static": {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}});
        match self.kind {
            Kind::Prose => fixed(400, 100),
            Kind::Source => fixed(800, 200),
            Kind::Other | Kind::Binary => json!({"type": "auto"}),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) root: PathBuf,
    pub(crate) list: Vec<Document>,
    /// How many files were left out, by reason.
    pub(crate) skipped: BTreeMap<&'static str, usize>,
}

impl Documents {
    /// `with_binaries`: also formats that are not text.
    pub(crate) fn find(folder: &Path, with_binaries: bool) -> Result<Self, DemoError> {
        let mut found = Self {
            root: folder.to_path_buf(),
            list: Vec::new(),
            skipped: BTreeMap::new(),
        };
        let mut walk = ignore::WalkBuilder::new(folder);
        walk.require_git(false)
            .sort_by_file_path(Path::cmp)
            .filter_entry(|entry| {
                let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                !(is_folder
                    && entry.depth() > 0
                    && ["target", "node_modules"]
                        .iter()
                        .any(|name| entry.file_name() == *name))
            });
        for entry in walk.build() {
            let entry = entry?;
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let size_bytes = entry.metadata()?.len();
            match found.accept(entry.path(), size_bytes, with_binaries)? {
                Ok(document) => found.list.push(document),
                Err(reason) => *found.skipped.entry(reason).or_default() += 1,
            }
        }
        if found.list.is_empty() {
            return Err(DemoError::NothingToIndex {
                folder: folder.to_path_buf(),
            });
        }
        Ok(found)
    }

    /// The document, or why it is left out.
    fn accept(
        &self,
        path: &Path,
        size_bytes: u64,
        with_binaries: bool,
    ) -> Result<Result<Document, &'static str>, DemoError> {
        let Some(document) = Document::new(path, &self.root, size_bytes) else {
            return Ok(Err("of a kind the demo does not know"));
        };
        if size_bytes == 0 {
            return Ok(Err("empty"));
        }
        if size_bytes > LARGEST_BYTES {
            return Ok(Err("over 8 MiB"));
        }
        if document.kind == Kind::Binary {
            return Ok(if with_binaries {
                Ok(document)
            } else {
                Err("not text, which the emulator cannot index")
            });
        }
        let bytes = fs::read(path).map_err(|source| DemoError::File {
            path: path.to_path_buf(),
            source,
        })?;
        let text = std::str::from_utf8(&bytes);
        let is_text = text.is_ok_and(|text| !text.trim().is_empty() && !text.contains('\0'));
        Ok(if is_text {
            Ok(document)
        } else {
            Err("without UTF-8 text")
        })
    }

    /// The path of a document by its name at the API.
    pub(crate) fn shown<'a>(&'a self, upload_name: &'a str) -> &'a str {
        let found = self
            .list
            .iter()
            .find(|document| document.upload_name == upload_name);
        found.map_or(upload_name, |document| &document.shown)
    }

    /// A line of one of the documents that makes a search: prose first, headings first.
    pub(crate) fn query(&self) -> Option<String> {
        let of_kind = |wanted| self.list.iter().filter(move |document| document.kind == wanted);
        let mut in_order = of_kind(Kind::Prose)
            .chain(of_kind(Kind::Source))
            .chain(of_kind(Kind::Other));
        in_order.find_map(|document| line_to_search(&fs::read_to_string(&document.path).ok()?))
    }
}

/// A line of words, not of markup or code.
fn line_to_search(text: &str) -> Option<String> {
    let is_telling = |line: &&str| {
        let is_plain = !line.contains(['|', '`', '{', '<', '=', ';', ':', '[']);
        is_plain && line.len() <= 100 && search::words(line).len() >= 2
    };
    let headings = text
        .lines()
        .filter(|line| line.starts_with("# ") || line.starts_with("##"));
    let line = headings.chain(text.lines()).find(is_telling)?;
    Some(line.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str) -> Option<Document> {
        Document::new(Path::new(path), Path::new("/docs"), 10)
    }

    #[test]
    fn names_are_flat_and_end_in_what_providers_know() {
        let name = |path| document(path).unwrap().upload_name;
        assert_eq!(name("/docs/README.md"), "README.md");
        assert_eq!(name("/docs/api/src/main.rs"), "api__src__main.rs.txt");
        assert_eq!(name("/docs/deploy/x.PY"), "deploy__x.PY");
        assert!(document("/docs/LICENSE").is_none());
        assert!(document("/docs/photo.jpg").is_none());
    }

    #[test]
    fn each_kind_has_its_strategy() {
        let size = |path| document(path).unwrap().strategy()["static"]["max_chunk_size_tokens"].as_u64();
        assert_eq!(size("/docs/a.md"), Some(400));
        assert_eq!(size("/docs/a.rs"), Some(800));
        assert_eq!(size("/docs/a.toml"), None);
        assert_eq!(document("/docs/a.toml").unwrap().strategy()["type"], "auto");
    }

    #[test]
    fn a_folder_is_walked_and_what_is_left_out_is_counted() {
        let root = std::env::temp_dir().join(format!("rag-demo-documents-{}", std::process::id()));
        for folder in ["target", ".hidden", "sub"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (name, bytes) in [
            ("a.md", b"# Text".as_slice()),
            ("sub/b.rs", b"fn b() {}"),
            ("target/c.rs", b"fn c() {}"),
            (".hidden/d.md", b"hidden"),
            ("empty.md", b""),
            ("latin1.txt", b"caf\xe9"),
            ("image.png", b"\x89PNG"),
            ("paper.pdf", b"%PDF-1.7"),
        ] {
            fs::write(root.join(name), bytes).unwrap();
        }
        let found = Documents::find(&root, false).unwrap();
        let with_binaries = Documents::find(&root, true).unwrap();
        fs::remove_dir_all(&root).unwrap();

        let names: Vec<_> = found
            .list
            .iter()
            .map(|document| document.shown.as_str())
            .collect();
        assert_eq!(names, ["a.md", "sub/b.rs"]);
        assert_eq!(found.skipped.values().sum::<usize>(), 4, "{:?}", found.skipped);
        assert!(
            with_binaries
                .list
                .iter()
                .any(|document| document.shown == "paper.pdf")
        );
    }

    #[test]
    fn a_heading_is_searched_for_before_a_sentence() {
        let text = "Introduction words come first here.\n# One\n## The queue and its leases\n";
        assert_eq!(line_to_search(text).as_deref(), Some("The queue and its leases"));
        assert_eq!(line_to_search("a b c\n"), None);
        assert_eq!(line_to_search("use std::fs;\nlet value = other;\n"), None);
    }
}
