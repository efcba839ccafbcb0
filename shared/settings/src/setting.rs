//! One setting: what is known about it (name, default, range, help) together with the function that parses it.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use secrecy::SecretString;

/// What is known about one environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub section: &'static str,
    /// The value used when the variable is not set; `None`: there is none (see `help` for what that means).
    pub default: Option<&'static str>,
    /// A program does not start without it.
    pub required: bool,
    /// Which values are allowed, as in "1 to 3600"; empty: the help says it.
    pub range: String,
    /// What a number counts, as in "seconds"; empty: the help says it.
    pub unit: &'static str,
    pub help: &'static str,
    /// Never printed, not even in part.
    pub secret: bool,
}

type Parse<T> = Box<dyn Fn(&str) -> Result<T, String>>;

/// A setting whose value is a `T`.
pub(crate) struct Typed<T> {
    pub(crate) setting: Setting,
    /// The error says what is wrong with the value; it quotes none that may be a secret.
    pub(crate) parse: Parse<T>,
    /// What it means that the variable is not set and has no default; `None`: that is an error.
    pub(crate) absent: Option<fn() -> T>,
}

impl<T: 'static> Typed<T> {
    /// A setting whose values are parsed by a function; without a default it is required.
    pub(crate) fn new(
        name: &'static str,
        help: &'static str,
        parse: impl Fn(&str) -> Result<T, String> + 'static,
    ) -> Self {
        Self {
            setting: Setting {
                name,
                section: "",
                default: None,
                required: true,
                range: String::new(),
                unit: "",
                help,
                secret: false,
            },
            parse: Box::new(parse),
            absent: None,
        }
    }

    pub(crate) fn default(mut self, text: &'static str) -> Self {
        self.setting.default = Some(text);
        self.setting.required = false;
        self
    }

    pub(crate) fn range(mut self, text: impl Into<String>) -> Self {
        self.setting.range = text.into();
        self
    }

    pub(crate) fn unit(mut self, unit: &'static str) -> Self {
        self.setting.unit = unit;
        self
    }

    pub(crate) fn secret(mut self) -> Self {
        self.setting.secret = true;
        self
    }

    /// It may be absent, and then the value is `None`.
    pub(crate) fn optional(self) -> Typed<Option<T>> {
        let mut optional = self.map(Some);
        optional.setting.required = false;
        optional.absent = Some(|| None);
        optional
    }

    pub(crate) fn map<U: 'static>(self, change: impl Fn(T) -> U + 'static) -> Typed<U> {
        let parse = self.parse;
        Typed {
            setting: self.setting,
            parse: Box::new(move |text| parse(text).map(&change)),
            absent: None,
        }
    }

    pub(crate) fn in_section(mut self, section: &'static str) -> Self {
        self.setting.section = section;
        self
    }
}

/// A whole number within a range.
pub(crate) fn whole<T>(name: &'static str, range: RangeInclusive<T>, help: &'static str) -> Typed<T>
where
    T: FromStr + PartialOrd + fmt::Display + 'static,
{
    let (low, high) = (range.start().to_string(), range.end().to_string());
    let allowed = format!("{low} to {high}");
    let parse = move |text: &str| match text.parse::<T>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is not a whole number from {low} to {high}")),
    };
    Typed::new(name, help, parse).range(allowed)
}

/// One of a few words.
pub(crate) fn choice<T: Copy + 'static>(
    name: &'static str,
    choices: &'static [(&'static str, T)],
    help: &'static str,
) -> Typed<T> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let words = words.join(", ");
    let allowed = words.clone();
    let parse = move |text: &str| {
        let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        chosen
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("`{text}` is not one of: {words}"))
    };
    Typed::new(name, help, parse).range(allowed)
}

pub(crate) fn boolean(name: &'static str, help: &'static str) -> Typed<bool> {
    let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    };
    Typed::new(name, help, parse).range("true, false")
}

/// Any text.
pub(crate) fn text(name: &'static str, help: &'static str) -> Typed<String> {
    Typed::new(name, help, |text| Ok(text.to_owned()))
}

pub(crate) fn secret(name: &'static str, help: &'static str) -> Typed<SecretString> {
    Typed::new(name, help, |text| Ok(SecretString::from(text.to_owned()))).secret()
}
