//! Safe path components from hostile input, and the check that a path is one of ours.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::error::FilesError;

/// Folder of uploads that are still arriving.
pub(crate) const INCOMING: &str = ".incoming";
/// How the names of this program's own small files in the root begin.
pub(crate) const OWN_MARKERS: &str = ".rag-files-";
/// Longest readable part of a stored name, in bytes. Whole components stay far below the usual limit of 255.
const NAME_BYTES: usize = 96;
const EXTENSION_BYTES: usize = 16;
/// Longer paths were not made by this store.
const COMPONENT_BYTES: usize = 160;

/// The domain itself where it is harmless as a folder name, else `~` and the SHA-256 of it.
pub(crate) fn domain_folder(domain: &str) -> String {
    let harmless = (1..=64).contains(&domain.len())
        && domain
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if harmless {
        domain.to_owned()
    } else {
        format!("~{}", hex::encode(Sha256::digest(domain)))
    }
}

/// The name of one stored version: unique by `version`, readable by the rest.
pub(crate) fn stored_name(sha256: &str, version: Uuid, file_name: &str) -> String {
    let version = version.simple().to_string();
    format!("{}-{}-{}", &sha256[..12], &version[..12], readable(file_name))
}

/// `file_name` without folders and with everything but `[A-Za-z0-9._-]` replaced; its extension survives shortening.
fn readable(file_name: &str) -> String {
    let last = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe: String = last
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect();
    let (stem, extension) = match safe.rsplit_once('.') {
        Some((stem, extension)) if (1..=EXTENSION_BYTES).contains(&extension.len()) => (stem, extension),
        _ => (safe.as_str(), ""),
    };
    let stem = stem.trim_matches('.');
    let stem = &stem[..stem.len().min(NAME_BYTES)];
    match (stem, extension) {
        ("", "") => "file".to_owned(),
        ("", extension) => format!("file.{extension}"),
        (stem, "") => stem.to_owned(),
        (stem, extension) => format!("{stem}.{extension}"),
    }
}

/// The relative path of a file's folder, which holds all its versions.
pub(crate) fn folder(domain: &str, file_id: Uuid) -> String {
    format!("{}/{}", domain_folder(domain), file_id.hyphenated())
}

/// The relative path of a stored version, always with `/`.
pub(crate) fn relative_path(domain: &str, file_id: Uuid, stored_name: &str) -> String {
    format!("{}/{stored_name}", folder(domain, file_id))
}

/// Takes only `<folder>/<file id>/<name>` out of the alphabet that this module writes.
pub(crate) fn checked(relative_path: &str) -> Result<PathBuf, FilesError> {
    let components: Vec<&str> = relative_path.split('/').collect();
    let valid = components.len() == 3
        && components.iter().all(|component| is_safe_component(component))
        && Uuid::try_parse(components[1]).is_ok();
    if valid {
        Ok(components.iter().collect())
    } else {
        Err(FilesError::InvalidPath(relative_path.chars().take(200).collect()))
    }
}

/// The file whose folder this is, if it has the name of one.
pub(crate) fn file_of_folder(name: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(name).ok()?;
    (id.hyphenated().to_string() == name).then_some(id)
}

/// Whether [`domain_folder`] makes such names.
pub(crate) fn is_domain_folder(name: &str) -> bool {
    match name.strip_prefix('~') {
        Some(hash) => hash.len() == 64 && is_lower_hex(hash),
        None => domain_folder(name) == name,
    }
}

/// Whether [`stored_name`] makes such names.
pub(crate) fn is_stored_name(name: &str) -> bool {
    let mut parts = name.splitn(3, '-');
    let is_short_hex = |part: Option<&str>| part.is_some_and(|part| part.len() == 12 && is_lower_hex(part));
    is_short_hex(parts.next())
        && is_short_hex(parts.next())
        && parts.next().is_some_and(|rest| !rest.is_empty())
        && is_safe_component(name)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_safe_component(component: &str) -> bool {
    (1..=COMPONENT_BYTES).contains(&component.len())
        && !component.starts_with('.')
        && component
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn harmless_domains_are_readable_and_others_are_hashed() {
        assert_eq!(domain_folder("tenant-1_A"), "tenant-1_A");
        let long = "a".repeat(65);
        for hostile in [
            "..",
            ".",
            "a/b",
            "a\0b",
            "~x",
            "",
            "домен",
            "a b",
            ".incoming",
            long.as_str(),
        ] {
            let folder = domain_folder(hostile);
            assert!(
                folder.starts_with('~') && folder.len() == 65,
                "{hostile:?} -> {folder}"
            );
        }
        assert_ne!(domain_folder("a/b"), domain_folder("a\\b"));
    }

    #[test]
    fn file_names_lose_their_tricks_and_keep_their_extension() {
        let long = format!("{}.pdf", "x".repeat(500));
        let cases = [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("..", "file"),
            ("", "file"),
            (".env", "file.env"),
            ("a\0b.txt", "a_b.txt"),
            ("отчёт за май.docx", "____________.docx"),
            ("no extension", "no_extension"),
            ("x.veryveryverylongextension", "x.veryveryverylongextension"),
        ];
        for (name, expected) in cases {
            assert_eq!(readable(name), expected, "{name:?}");
        }
        assert_eq!(readable(&long).len(), NAME_BYTES + 4);
        assert_eq!(
            readable(&long).rsplit_once('.').map(|(_, extension)| extension),
            Some("pdf")
        );
    }

    #[test]
    fn only_the_own_shape_is_opened() {
        let id = Uuid::new_v4();
        assert!(checked(&format!("d/{id}/abc-def-x.txt")).is_ok());
        for wrong in [
            String::new(),
            "/etc/passwd".to_owned(),
            format!("d/{id}"),
            format!("d/{id}/"),
            format!("d/{id}/.."),
            format!("../{id}/x"),
            format!(".incoming/{id}/x"),
            format!("d/{id}/a/b"),
            format!("d/{id}/a\0"),
            format!("d/{id}/a b"),
            "d/not-a-uuid/x".to_owned(),
            format!("d/{id}/{}", "x".repeat(161)),
        ] {
            assert!(
                matches!(checked(&wrong), Err(FilesError::InvalidPath(_))),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn names_that_we_do_not_make_are_strange() {
        for name in [
            "",
            ".",
            "..",
            ".incoming",
            "lost+found",
            "~abc",
            "a b",
            "backup.old",
            "~A",
        ] {
            assert!(!is_domain_folder(name), "{name:?}");
        }
        let id = Uuid::new_v4();
        for name in [
            String::new(),
            id.simple().to_string(),
            id.to_string().to_uppercase(),
            format!("{{{id}}}"),
            format!("{id}.bak"),
        ] {
            assert!(file_of_folder(&name).is_none(), "{name:?}");
        }
        for name in [
            "notes.txt",
            "0123456789ab-0123456789ab",
            "0123456789ab-0123456789ab-",
            "0123456789AB-0123456789ab-x.txt",
            "0123456789a-0123456789ab-x.txt",
            "0123456789ab-0123456789ab-x y.txt",
            ".0123456789ab-0123456789ab-x.txt",
            ".nfs000000000000",
        ] {
            assert!(!is_stored_name(name), "{name:?}");
        }
        assert!(is_stored_name("0123456789ab-0123456789ab-x-y.txt"));
    }

    proptest! {
        #[test]
        fn any_input_gives_a_path_that_is_accepted(domain in ".{0,200}", name in ".{0,600}") {
            let stored = stored_name(&"0".repeat(64), Uuid::new_v4(), &name);
            let path = relative_path(&domain, Uuid::new_v4(), &stored);
            prop_assert!(checked(&path).is_ok(), "{path}");
            prop_assert!(path.len() < 300);
            let parts: Vec<_> = path.split('/').collect();
            prop_assert!(is_domain_folder(parts[0]), "{path}");
            prop_assert!(file_of_folder(parts[1]).is_some(), "{path}");
            prop_assert!(is_stored_name(parts[2]), "{path}");
        }
    }
}
