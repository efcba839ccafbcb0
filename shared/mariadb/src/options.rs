//! `DATABASE_URI` (already normalized by `rag-settings`) as options of a connection, after a check of the files that it names.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sqlx::mysql::MySqlConnectOptions;
use url::Url;

/// A server, how to reach it, and what to call it in messages.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) options: MySqlConnectOptions,
    pub(crate) ca: Option<PathBuf>,
}

/// Why no connection can even be tried.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("DATABASE_URI is not usable")]
    Uri(#[source] sqlx::Error),
    #[error("DATABASE_URI: the file of `{option}`, {}, cannot be read", path.display())]
    Unreadable {
        option: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("DATABASE_URI: the file of `{option}`, {}, holds no {what} in PEM form", path.display())]
    NotPem {
        option: &'static str,
        path: PathBuf,
        what: &'static str,
    },
}

impl Target {
    /// Reads the URI and the certificates that it names.
    pub fn parse(uri: &str) -> Result<Self, TargetError> {
        let unusable = |error| TargetError::Uri(sqlx::Error::Configuration(Box::new(error)));
        let url = Url::parse(uri).map_err(unusable)?;
        let mut options = MySqlConnectOptions::from_str(uri).map_err(TargetError::Uri)?;
        // The driver hands the brackets of an IPv6 address to the resolver.
        if let Some(url::Host::Ipv6(address)) = url.host() {
            options = options.host(&address.to_string());
        }
        let file = |option: &str| {
            let mut pairs = url.query_pairs();
            pairs.find_map(|(name, value)| (name == option).then(|| PathBuf::from(value.as_ref())))
        };
        let ca = file("ssl-ca");
        if let Some(path) = &ca {
            require_certificate("ssl_ca", path)?;
        }
        if let Some(path) = file("ssl-cert") {
            require_certificate("ssl_cert", &path)?;
        }
        if let Some(path) = file("ssl-key")
            && PrivateKeyDer::from_pem_slice(&read("ssl_key", &path)?).is_err()
        {
            return Err(TargetError::NotPem {
                option: "ssl_key",
                path,
                what: "private key without a password",
            });
        }
        Ok(Self { options, ca })
    }

    /// For a pool, or a connection without one.
    pub fn options(&self) -> MySqlConnectOptions {
        self.options.clone()
    }

    /// The socket's path, or `host:port`.
    pub(crate) fn address(&self) -> String {
        match self.options.get_socket() {
            Some(path) => path.display().to_string(),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        }
    }
}

fn require_certificate(option: &'static str, path: &Path) -> Result<(), TargetError> {
    let bytes = read(option, path)?;
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        if certificate.is_err() {
            found = 0;
            break;
        }
        found += 1;
    }
    if found == 0 {
        return Err(TargetError::NotPem {
            option,
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(())
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TargetError> {
    std::fs::read(path).map_err(|source| TargetError::Unreadable {
        option,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_brackets_loses_them() {
        let target = Target::parse("mysql://u@[::1]:3307/rag").unwrap();
        assert_eq!(target.options.get_host(), "::1");
        assert_eq!(target.options.get_port(), 3307);
    }

    #[test]
    fn files_that_are_missing_or_something_else_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(&text, "hello").unwrap();
        for (option, name) in [
            ("ssl-ca", "ssl_ca"),
            ("ssl-cert", "ssl_cert"),
            ("ssl-key", "ssl_key"),
        ] {
            let uri = format!("mysql://u@h/rag?{option}={}", text.display());
            let error = Target::parse(&uri).unwrap_err();
            assert!(
                matches!(error, TargetError::NotPem { option, .. } if option == name),
                "{error}"
            );
            let error = Target::parse(&format!("{uri}.gone")).unwrap_err();
            assert!(error.to_string().contains("text.gone"), "{error}");
            assert!(
                matches!(error, TargetError::Unreadable { option, .. } if option == name),
                "{error}"
            );
        }
    }
}
