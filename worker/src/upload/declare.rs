//! Says what is about to be uploaded, or finds out who is at it: many files in one transaction.
//!
//! Reads the files, their copies and the intents. Writes intents and the rows of the copies that are to be made. Calls nothing.

use std::collections::{HashMap, HashSet};

use rag_db::composition::Member;
use rag_db::files;
use rag_db::intents::{self, Content, Declared, Intent};
use rag_db::uploads::{self, Upload, Wanted};
use rag_domain::{FileId, UploadStatus};
use sqlx::MySqlConnection;

use crate::lease::{Scope, is_held};
use crate::step_error::StepError;

/// What is known of a file before its upload.
#[derive(Debug)]
pub(crate) enum Declaration {
    /// The provider has its present contents.
    There,
    /// Another job is at it.
    Busy,
    /// The file was deleted since the plan was made.
    Gone,
    /// Nothing of it can be at the provider.
    Fresh(Intent),
    /// An earlier upload was never answered.
    Inherited(Intent),
}

/// Declares an upload of each of these files, in their order. The transaction is fenced already.
pub(crate) async fn declare(
    scope: &Scope<'_>,
    tx: &mut MySqlConnection,
    members: &[&Member],
) -> Result<Vec<Declaration>, StepError> {
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let mut ids: Vec<FileId> = members.iter().map(|member| member.desired.file_id).collect();
    ids.sort_unstable();
    // Who deletes a file holds this lock while looking for intents: either ours is seen there, or the deletion here.
    let present: HashSet<FileId> = files::lock_many(tx, &scope.domain_id, &ids)
        .await?
        .into_iter()
        .collect();
    let mut wanted: Vec<&Member> = members
        .iter()
        .copied()
        .filter(|member| present.contains(&member.desired.file_id))
        .collect();
    wanted.sort_unstable_by_key(|member| member.desired.file_id);
    let new: Vec<_> = wanted
        .iter()
        .map(|member| (member.desired.file_id, content(member)))
        .collect();
    let declared = intents::declare_uploads(tx, &scope.provider_type, &scope.token, &new).await?;
    let mut fresh = HashMap::new();
    let mut found = HashMap::new();
    // By the claim that holds them: mostly one that ended with its worker.
    let mut existing = HashMap::new();
    for (member, declared) in wanted.into_iter().zip(declared) {
        let id = member.desired.file_id;
        match declared {
            // It comes and goes under our eyes.
            None => drop(found.insert(id, Declaration::Busy)),
            Some(Declared::New(intent)) => drop(fresh.insert(id, (member, intent))),
            Some(Declared::Existing(intent)) => existing
                .entry(intent.claim_token.clone())
                .or_insert_with(Vec::new)
                .push((id, intent)),
        }
    }
    for (holder, intents) in existing {
        let is_taken = take_over_many(scope, tx, holder.as_deref(), &intents).await?;
        found.extend(intents.into_iter().map(|(id, intent)| {
            let declaration = if is_taken {
                Declaration::Inherited(intent)
            } else {
                Declaration::Busy
            };
            (id, declaration)
        }));
    }
    found.extend(want_fresh(scope, tx, fresh).await?);
    Ok(members
        .iter()
        .map(|member| found.remove(&member.desired.file_id).unwrap_or(Declaration::Gone))
        .collect())
}

/// Takes intents from a claim that is no longer live. `false`: it is.
async fn take_over_many(
    scope: &Scope<'_>,
    tx: &mut MySqlConnection,
    holder: Option<&str>,
    intents: &[(FileId, Intent)],
) -> Result<bool, StepError> {
    if holder == Some(scope.token.as_str()) {
        return Ok(true);
    }
    let Some((_, first)) = intents.first() else {
        return Ok(true);
    };
    if is_held(&scope.context.queue, tx, first).await? {
        return Ok(false);
    }
    let ids: Vec<_> = intents.iter().map(|(_, intent)| intent.id).collect();
    intents::take_over_many(tx, &ids, holder, &scope.token).await?;
    Ok(true)
}

/// Makes the rows of the copies that are to be made. Since the plan was made, another job may have brought some.
async fn want_fresh(
    scope: &Scope<'_>,
    tx: &mut MySqlConnection,
    fresh: HashMap<FileId, (&Member, Intent)>,
) -> Result<Vec<(FileId, Declaration)>, StepError> {
    let mut ids: Vec<FileId> = fresh.keys().copied().collect();
    ids.sort_unstable();
    let copies = uploads::list_some(tx, &scope.provider_type, &ids).await?;
    let there: HashSet<FileId> = copies
        .iter()
        .filter(|copy| {
            fresh
                .get(&copy.local_file_id)
                .is_some_and(|(member, _)| is_current(copy, member))
        })
        .map(|copy| copy.local_file_id)
        .collect();
    let needless: Vec<_> = fresh
        .iter()
        .filter(|(id, _)| there.contains(id))
        .map(|(_, (_, intent))| intent.id)
        .collect();
    intents::resolve_many(tx, &needless, &scope.token).await?;
    let wanted: Vec<Wanted<'_>> = ids
        .iter()
        .filter(|id| !there.contains(id))
        .filter_map(|id| fresh.get(id))
        .map(|(member, _)| wanted(member))
        .collect();
    uploads::mark_pending_many(tx, &scope.provider_type, &wanted).await?;
    Ok(fresh
        .into_iter()
        .map(|(id, (_, intent))| {
            let declaration = if there.contains(&id) {
                Declaration::There
            } else {
                Declaration::Fresh(intent)
            };
            (id, declaration)
        })
        .collect())
}

fn is_current(copy: &Upload, member: &Member) -> bool {
    copy.status == UploadStatus::Uploaded
        && copy.content_sha256 == member.desired.content_sha256
        && copy
            .file_name
            .as_deref()
            .is_none_or(|name| name == member.file_name)
}

/// The copy that is to be made: these bytes, under this name.
pub(super) fn wanted(member: &Member) -> Wanted<'_> {
    Wanted {
        file: member.desired.file_id,
        content_sha256: &member.desired.content_sha256,
        file_name: &member.file_name,
    }
}

/// What the intent says of the bytes.
pub(super) fn content(member: &Member) -> Content<'_> {
    Content {
        sha256: &member.desired.content_sha256,
        file_name: &member.file_name,
        size_bytes: member.desired.size_bytes,
    }
}
