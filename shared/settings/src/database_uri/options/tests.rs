//! What each option, and what several together, ask for.

use super::*;

fn read(query: &str) -> Result<String, DatabaseUriError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        (name, value)
    });
    let options = normalize(pairs)?;
    Ok(options
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&"))
}

#[test]
fn every_spelling_asks_for_the_same() {
    for name in ["ssl_ca", "ssl-ca", "sslca", "sslCa"] {
        assert_eq!(
            read(&format!("{name}=/ca.pem")).unwrap(),
            "ssl-mode=VERIFY_CA&ssl-ca=/ca.pem"
        );
    }
    for mode in ["VERIFY_IDENTITY", "verify-identity", "verify-full"] {
        assert_eq!(
            read(&format!("ssl_mode={mode}")).unwrap(),
            "ssl-mode=VERIFY_IDENTITY"
        );
    }
}

#[test]
fn the_strictest_wish_holds() {
    for (query, expected) in [
        ("", ""),
        ("charset=utf8mb4&read_timeout=5", ""),
        ("ssl=true", "ssl-mode=REQUIRED"),
        ("ssl=false", "ssl-mode=DISABLED"),
        ("ssl_disabled=true", "ssl-mode=DISABLED"),
        ("ssl_disabled=false", ""),
        ("ssl_mode=PREFERRED", "ssl-mode=PREFERRED"),
        ("ssl_mode=preferred&ssl_ca=/c", "ssl-mode=VERIFY_CA&ssl-ca=/c"),
        ("ssl_ca=/c&ssl-mode=REQUIRED", "ssl-mode=VERIFY_CA&ssl-ca=/c"),
        (
            "ssl_ca=/c&ssl_verify_identity=false",
            "ssl-mode=VERIFY_CA&ssl-ca=/c",
        ),
        (
            "ssl_ca=/c&ssl_check_hostname=true",
            "ssl-mode=VERIFY_IDENTITY&ssl-ca=/c",
        ),
        (
            "ssl_verify_cert=true&ssl_verify_identity=true",
            "ssl-mode=VERIFY_IDENTITY",
        ),
        ("ssl_verify_cert=true", "ssl-mode=VERIFY_CA"),
        ("ssl_verify_server_cert=true", "ssl-mode=VERIFY_IDENTITY"),
        ("ssl_verify_cert=false", ""),
        (
            "ssl_cert=/c&ssl_key=/k",
            "ssl-mode=REQUIRED&ssl-cert=/c&ssl-key=/k",
        ),
        ("socket=/s", "ssl-mode=DISABLED&socket=/s"),
        ("socket=/s&ssl=true", "ssl-mode=REQUIRED&socket=/s"),
        ("socket=/s&ssl_mode=PREFERRED", "ssl-mode=PREFERRED&socket=/s"),
        ("statement-cache-capacity=50", "statement-cache-capacity=50"),
    ] {
        assert_eq!(read(query).as_deref(), Ok(expected), "{query}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_both_names() {
    for (query, asking, forbidding) in [
        ("ssl_ca=/c&ssl_mode=DISABLED", "ssl_ca", "ssl_mode"),
        ("ssl=false&ssl_ca=/c", "ssl_ca", "ssl"),
        ("ssl_ca=/c&ssl_verify_cert=false", "ssl_ca", "ssl_verify_cert"),
        (
            "ssl_mode=VERIFY_IDENTITY&ssl_check_hostname=false",
            "ssl_mode",
            "ssl_check_hostname",
        ),
        ("ssl_disabled=1&ssl=1", "ssl", "ssl_disabled"),
        ("ssl_cert=/c&ssl_key=/k&ssl-mode=disabled", "ssl_cert", "ssl-mode"),
    ] {
        let expected = DatabaseUriError::Contradiction {
            asking: asking.to_owned(),
            forbidding: forbidding.to_owned(),
        };
        assert_eq!(read(query), Err(expected), "{query}");
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    for (query, name) in [
        ("ssl_cipher=AES256-SHA", "ssl_cipher"),
        ("ssl_capath=/etc/ssl/certs", "ssl_capath"),
        ("ssl-crl=/crl.pem", "ssl-crl"),
        ("tls_version=TLSv1.3", "tls_version"),
        ("ssl_key_password=x", "ssl_key_password"),
        ("tls=skip-verify", "tls"),
        ("trustServerCertificate=true", "trustServerCertificate"),
        ("ssl_ca=", "ssl_ca"),
        ("ssl_mode=sometimes", "ssl_mode"),
        ("ssl=maybe", "ssl"),
        ("ssl_cert=/c", "ssl_cert"),
        ("ssl_key=/k", "ssl_key"),
        ("ssl_ca=/a&ssl-ca=/b", "ssl-ca"),
        ("sll_ca=/a", "sll_ca"),
        ("init_command=SET%20x", "init_command"),
        ("read_default_file=/etc/my.cnf", "read_default_file"),
        ("statement-cache-capacity=many", "statement-cache-capacity"),
    ] {
        let error = read(query).unwrap_err();
        assert!(
            error.to_string().contains(&format!("`{name}`")),
            "{query}: {error}"
        );
    }
}
