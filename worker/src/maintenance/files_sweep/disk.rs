//! What lies under FILES_ROOT, against the rows: first counted, then removed.

use std::collections::HashMap;

use rag_db::files_sweep;
use rag_domain::FileId;
use rag_files::{Entry, What};

use super::owner;
use super::report::{Kind, Report};
use crate::context::Context;
use crate::step_error::StepError;

/// Entries that are judged together.
const PAGE: usize = 500;

/// Counts everything, and changes nothing.
pub(super) async fn count(context: &Context, report: &mut Report) -> Result<(), StepError> {
    let mut walk = context.files.walk();
    loop {
        let page;
        (walk, page) = walk
            .next_page(PAGE)
            .await
            .map_err(|error| StepError::retry(&error))?;
        if page.is_empty() {
            return Ok(());
        }
        for (entry, kind) in judge(context, page).await? {
            report.add(&entry, kind);
        }
    }
}

/// Removes what has no row and is old enough. Answers `false` if the folder has ceased to be ours.
pub(super) async fn remove(context: &Context, stamp: &str, report: &mut Report) -> Result<bool, StepError> {
    let mut walk = context.files.walk();
    loop {
        let page;
        (walk, page) = walk
            .next_page(PAGE)
            .await
            .map_err(|error| StepError::retry(&error))?;
        if page.is_empty() {
            return Ok(true);
        }
        let leftovers: Vec<Entry> = judge(context, page)
            .await?
            .into_iter()
            .filter(|(_, kind)| *kind == Kind::Leftover)
            .map(|(entry, _)| entry)
            .collect();
        if leftovers.is_empty() {
            continue;
        }
        if !owner::is_still_ours(context, stamp).await? {
            return Ok(false);
        }
        for entry in leftovers {
            remove_one(context, entry, report).await?;
        }
    }
}

async fn remove_one(context: &Context, entry: Entry, report: &mut Report) -> Result<(), StepError> {
    // Once more, alone: the page was read some time ago.
    let Some((entry, Kind::Leftover)) = judge(context, vec![entry]).await?.pop() else {
        return Ok(());
    };
    let min_age = context.files_settings.sweep_min_age;
    match context.files.remove_leftover(&entry, min_age).await {
        Ok(true) => {
            tracing::debug!(path = entry.relative_path, "removed what no row names");
            report.removed(&entry);
        }
        Ok(false) => {}
        // One that can't be removed is no reason to leave the others.
        Err(error) => report.fail(&entry, &error),
    }
    Ok(())
}

/// What each of them is.
async fn judge(context: &Context, page: Vec<Entry>) -> Result<Vec<(Entry, Kind)>, StepError> {
    let mut ids: Vec<FileId> = page
        .iter()
        .filter_map(|entry| match entry.what {
            What::Contents(id) => Some(id.into()),
            _ => None,
        })
        .collect();
    ids.dedup();
    let rows: HashMap<FileId, String> = if ids.is_empty() {
        HashMap::new()
    } else {
        let mut db = context.pool.acquire().await?;
        files_sweep::list_paths_of(&mut db, &ids)
            .await?
            .into_iter()
            .collect()
    };
    let min_age = context.files_settings.sweep_min_age;
    let judged = page.into_iter().map(|entry| {
        let is_old = entry.age >= min_age;
        let kind = match entry.what {
            What::Strange => Kind::Strange,
            What::Contents(id) => kind_of_contents(&entry.relative_path, rows.get(&FileId::from(id)), is_old),
            What::Upload | What::EmptyFolder if is_old => Kind::Leftover,
            What::Upload | What::EmptyFolder => Kind::Young,
        };
        (entry, kind)
    });
    Ok(judged.collect())
}

/// `named`: by the file's row, if there is one.
fn kind_of_contents(path: &str, named: Option<&String>, is_old: bool) -> Kind {
    let domain = |path: &str| path.split('/').next().map(str::to_owned);
    match named {
        Some(named) if named == path => Kind::Named,
        // A file never changes its domain: somebody has made a copy of a folder.
        Some(named) if domain(named) != domain(path) => Kind::Strange,
        _ if is_old => Kind::Leftover,
        _ => Kind::Young,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_left_over_if_no_row_names_them_and_they_are_old() {
        let named = "d/f/v1".to_owned();
        assert_eq!(kind_of_contents("d/f/v1", Some(&named), true), Kind::Named);
        assert_eq!(kind_of_contents("d/f/v0", Some(&named), true), Kind::Leftover);
        assert_eq!(kind_of_contents("d/f/v2", Some(&named), false), Kind::Young);
        assert_eq!(kind_of_contents("d/f/v1", None, true), Kind::Leftover);
        assert_eq!(kind_of_contents("d/f/v1", None, false), Kind::Young);
        assert_eq!(kind_of_contents("copy/f/v1", Some(&named), true), Kind::Strange);
    }
}
