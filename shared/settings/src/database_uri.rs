//! `DATABASE_URI` in the forms people already have: plain, and as SQLAlchemy writes it.

mod options;

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use url::Url;

/// Where MariaDB is, normalized to `mysql://user:password@host:port/database?ssl-mode=…&socket=…`.
#[derive(Clone)]
pub struct DatabaseUri {
    normalized: SecretString,
    /// The same without its password.
    printable: String,
}

/// Why a `DATABASE_URI` was refused. Never quotes the value: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DatabaseUriError {
    #[error("is not a URI such as mysql://user:password@host:3306/rag ({0})")]
    Syntax(url::ParseError),
    #[error(
        "has the scheme `{0}`; this service needs MariaDB: mysql:// or mariadb://, with or without +driver"
    )]
    Scheme(String),
    #[error("names no database; put it after the host, as in mysql://host:3306/rag")]
    NoDatabase,
    #[error("has an empty socket path")]
    EmptySocket,
    #[error("has the option `{0}`, which {1}")]
    Option(String, String),
    #[error(
        "contradicts itself: `{asking}` asks for TLS that `{forbidding}` switches off; take one of them out"
    )]
    Contradiction { asking: String, forbidding: String },
}

impl DatabaseUri {
    /// Accepts `mysql://` and `mariadb://`, each also with a SQLAlchemy driver (`mysql+pymysql://`), and a unix socket
    /// as `?socket=` or `?unix_socket=`. What becomes of other options is in `options`.
    pub fn parse(text: &str) -> Result<Self, DatabaseUriError> {
        let mut url = Url::parse(&with_host(text)).map_err(DatabaseUriError::Syntax)?;
        let scheme = url.scheme().to_owned();
        let dialect = scheme.split('+').next().unwrap_or_default();
        if !matches!(dialect, "mysql" | "mariadb") {
            return Err(DatabaseUriError::Scheme(scheme));
        }
        let database = url.path().trim_matches('/');
        if database.is_empty() || database.contains('/') {
            return Err(DatabaseUriError::NoDatabase);
        }
        let options = options::normalize(url.query_pairs())?;
        url.set_query(None);
        if !options.is_empty() {
            url.query_pairs_mut().extend_pairs(options);
        }
        let rest = &url.as_str()[scheme.len()..];
        let normalized = SecretString::from(format!("mysql{rest}"));
        let printable = without_password(normalized.expose_secret());
        Ok(Self {
            normalized,
            printable,
        })
    }

    /// The whole URI with its password, for the database driver.
    pub fn expose(&self) -> &str {
        self.normalized.expose_secret()
    }
}

impl fmt::Display for DatabaseUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printable)
    }
}

impl fmt::Debug for DatabaseUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUri").field(&self.printable).finish()
    }
}

impl std::str::FromStr for DatabaseUri {
    type Err = DatabaseUriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// SQLAlchemy lets the host out when there is a socket (`mysql://root@/rag`); the URL standard does not.
fn with_host(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.is_empty() || authority.ends_with('@') {
        return format!("{scheme}://{authority}localhost{tail}");
    }
    text.to_owned()
}

fn without_password(normalized: &str) -> String {
    Url::parse(normalized).map_or_else(
        |_| "[REDACTED]".to_owned(),
        |mut url| {
            if url.password().is_some() && url.set_password(Some("REDACTED")).is_err() {
                return "[REDACTED]".to_owned();
            }
            url.into()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(text: &str) -> String {
        DatabaseUri::parse(text).unwrap().expose().to_owned()
    }

    #[test]
    fn every_customary_form_becomes_one() {
        let plain = "mysql://user:pa%40ss@db:3307/rag";
        for scheme in [
            "mysql",
            "mariadb",
            "mysql+pymysql",
            "mariadb+mariadbconnector",
            "mysql+aiomysql",
        ] {
            assert_eq!(
                normalized(&format!("{scheme}://user:pa%40ss@db:3307/rag?charset=utf8mb4")),
                plain
            );
        }
    }

    #[test]
    fn sockets_with_and_without_host() {
        let expected = "mysql://root@localhost/rag?ssl-mode=DISABLED&socket=%2Frun%2Fm.sock";
        assert_eq!(
            normalized("mysql+pymysql://root@/rag?unix_socket=/run/m.sock"),
            expected
        );
        assert_eq!(
            normalized("mariadb://root@localhost/rag?socket=/run/m.sock"),
            expected
        );
        assert_eq!(
            normalized("mysql:///rag?socket=/run/m.sock"),
            "mysql://localhost/rag?ssl-mode=DISABLED&socket=%2Frun%2Fm.sock"
        );
        assert_eq!(
            DatabaseUri::parse("mysql://h/rag?socket=").unwrap_err(),
            DatabaseUriError::EmptySocket
        );
    }

    #[test]
    fn wrong_ones_are_refused_without_quoting_the_password() {
        let cases = [
            (
                "postgresql+psycopg://u:hunter2@h/rag",
                DatabaseUriError::Scheme("postgresql+psycopg".into()),
            ),
            ("sqlite:////tmp/rag.db", DatabaseUriError::Scheme("sqlite".into())),
            ("mysql://u:hunter2@h", DatabaseUriError::NoDatabase),
            ("mysql://u:hunter2@h/", DatabaseUriError::NoDatabase),
            ("mysql://u:hunter2@h/a/b", DatabaseUriError::NoDatabase),
            (
                "mysql://u:hunter2@h:port/rag",
                DatabaseUriError::Syntax(url::ParseError::InvalidPort),
            ),
        ];
        for (text, expected) in cases {
            let error = DatabaseUri::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!(matches!(
            DatabaseUri::parse("rag.db"),
            Err(DatabaseUriError::Syntax(_))
        ));
    }

    #[test]
    fn the_password_is_never_printed() {
        let uri = DatabaseUri::parse("mysql://user:hunter2@db/rag").unwrap();
        assert_eq!(uri.to_string(), "mysql://user:REDACTED@db/rag");
        assert!(!format!("{uri:?}").contains("hunter2"));
        assert!(uri.expose().contains("hunter2"));
    }
}
