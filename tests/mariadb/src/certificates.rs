//! Certificates for servers of a test's own: an authority, and what it signs. Nothing here is meant to be kept.
//!
//! They are valid from 1975 to 4096, as the crate makes them by itself: no test depends on the clock.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certification authority of a test's own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, both as PEM.
#[derive(Clone)]
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

/// Where [`Authority::write_server_files`] has put things.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// The authority's certificate.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    /// Only its owner may read it.
    pub key: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate(…)")
    }
}

impl Authority {
    /// A new one: no other authority's certificates pass for its own, even if the names are alike.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Its own certificate, as PEM: what a client is given to trust.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For a server with these names, which may be addresses.
    pub fn server(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// For a server on this machine: `localhost` and 127.0.0.1.
    pub fn local_server(&self) -> Certificate {
        self.server(&["localhost", "127.0.0.1"])
    }

    /// For a client that a server knows by its certificate (`REQUIRE X509`).
    pub fn client(&self, name: &str) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// Writes `ca.pem`, `server.pem` and `server-key.pem` into an existing folder.
    pub fn write_server_files(&self, folder: &Path, server: &Certificate) -> io::Result<ServerFiles> {
        let files = ServerFiles {
            ca: folder.join("ca.pem"),
            certificate: folder.join("server.pem"),
            key: folder.join("server-key.pem"),
        };
        std::fs::write(&files.ca, self.pem())?;
        server.write(&files.certificate, &files.key)?;
        Ok(files)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Certificate {
    /// Writes both files; the key's can be read by its owner only.
    pub fn write(&self, certificate: &Path, key: &Path) -> io::Result<()> {
        std::fs::write(certificate, &self.certificate)?;
        // An old file would keep its permissions.
        if let Err(error) = std::fs::remove_file(key)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(key)?
            .write_all(self.key.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_files_of_a_server_are_written_and_the_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server-key.pem"), "old").unwrap();
        let authority = Authority::new("test");
        let files = authority
            .write_server_files(folder.path(), &authority.local_server())
            .unwrap();
        let key = std::fs::metadata(&files.key).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        for (path, begin) in [
            (files.ca, "-----BEGIN CERTIFICATE-----"),
            (files.certificate, "-----BEGIN CERTIFICATE-----"),
            (files.key, "-----BEGIN PRIVATE KEY-----"),
        ] {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(begin), "{}: {text}", path.display());
        }
    }
}
