//! Reads single values and collects the mistakes in them, so that all can be reported at once.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use secrecy::SecretString;

use crate::setting::Setting;
use crate::table::SETTINGS;

/// One setting that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub name: &'static str,
    /// Says what is wrong and what would be right. Never quotes the value of a secret.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// All mistakes in the settings, one line each when displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings have {} mistake(s):", self.mistakes.len())?;
        for mistake in &self.mistakes {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

pub(crate) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<Mistake>,
    #[cfg(test)]
    pub(crate) names_read: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            mistakes: Vec::new(),
            #[cfg(test)]
            names_read: Vec::new(),
        }
    }

    pub(crate) fn finish(self) -> Vec<Mistake> {
        self.mistakes
    }

    pub(crate) fn mistake(&mut self, name: &'static str, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            name,
            message: message.into(),
        });
    }

    /// The value, or its default from the table; trimmed, and absent when blank.
    pub(crate) fn optional(&mut self, name: &'static str) -> Option<String> {
        #[cfg(test)]
        self.names_read.push(name);
        let given = (self.lookup)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty());
        given.or_else(|| {
            find_setting(name)
                .and_then(|setting| setting.default)
                .map(str::to_owned)
        })
    }

    pub(crate) fn required(&mut self, name: &'static str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.mistake(name, "is required but not set");
        }
        value
    }

    pub(crate) fn optional_secret(&mut self, name: &'static str) -> Option<SecretString> {
        self.optional(name).map(SecretString::from)
    }

    pub(crate) fn integer<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let value = self.required(name)?;
        self.checked_integer(name, &value, range)
    }

    /// As [`integer`](Self::integer) for a setting that may be absent: `Some(None)` then.
    pub(crate) fn optional_integer<T>(
        &mut self,
        name: &'static str,
        range: RangeInclusive<T>,
    ) -> Option<Option<T>>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        match self.optional(name) {
            None => Some(None),
            Some(value) => self.checked_integer(name, &value, range).map(Some),
        }
    }

    fn checked_integer<T>(&mut self, name: &'static str, value: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        match value.parse::<T>() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let (low, high) = range.into_inner();
                self.mistake(
                    name,
                    format!("`{value}` is not a whole number from {low} to {high}"),
                );
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.required(name)?;
        match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => {
                self.mistake(name, format!("`{value}` is neither true nor false"));
                None
            }
        }
    }

    pub(crate) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.required(name)?;
        let chosen = choices.iter().find(|(text, _)| text.eq_ignore_ascii_case(&value));
        if chosen.is_none() {
            let texts: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
            self.mistake(name, format!("`{value}` is not one of: {}", texts.join(", ")));
        }
        chosen.map(|(_, choice)| *choice)
    }

    /// Parses with `FromStr` of a type whose errors read well; `expected` says what would be right.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let value = self.required(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.mistake(name, format!("`{value}` is not {expected}"));
        }
        parsed
    }
}

fn find_setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}
