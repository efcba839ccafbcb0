//! What one setting is, and the table of all of them as text.

use std::fmt::Write as _;

use crate::table::SETTINGS;

/// One environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub section: &'static str,
    /// The value used when the variable is not set; `None`: there is none (see `meaning` for whether it is required).
    pub default: Option<&'static str>,
    pub meaning: &'static str,
    /// Never printed, not even in part.
    pub secret: bool,
}

pub(crate) const fn setting(
    section: &'static str,
    name: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
) -> Setting {
    Setting {
        name,
        section,
        default,
        meaning,
        secret: false,
    }
}

pub(crate) const fn secret(section: &'static str, name: &'static str, meaning: &'static str) -> Setting {
    Setting {
        name,
        section,
        default: None,
        meaning,
        secret: true,
    }
}

/// The table as text for a terminal: section headings, then name, default and meaning per line.
pub fn render_table() -> String {
    let width = SETTINGS
        .iter()
        .map(|setting| setting.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = setting.section;
            let _infallible = writeln!(text, "{gap}[{section}]");
        }
        let default = setting.default.unwrap_or("-");
        let _infallible = writeln!(
            text,
            "  {:width$}  {} (default: {default})",
            setting.name, setting.meaning
        );
    }
    text
}
