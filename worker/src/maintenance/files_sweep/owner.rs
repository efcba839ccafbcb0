//! Whether FILES_ROOT is this database's, by its marker. In doubt it is not.

use std::fmt;

use rag_db::DbError;
use rag_db::files_sweep::{self, SweepRow};
use rag_files::{FilesError, Line, MARKER, Marker};
use uuid::Uuid;

use crate::context::Context;
use crate::step_error::StepError;

/// Readings of row and marker, each amid a change of another worker's, until the next round is waited for.
const MAX_READS: u32 = 5;

/// Why nothing is swept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Missing,
    Unreadable,
    /// It is this database's.
    OtherOwner(String),
    /// These use it too.
    Shared(Vec<String>),
    OtherState,
    /// It does not show what this installation knows its files by; the text says what it lacks.
    NotMounted(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMounted(why) => return f.write_str(why),
            Self::Missing => write!(f, "FILES_ROOT has no {MARKER} any more: is it mounted?")?,
            Self::Unreadable => write!(f, "{MARKER} in FILES_ROOT can not be read")?,
            Self::OtherOwner(id) => write!(f, "FILES_ROOT belongs to another database ({id})")?,
            Self::Shared(ids) => write!(f, "other databases use FILES_ROOT too: {}", ids.join(", "))?,
            Self::OtherState => f.write_str(
                "a copy of this database uses FILES_ROOT too, or the database or the folder is an older state",
            )?,
        }
        write!(
            f,
            "; if it is this database's alone, and the two belong together, write the word claim into {MARKER}"
        )
    }
}

/// What the marker means for this database.
#[derive(Debug, PartialEq, Eq)]
enum Ownership {
    /// With this stamp.
    Ours(String),
    /// There is a marker to be replaced, or none.
    Free {
        is_marked: bool,
    },
    Refused(Refusal),
}

fn ownership(root: &SweepRow, marker: &Marker) -> Ownership {
    let lines = match marker {
        Marker::ToBeClaimed => return Ownership::Free { is_marked: true },
        Marker::Absent if !root.is_claimed() => return Ownership::Free { is_marked: false },
        Marker::Absent => return Ownership::Refused(Refusal::Missing),
        Marker::Unreadable => return Ownership::Refused(Refusal::Unreadable),
        Marker::Of(lines) => lines,
    };
    let Some((owner, others)) = lines.split_first() else {
        return Ownership::Refused(Refusal::Unreadable);
    };
    if owner.database_id != root.database_id {
        return Ownership::Refused(Refusal::OtherOwner(owner.database_id.clone()));
    }
    if !others.is_empty() {
        let ids = others.iter().map(|line| line.database_id.clone());
        let strangers: Vec<String> = ids.filter(|id| *id != root.database_id).collect();
        return Ownership::Refused(if strangers.is_empty() {
            Refusal::OtherState
        } else {
            Refusal::Shared(strangers)
        });
    }
    match &owner.stamp {
        Some(stamp) if root.has_written(stamp) => Ownership::Ours(stamp.clone()),
        _ => Ownership::Refused(Refusal::OtherState),
    }
}

/// How a round begins.
pub(super) enum Entered {
    /// The marker carries this stamp now.
    Ours(String),
    /// It had no owner. Another database that uses it has until the next round to say so.
    JustClaimed,
    Refused(Refusal),
}

/// What the two say at the same time: another worker may be at the marker.
async fn read(context: &Context) -> Result<(SweepRow, Marker), StepError> {
    for _ in 0..MAX_READS {
        let root = row(context).await?;
        let marker = context
            .files
            .read_marker()
            .await
            .map_err(|error| StepError::retry(&error))?;
        if root.has_same_stamps(&row(context).await?) {
            return Ok((root, marker));
        }
    }
    Err(StepError::Retry {
        error: format!("{MARKER} changes while it is read"),
        after: None,
    })
}

async fn row(context: &Context) -> Result<SweepRow, StepError> {
    Ok(files_sweep::get(&mut *context.pool.acquire().await?).await?)
}

/// A worker begins to use the folder: claims it if it has no owner, and says so to the owner if it is another's.
pub(super) async fn greet(context: &Context) -> Result<(), StepError> {
    let (root, marker) = read(context).await?;
    if let Ownership::Free { is_marked } = ownership(&root, &marker) {
        // A mount point without its mount has no owner.
        context
            .files
            .check_root()
            .await
            .map_err(|error| StepError::retry(&error))?;
        write(context, &root, is_marked, None).await?;
    }
    // Again: somebody may have been faster.
    let (root, marker) = read(context).await?;
    if let Ownership::Refused(refusal) = ownership(&root, &marker) {
        join(context, &root, &marker, &refusal).await?;
        tracing::error!(%refusal, "FILES_ROOT will not be swept");
    }
    Ok(())
}

/// A round begins: the marker is renewed, if the folder is ours.
pub(super) async fn enter(context: &Context) -> Result<Entered, StepError> {
    let (root, marker) = read(context).await?;
    let ownership = ownership(&root, &marker);
    if !matches!(ownership, Ownership::Refused(_))
        && let Some(refusal) = not_mounted(context).await
    {
        return Ok(Entered::Refused(refusal));
    }
    match ownership {
        Ownership::Ours(seen) => match write(context, &root, true, Some(&seen)).await? {
            Some(stamp) => Ok(Entered::Ours(stamp)),
            None => Ok(Entered::Refused(Refusal::OtherState)),
        },
        Ownership::Free { is_marked } => {
            write(context, &root, is_marked, None).await?;
            Ok(Entered::JustClaimed)
        }
        Ownership::Refused(refusal) => {
            join(context, &root, &marker, &refusal).await?;
            Ok(Entered::Refused(refusal))
        }
    }
}

/// Whether the folder lacks the mark by which this installation knows its files: then it is not claimed, either.
async fn not_mounted(context: &Context) -> Option<Refusal> {
    match context.files.check_root().await {
        Err(error @ FilesError::NotMounted(_)) => Some(Refusal::NotMounted(error.to_string())),
        // Other trouble with the disk shows where it is met.
        _ => None,
    }
}

/// Whether the marker still is as [`enter`] left it.
pub(super) async fn is_still_ours(context: &Context, stamp: &str) -> Result<bool, StepError> {
    let marker = context
        .files
        .read_marker()
        .await
        .map_err(|error| StepError::retry(&error))?;
    Ok(
        matches!(&marker, Marker::Of(lines) if matches!(&lines[..], [line] if line.stamp.as_deref() == Some(stamp))),
    )
}

/// Answers the new stamp; `None` if somebody else was faster. The database knows the stamp before the folder does.
///
/// A stamp that another worker has begun is written in its place: a new one would leave the other's in the marker, if it writes
/// late, and the folder would look like an older state's.
async fn write(
    context: &Context,
    root: &SweepRow,
    is_marked: bool,
    seen: Option<&str>,
) -> Result<Option<String>, StepError> {
    let mut db = context.pool.acquire().await?;
    let begun = root.unfinished_stamp().filter(|stamp| seen != Some(stamp));
    let stamp = if let Some(begun) = begun {
        begun.to_owned()
    } else {
        let stamp = Uuid::new_v4().to_string();
        match files_sweep::begin_stamp(&mut db, root, seen, &stamp).await {
            Ok(()) => stamp,
            Err(DbError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    let line = Line {
        database_id: root.database_id.clone(),
        stamp: Some(stamp.clone()),
    };
    if is_marked {
        context
            .files
            .replace_marker(&line)
            .await
            .map_err(|error| StepError::retry(&error))?;
    } else if !context
        .files
        .create_marker(&line)
        .await
        .map_err(|error| StepError::retry(&error))?
    {
        return Ok(None);
    }
    match files_sweep::end_stamp(&mut db, &stamp).await {
        Ok(()) => {}
        Err(DbError::Conflict { .. }) => {
            drop(db);
            return finished_by_another(context, stamp).await;
        }
        Err(error) => return Err(error.into()),
    }
    if !root.is_claimed() {
        tracing::info!(
            database.id = root.database_id,
            "FILES_ROOT has this database's marker now"
        );
    }
    Ok(Some(stamp))
}

/// Another worker has finished this stamp, or has written others since: then this process was late, and puts the last back.
async fn finished_by_another(context: &Context, stamp: String) -> Result<Option<String>, StepError> {
    let root = row(context).await?;
    if root.has_written(&stamp) {
        return Ok(Some(stamp));
    }
    let line = Line {
        database_id: root.database_id.clone(),
        stamp: root.last_stamp().map(str::to_owned),
    };
    if line.stamp.is_some() {
        context
            .files
            .replace_marker(&line)
            .await
            .map_err(|error| StepError::retry(&error))?;
    }
    Ok(None)
}

/// The owner is to know that it is not alone. A copy of this database has the same id, and goes on with its sweeps until it
/// finds that id a second time.
async fn join(
    context: &Context,
    root: &SweepRow,
    marker: &Marker,
    refusal: &Refusal,
) -> Result<(), StepError> {
    let (Marker::Of(lines), Refusal::OtherOwner(_) | Refusal::OtherState) = (marker, refusal) else {
        return Ok(());
    };
    let mut beside_the_owner = lines.iter().skip(1);
    if beside_the_owner.all(|line| line.database_id != root.database_id) {
        context
            .files
            .join_marker(&root.database_id)
            .await
            .map_err(|error| StepError::retry(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&str, Option<&str>)]) -> Marker {
        let line = |(id, stamp): &(&str, Option<&str>)| Line {
            database_id: (*id).to_owned(),
            stamp: stamp.map(str::to_owned),
        };
        Marker::Of(lines.iter().map(line).collect())
    }

    #[test]
    fn only_a_marker_as_it_was_written_last_is_ours() {
        let fresh = SweepRow::new("me", None, None);
        let root = SweepRow::new("me", Some("2"), Some("3"));
        let refused = |marker: &Marker| match ownership(&root, marker) {
            Ownership::Refused(refusal) => refusal,
            other => panic!("{marker:?}: {other:?}"),
        };
        assert_eq!(
            ownership(&fresh, &Marker::Absent),
            Ownership::Free { is_marked: false }
        );
        assert_eq!(
            ownership(&root, &Marker::ToBeClaimed),
            Ownership::Free { is_marked: true }
        );
        for stamp in ["2", "3"] {
            assert_eq!(
                ownership(&root, &of(&[("me", Some(stamp))])),
                Ownership::Ours(stamp.to_owned())
            );
        }
        assert_eq!(refused(&Marker::Absent), Refusal::Missing);
        assert_eq!(refused(&Marker::Unreadable), Refusal::Unreadable);
        assert_eq!(refused(&of(&[("me", Some("1"))])), Refusal::OtherState);
        assert_eq!(refused(&of(&[("me", None)])), Refusal::OtherState);
        assert_eq!(
            refused(&of(&[("you", Some("2"))])),
            Refusal::OtherOwner("you".to_owned())
        );
        assert_eq!(
            refused(&of(&[("me", Some("2")), ("you", None)])),
            Refusal::Shared(vec!["you".to_owned()])
        );
        assert_eq!(
            refused(&of(&[("me", Some("2")), ("me", None)])),
            Refusal::OtherState,
            "a copy has said so"
        );
        assert_eq!(
            ownership(&fresh, &of(&[("me", Some("2"))])),
            Ownership::Refused(Refusal::OtherState),
            "of a database that was put back as it was before"
        );
    }
}
