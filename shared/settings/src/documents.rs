//! The settings as texts: for a terminal, for `docs/settings.md`, and for `deploy/env.example`.

use std::fmt::Write as _;

use crate::reader::{Effective, Source};
use crate::setting::Setting;
use crate::{read_all, settings};

/// Columns of `deploy/env.example`.
const WIDTH: usize = 120;

const ENV_EXAMPLE_HEAD: &str = "\
# Settings of rag-api and rag-worker, read from the environment. Commented lines show the defaults.
# For Docker Compose: copy to deploy/.env. For systemd: copy to /etc/rag-indexer/env, owned by root, mode 0600.
# Made from the programs' own list of settings; a test compares them.

# Docker Compose only: the password of the database account; compose.yaml makes DATABASE_URI of it, so it must not hold
# characters that a URI gives a meaning (@ : / ? # %). `openssl rand -hex 24` makes a good one.
MARIADB_PASSWORD=
";

/// All settings for a terminal: section headings, then name, help and default in a line each.
pub fn render_table() -> String {
    let settings = settings();
    let width = settings
        .iter()
        .map(|setting| setting.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (at, setting) in settings.iter().enumerate() {
        if starts_section(&settings, at) {
            let gap = if at == 0 { "" } else { "\n" };
            let _infallible = writeln!(text, "{gap}[{}]", setting.section);
        }
        let default = setting.default.unwrap_or("-");
        let _infallible = writeln!(
            text,
            "  {:width$}  {} (default: {default})",
            setting.name, setting.help
        );
    }
    text
}

/// What is in force: each setting's value and where it comes from, and after that what is invalid. Secrets are masked.
pub fn render_effective(lookup: impl Fn(&str) -> Option<String>) -> String {
    let reader = read_all(&lookup).1;
    let width = reader
        .effective
        .iter()
        .map(|effective| effective.setting.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for Effective {
        setting,
        value,
        source,
    } in &reader.effective
    {
        let value = match (value, source) {
            (Some(value), _) => value,
            (None, Source::NotSet) => "-",
            (None, _) => "[REDACTED]",
        };
        let _infallible = writeln!(text, "{:width$}  {source:11}  {value}", setting.name);
    }
    for invalid in &reader.invalid {
        let _infallible = writeln!(text, "INVALID {invalid}");
    }
    text
}

/// The table of `docs/settings.md`.
pub fn markdown_table() -> String {
    let mut table = String::from("| variable | default | allowed | meaning |\n|---|---|---|---|\n");
    for setting in settings() {
        let default = setting.default.map(|default| format!("`{default}`"));
        let _infallible = writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            setting.name,
            default.unwrap_or_default(),
            allowed(&setting),
            setting.help
        );
    }
    table
}

/// `deploy/env.example`.
pub fn env_example() -> String {
    let settings = settings();
    let mut text = ENV_EXAMPLE_HEAD.to_owned();
    for (at, setting) in settings.iter().enumerate() {
        if starts_section(&settings, at) {
            let heading = format!("# --- {} ", setting.section);
            let _infallible = writeln!(text, "\n{heading:-<WIDTH$}\n");
        }
        let allowed = allowed(setting);
        let allowed = if allowed.is_empty() {
            allowed
        } else {
            format!(" ({allowed})")
        };
        write_comment(&mut text, &format!("{}{allowed}.", setting.help));
        // An operator fills in the secrets that the programs need.
        let mark = if setting.name == "PROVIDER_SECRETS_KEY" {
            ""
        } else {
            "#"
        };
        let default = setting.default.unwrap_or_default();
        let _infallible = writeln!(text, "{mark}{}={default}", setting.name);
    }
    text
}

fn starts_section(settings: &[Setting], at: usize) -> bool {
    at == 0 || settings[at - 1].section != settings[at].section
}

fn allowed(setting: &Setting) -> String {
    format!("{} {}", setting.range, setting.unit).trim().to_owned()
}

/// Broken into lines at spaces.
fn write_comment(text: &mut String, comment: &str) {
    let mut line = String::from("#");
    for word in comment.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _infallible = writeln!(text, "{line}");
            "#".clone_into(&mut line);
        }
        let _infallible = write!(line, " {word}");
    }
    let _infallible = writeln!(text, "{line}");
}
