//! Reads the settings of one environment and collects the invalid ones, so that all can be reported at once.

use std::fmt;

use crate::setting::{Setting, Typed};

/// One setting that is missing or invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSetting {
    pub name: &'static str,
    /// What is wrong and what would be right. Never quotes the value of a secret.
    pub message: String,
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// All invalid settings, one line each when displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    pub invalid: Vec<InvalidSetting>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid settings ({}):", self.invalid.len())?;
        for invalid in &self.invalid {
            write!(f, "\n  {invalid}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Environment,
    Default,
    NotSet,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Environment => "environment",
            Self::Default => "default",
            Self::NotSet => "not set",
        })
    }
}

/// A setting as it is read: its text and where that comes from.
#[derive(Debug)]
pub(crate) struct Effective {
    pub(crate) setting: Setting,
    /// `None`: a secret, or not set.
    pub(crate) value: Option<String>,
    pub(crate) source: Source,
}

pub(crate) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) invalid: Vec<InvalidSetting>,
    /// Every setting that was read, in order.
    pub(crate) effective: Vec<Effective>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            invalid: Vec::new(),
            effective: Vec::new(),
        }
    }

    pub(crate) fn refuse(&mut self, name: &'static str, message: impl Into<String>) {
        self.invalid.push(InvalidSetting {
            name,
            message: message.into(),
        });
    }

    /// The value; `None`: it is missing or invalid, and that has been noted. A blank value counts as not set.
    pub(crate) fn read<T>(&mut self, typed: &Typed<T>) -> Option<T> {
        let setting = &typed.setting;
        let given = (self.lookup)(setting.name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty());
        let source = match (&given, setting.default) {
            (Some(_), _) => Source::Environment,
            (None, Some(_)) => Source::Default,
            (None, None) => Source::NotSet,
        };
        let text = given.or_else(|| setting.default.map(str::to_owned));
        self.effective.push(Effective {
            setting: setting.clone(),
            value: text.clone().filter(|_| !setting.secret),
            source,
        });
        match (text, typed.absent) {
            (Some(text), _) => (typed.parse)(&text)
                .map_err(|message| self.refuse(setting.name, message))
                .ok(),
            (None, Some(absent)) => Some(absent()),
            (None, None) => {
                self.refuse(setting.name, "is required but not set");
                None
            }
        }
    }
}
