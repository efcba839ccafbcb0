//! Batches of ours, asked themselves: while one runs, that a listing lacks its files says nothing.

use std::collections::{BTreeSet, HashMap};

use rag_db::attachments::Attachment;
use rag_providers::{Ability, FileBatch};

use super::{Observer, is_absent};
use crate::step_error::StepError;

/// What batches say of themselves, by their ids; one that the provider does not know is not among them.
#[derive(Debug, Default)]
pub(crate) struct Batches(HashMap<String, FileBatch>);

impl Batches {
    /// Asks for each batch that one of the rows went in with.
    pub(crate) async fn of<'r>(
        observer: &Observer<'_>,
        store: &str,
        rows: impl IntoIterator<Item = &'r Attachment>,
    ) -> Result<Self, StepError> {
        let ids: BTreeSet<&str> = rows
            .into_iter()
            .filter_map(|row| row.external_batch_id.as_deref())
            .collect();
        let mut found = HashMap::new();
        for id in ids {
            match observer.provider.get_file_batch(store, id).await {
                Ok(batch) => {
                    let how = "a batch was found by its id";
                    observer.learn(Ability::GetFileBatch, true, how).await?;
                    found.insert(id.to_owned(), batch);
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(found))
    }

    pub(crate) fn find(&self, row: &Attachment) -> Option<&FileBatch> {
        self.0.get(row.external_batch_id.as_deref()?)
    }

    /// The batch that the file went in with is being worked on.
    pub(crate) fn is_running(&self, row: &Attachment) -> bool {
        self.find(row).is_some_and(|batch| !batch.status.is_terminal())
    }

    /// The batch that the file went in with has ended, and counts not one file.
    pub(crate) fn took_none(&self, row: &Attachment) -> bool {
        self.find(row)
            .is_some_and(|batch| batch.status.is_terminal() && batch.file_counts.total == 0)
    }
}
