//! Why a connection could not be made, in a line that says what to do about it.
//!
//! A pool hides the reason (it tries until its time is over and says so), and the driver reports a certificate that it does
//! not trust as an input/output error. The first connection is therefore made without a pool, and its error explained here.

use std::io::ErrorKind;

use rustls::{CertificateError, Error as TlsError};
use sqlx::mysql::MySqlDatabaseError;

use crate::options::Target;

/// The server is reachable and something about the request is wrong, or the server is not reachable.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    what: String,
    #[source]
    source: Option<sqlx::Error>,
}

impl Refusal {
    pub(crate) fn new(target: &Target, error: sqlx::Error) -> Self {
        match explain(target, &error) {
            // It says all that the error does.
            Some(what) => Self { what, source: None },
            None => Self {
                what: format!("MariaDB at {} cannot be used", target.address()),
                source: Some(error),
            },
        }
    }

    pub(crate) fn no_answer(target: &Target, seconds: u64) -> Self {
        Self {
            what: format!(
                "MariaDB at {} did not answer within {seconds} seconds",
                target.address()
            ),
            source: None,
        }
    }
}

/// Worth trying again for a while at the start: the server may be about to come up, or be full for a moment.
pub(crate) fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::NotFound
                | ErrorKind::ConnectionReset
                | ErrorKind::UnexpectedEof
        ),
        // Too many connections, of all or of this account; shutting down.
        error => number(error).is_some_and(|number| matches!(number, 1040 | 1203 | 1226 | 1053)),
    }
}

pub(crate) fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?;
    error
        .try_downcast_ref::<MySqlDatabaseError>()
        .map(MySqlDatabaseError::number)
}

/// `None`: the error speaks for itself.
fn explain(target: &Target, error: &sqlx::Error) -> Option<String> {
    let address = target.address();
    match error {
        sqlx::Error::Io(error) => {
            if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
                return Some(explain_tls(target, tls));
            }
            if target.options.get_socket().is_some() {
                return Some(match error.kind() {
                    ErrorKind::NotFound => {
                        format!(
                            "there is no socket {address}: MariaDB does not run here, or its socket lies elsewhere"
                        )
                    }
                    ErrorKind::ConnectionRefused => {
                        format!("nothing listens at the socket {address}: MariaDB does not run")
                    }
                    _ => return None,
                });
            }
            match error.kind() {
                ErrorKind::ConnectionRefused => Some(format!(
                    "nothing listens at {address}: MariaDB does not run there, or listens elsewhere"
                )),
                // The resolver's errors have no kind of their own.
                _ if error.to_string().contains("lookup address") => Some(format!(
                    "the host `{}` is not known ({error})",
                    target.options.get_host()
                )),
                _ => None,
            }
        }
        sqlx::Error::Tls(error) if error.to_string().contains("does not support TLS") => Some(format!(
            "MariaDB at {address} offers no TLS, which DATABASE_URI asks for: configure its ssl_cert and ssl_key, or take \
             the ssl options out"
        )),
        sqlx::Error::Protocol(text) => unknown_plugin(target, text),
        error => {
            let what = explain_number(target, number(error)?)?;
            Some(format!("{what} ({})", error.as_database_error()?.message()))
        }
    }
}

fn explain_number(target: &Target, number: u16) -> Option<String> {
    let address = target.address();
    let account = target.options.get_username();
    Some(match number {
        1045 | 1698 => format!(
            "MariaDB at {address} does not let the account `{account}` in: the name or the password is wrong, or the account \
             is for another host, or asks for TLS, for a client certificate or for unix_socket"
        ),
        1049 => format!(
            "MariaDB at {address} has no database `{}`: create it, or correct DATABASE_URI",
            target.options.get_database().unwrap_or_default()
        ),
        1044 => format!(
            "the account `{account}` has no rights on the database `{}`, or there is no such database",
            target.options.get_database().unwrap_or_default()
        ),
        1040 | 1203 | 1226 => format!("MariaDB at {address} takes no further connections"),
        1129 | 1130 => format!("MariaDB at {address} does not take connections from this machine"),
        1820 | 1862 => format!("the password of the account `{account}` has expired: set a new one"),
        4151 => format!("the account `{account}` is locked"),
        3159 => format!(
            "MariaDB at {address} takes TLS connections only: take ssl_mode=DISABLED out of DATABASE_URI"
        ),
        _ => return None,
    })
}

/// For a name that it does not know a server goes on as if it were one that it knows, and so may ask for any plugin.
fn unknown_plugin(target: &Target, text: &str) -> Option<String> {
    let (_, plugin) = text.split_once("unknown authentication plugin: ")?;
    // The driver adds where in its sources it stands.
    let plugin = match plugin.split_whitespace().next()? {
        "client_ed25519" => "ed25519",
        "dialog" => "pam",
        "auth_gssapi_client" => "gssapi",
        other => other,
    };
    Some(format!(
        "the account `{}` logs in by `{plugin}`, which this program does not speak (or there is no such account); use \
         mysql_native_password (ALTER USER … IDENTIFIED VIA mysql_native_password USING PASSWORD('…')), or unix_socket on \
         the same machine",
        target.options.get_username()
    ))
}

fn explain_tls(target: &Target, error: &TlsError) -> String {
    let address = target.address();
    let ca = target.ca.as_ref().map(|path| path.display());
    match error {
        TlsError::InvalidCertificate(problem) if is_foreign(problem) => match ca {
            Some(ca) => {
                format!("the certificate of MariaDB at {address} is not signed by the CA in {ca} ({problem})")
            }
            None => format!(
                "the certificate of MariaDB at {address} is not signed by a CA that this machine knows; name its CA by \
                 ssl_ca ({problem})"
            ),
        },
        TlsError::InvalidCertificate(
            problem @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        ) => format!(
            "the certificate of MariaDB at {address} is not for `{}`: name the host as the certificate does, or ask for \
             ssl_mode=VERIFY_CA ({problem})",
            target.options.get_host()
        ),
        TlsError::InvalidCertificate(problem) => {
            format!("the certificate of MariaDB at {address} is not valid: {problem}")
        }
        TlsError::AlertReceived(alert) => {
            format!(
                "MariaDB at {address} ended the TLS handshake ({alert:?}); does it know the CA of ssl_cert?"
            )
        }
        error => format!("no TLS connection to MariaDB at {address}: {error}"),
    }
}

/// Signed by somebody else, or by itself.
fn is_foreign(problem: &CertificateError) -> bool {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        // webpki's word for a self-signed certificate that is a CA's, or of an old version.
        CertificateError::Other(other) => {
            let text = other.to_string();
            text.contains("CaUsedAsEndEntity") || text.contains("UnsupportedCertVersion")
        }
        _ => false,
    }
}
