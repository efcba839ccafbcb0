//! Quotas of a domain: how many files and bytes it may store.
//!
//! Checked twice: before the transfer, as far as the request tells its size ([`Room::of`]), so that no caller sends half a
//! gigabyte in vain; and under a lock in the transaction that writes the row ([`admit`]), so that two uploads at once cannot
//! both use the last of the quota.

use http::{HeaderMap, header};
use rag_db::quotas::{self, Usage};
use rag_domain::DomainId;
use rag_settings::ApiSettings;
use sqlx::MySqlConnection;

use crate::http::problem::{Kind, Problem};
use crate::state::App;

/// What an upload adds to its domain, and what it replaces.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) new_files: u64,
    pub(crate) new_bytes: u64,
    /// Bytes that the new ones replace.
    pub(crate) old_bytes: u64,
}

/// How many bytes an upload may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// The smaller of the limit of a file and the rest of the domain's quota.
    pub(crate) bytes: u64,
    quota: Option<u64>,
}

impl Room {
    /// Refuses what certainly does not fit. Up to `form_bytes` of the request's length may belong to the form and not to the file.
    pub(crate) async fn of(
        app: &App,
        domain: &DomainId,
        headers: &HeaderMap,
        form_bytes: u64,
        change: Change,
    ) -> Result<Self, Problem> {
        let api = &app.settings.api;
        let mut room = Self {
            bytes: api.max_file_bytes,
            quota: None,
        };
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let least = length.map_or(0, |length| length.saturating_sub(form_bytes));
        if has_none(api) {
            return Ok(room);
        }
        let usage = quotas::usage(&mut *app.connection().await?, domain).await?;
        let least = Change {
            new_bytes: change.new_bytes.max(least),
            ..change
        };
        check(api, usage, least)?;
        if let Some(quota) = api.domain_max_bytes {
            let left = quota.saturating_sub(usage.bytes) + change.old_bytes;
            if left < room.bytes {
                room = Self {
                    bytes: left,
                    quota: Some(quota),
                };
            }
        }
        Ok(room)
    }

    /// The problem of a file with more than [`bytes`](Self::bytes).
    pub(crate) fn exceeded(self) -> Problem {
        match self.quota {
            Some(quota) => too_many_bytes(quota),
            None => Problem::new(
                Kind::ContentTooLarge,
                format!("the file is larger than {} bytes", self.bytes),
            ),
        }
    }
}

/// Checks the quotas against the rows, and locks the domain's usage until the transaction ends.
pub(crate) async fn admit(
    app: &App,
    tx: &mut MySqlConnection,
    domain: &DomainId,
    change: Change,
) -> Result<(), Problem> {
    if has_none(&app.settings.api) {
        return Ok(());
    }
    quotas::lock(tx, domain).await?;
    check(&app.settings.api, quotas::usage(tx, domain).await?, change)
}

fn has_none(api: &ApiSettings) -> bool {
    api.domain_max_bytes.is_none() && api.domain_max_files.is_none()
}

/// A change that makes a domain smaller is always allowed, even if a quota was lowered below the present usage.
fn check(api: &ApiSettings, usage: Usage, change: Change) -> Result<(), Problem> {
    if let Some(quota) = api.domain_max_files
        && change.new_files > 0
        && usage.files + change.new_files > quota
    {
        let detail = format!("the domain has {} of at most {quota} files", usage.files);
        return Err(Problem::new(Kind::FilesQuotaExceeded, detail));
    }
    let bytes = usage.bytes.saturating_sub(change.old_bytes) + change.new_bytes;
    match api.domain_max_bytes {
        Some(quota) if bytes > quota && change.new_bytes > change.old_bytes => Err(too_many_bytes(quota)),
        _ => Ok(()),
    }
}

fn too_many_bytes(quota: u64) -> Problem {
    let detail = format!("with this file the domain would have more than {quota} bytes");
    Problem::new(Kind::BytesQuotaExceeded, detail)
}
