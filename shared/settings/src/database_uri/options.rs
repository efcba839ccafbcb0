//! The part of a `DATABASE_URI` behind the question mark: which options there are, and what TLS they ask for together.
//!
//! Nothing is dropped in silence that somebody may rely on. An option is honoured, or it belongs to a Python driver and means
//! nothing here ([`IGNORED`]), or it is refused by name: a mistyped `ssl_ca` must not connect unverified.

use super::DatabaseUriError;

/// What the connection's TLS must be like, from weak to strong. The words are the database driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tls {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

impl Tls {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Preferred => "PREFERRED",
            Self::Required => "REQUIRED",
            Self::VerifyCa => "VERIFY_CA",
            Self::VerifyIdentity => "VERIFY_IDENTITY",
        }
    }
}

/// Options of Python drivers and pools that mean nothing here, or that this service sets for itself (it always speaks
/// utf8mb4, in UTC, and commits by itself).
const IGNORED: &[&str] = &[
    "autocommit",
    "binary_prefix",
    "charset",
    "collation",
    "connect_timeout",
    "connection_timeout",
    "echo",
    "local_infile",
    "max_overflow",
    "maxsize",
    "minsize",
    "pool_name",
    "pool_pre_ping",
    "pool_recycle",
    "pool_reset_session",
    "pool_size",
    "pool_timeout",
    "program_name",
    "raise_on_warnings",
    "read_timeout",
    "reconnect",
    "sql_mode",
    "time_zone",
    "timezone",
    "use_pure",
    "use_unicode",
    "write_timeout",
];

/// Honoured: one spelling each. Others are brought to it by [`plain_name`].
const TLS_OPTIONS: &str =
    "ssl_mode, ssl_ca, ssl_cert, ssl_key, ssl_verify_cert, ssl_verify_identity and ssl=true|false";

/// What was read so far.
#[derive(Debug, Default)]
struct Wishes {
    /// The strongest TLS that was asked for, and by which option.
    at_least: Option<(Tls, String)>,
    /// No TLS, or no such verification; and which option says so.
    at_most: Vec<(Tls, String)>,
    /// `ssl_mode=PREFERRED` or `DISABLED`, which are no demand but replace the default.
    chosen: Option<Tls>,
    socket: Option<String>,
    files: Vec<(&'static str, String)>,
    others: Vec<(&'static str, String)>,
}

/// The options in the driver's own words, TLS mode first.
pub(super) fn normalize<'a>(
    pairs: impl Iterator<Item = (impl AsRef<str> + 'a, impl Into<String>)>,
) -> Result<Vec<(&'static str, String)>, DatabaseUriError> {
    let mut wishes = Wishes::default();
    let mut seen = Vec::new();
    for (name, value) in pairs {
        let (name, value) = (name.as_ref(), value.into());
        let plain = plain_name(name);
        if seen.contains(&plain) {
            return Err(refused(name, "is given twice"));
        }
        wishes.read(name, &plain, value)?;
        seen.push(plain);
    }
    wishes.into_options()
}

impl Wishes {
    fn read(&mut self, name: &str, plain: &str, value: String) -> Result<(), DatabaseUriError> {
        match plain {
            "socket" if value.is_empty() => return Err(DatabaseUriError::EmptySocket),
            "socket" => self.socket = Some(value),
            "statement_cache_capacity" => {
                if value.parse::<u16>().is_err() {
                    return Err(refused(name, "is not a number of statements from 0 to 65535"));
                }
                self.others.push(("statement-cache-capacity", value));
            }
            "ssl_ca" | "ssl_cert" | "ssl_key" if value.is_empty() => {
                return Err(refused(name, "is empty; it is the path of a PEM file"));
            }
            "ssl_ca" => {
                self.ask(Tls::VerifyCa, name);
                self.files.push(("ssl-ca", value));
            }
            "ssl_cert" => {
                self.ask(Tls::Required, name);
                self.files.push(("ssl-cert", value));
            }
            "ssl_key" => {
                self.ask(Tls::Required, name);
                self.files.push(("ssl-key", value));
            }
            "ssl_mode" => self.mode(name, &value)?,
            "ssl" => self.switch(name, &value, Tls::Required, Tls::Preferred)?,
            "ssl_verify_cert" => self.switch(name, &value, Tls::VerifyCa, Tls::Required)?,
            // MariaDB's own client verifies both with this.
            "ssl_verify_server_cert" => self.switch(name, &value, Tls::VerifyIdentity, Tls::Required)?,
            "ssl_verify_identity" => self.switch(name, &value, Tls::VerifyIdentity, Tls::VerifyCa)?,
            "ssl_disabled" => {
                if boolean(name, &value)? {
                    self.forbid(Tls::Preferred, name);
                }
            }
            "ssl_capath" => {
                return Err(refused(
                    name,
                    "is not supported; put the CAs into one file, ssl_ca",
                ));
            }
            "ssl_key_password" | "ssl_key_passwd" => {
                return Err(refused(
                    name,
                    "is not supported; ssl_key must be a key without a password",
                ));
            }
            "ssl_crl" | "ssl_crlpath" => {
                return Err(refused(
                    name,
                    "is not supported: revoked certificates are not looked up",
                ));
            }
            "ssl_cipher" | "tls_version" | "tls_versions" | "tls_ciphersuites" => {
                return Err(refused(
                    name,
                    "is not supported: TLS is always 1.2 or 1.3 with modern ciphers; take it out, or restrict the server",
                ));
            }
            other if other.contains("ssl") || other.contains("tls") => {
                return Err(refused(
                    name,
                    &format!("is not supported; for TLS there are {TLS_OPTIONS}"),
                ));
            }
            other if IGNORED.contains(&other) => {}
            _ => {
                return Err(refused(
                    name,
                    &format!("is not known; there are socket, statement-cache-capacity, {TLS_OPTIONS}"),
                ));
            }
        }
        Ok(())
    }

    fn mode(&mut self, name: &str, value: &str) -> Result<(), DatabaseUriError> {
        // MySQL's words, and those of MariaDB's connectors.
        match value.to_ascii_lowercase().replace('-', "_").as_str() {
            "disabled" | "disable" => self.forbid(Tls::Preferred, name),
            "preferred" | "prefer" => self.chosen = Some(Tls::Preferred),
            "required" | "require" | "trust" => self.ask(Tls::Required, name),
            "verify_ca" => self.ask(Tls::VerifyCa, name),
            "verify_identity" | "verify_full" => self.ask(Tls::VerifyIdentity, name),
            _ => {
                return Err(refused(
                    name,
                    "is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY",
                ));
            }
        }
        Ok(())
    }

    /// `true` asks for `on`; `false` forbids it, down to `off`.
    fn switch(&mut self, name: &str, value: &str, on: Tls, off: Tls) -> Result<(), DatabaseUriError> {
        if boolean(name, value)? {
            self.ask(on, name);
        } else if off == Tls::Preferred {
            self.forbid(Tls::Preferred, name);
        } else {
            self.at_most.push((off, name.to_owned()));
        }
        Ok(())
    }

    fn ask(&mut self, tls: Tls, name: &str) {
        if self
            .at_least
            .as_ref()
            .is_none_or(|(strongest, _)| tls > *strongest)
        {
            self.at_least = Some((tls, name.to_owned()));
        }
    }

    /// No TLS at all.
    fn forbid(&mut self, above: Tls, name: &str) {
        self.chosen = Some(Tls::Disabled);
        self.at_most.push((above, name.to_owned()));
    }

    fn into_options(self) -> Result<Vec<(&'static str, String)>, DatabaseUriError> {
        if let Some((tls, asking)) = &self.at_least
            && let Some((_, forbidding)) = self.at_most.iter().find(|(most, _)| most < tls)
        {
            return Err(DatabaseUriError::Contradiction {
                asking: asking.clone(),
                forbidding: forbidding.clone(),
            });
        }
        let has = |file: &str| self.files.iter().any(|(name, _)| *name == file);
        if has("ssl-cert") != has("ssl-key") {
            let (there, missing) = if has("ssl-cert") {
                ("ssl_cert", "ssl_key")
            } else {
                ("ssl_key", "ssl_cert")
            };
            return Err(refused(
                there,
                &format!("is given without {missing}; they go together"),
            ));
        }
        let tls = match (self.at_least, self.chosen, &self.socket) {
            (Some((tls, _)), _, _) | (None, Some(tls), _) => Some(tls),
            // What goes through a socket of this machine is seen by nobody else.
            (None, None, Some(_)) => Some(Tls::Disabled),
            (None, None, None) => None,
        };
        let mut options = Vec::new();
        options.extend(tls.map(|tls| ("ssl-mode", tls.as_str().to_owned())));
        options.extend(self.files);
        options.extend(self.socket.map(|path| ("socket", path)));
        options.extend(self.others);
        Ok(options)
    }
}

/// `ssl-ca`, `ssl_ca`, `sslca` and `sslCa` are one; so are the names that drivers have for one thing.
fn plain_name(name: &str) -> String {
    let mut plain = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter == '-' {
            plain.push('_');
        } else if letter.is_ascii_uppercase() {
            if at > 0 && !plain.ends_with('_') {
                plain.push('_');
            }
            plain.push(letter.to_ascii_lowercase());
        } else {
            plain.push(letter);
        }
    }
    match plain.as_str() {
        "unix_socket" => "socket",
        "sslmode" => "ssl_mode",
        "sslca" => "ssl_ca",
        "sslcert" => "ssl_cert",
        "sslkey" => "ssl_key",
        "use_ssl" => "ssl",
        // PyMySQL's and mysqlclient's words for the same.
        "ssl_check_hostname" => "ssl_verify_identity",
        _ => return plain,
    }
    .to_owned()
}

fn boolean(name: &str, value: &str) -> Result<bool, DatabaseUriError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(refused(name, "is neither true nor false")),
    }
}

fn refused(name: &str, why: &str) -> DatabaseUriError {
    DatabaseUriError::Option(name.to_owned(), why.to_owned())
}

#[cfg(test)]
mod tests;
