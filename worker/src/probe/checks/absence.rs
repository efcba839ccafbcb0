//! What the provider answers to ids that it does not have.

use std::sync::Arc;

use rag_jobs::CheckResult;
use rag_providers::{ErrorKind, ProviderError};

use crate::probe::report::Probe;
use crate::probe::timed_call::{TimedCall, timed};
use crate::step_error::StepError;

impl Probe<'_> {
    /// What is not there has to be told from what failed.
    pub(super) async fn unknown_ids(&mut self, store: &str, file: &str) -> Result<(), StepError> {
        let provider = Arc::clone(&self.scope.provider);
        let (no_store, no_file) = (unlike(store), unlike(file));
        let told: [(&str, TimedCall<()>); 4] = [
            (
                "unknown_store",
                timed!(async { provider.get_vector_store(&no_store).await.map(drop) }),
            ),
            (
                "unknown_file",
                timed!(async { provider.get_file(&no_file).await.map(drop) }),
            ),
            (
                "unknown_store_file",
                timed!(async { provider.get_store_file(store, &no_file, None).await.map(drop) }),
            ),
            (
                "detach_unknown_file",
                timed!(async {
                    match provider.detach_file(store, &no_file).await {
                        Ok(deleted) if deleted.existed => Ok(()),
                        Ok(_) => Err(ProviderError::new(
                            ErrorKind::NotFound,
                            rag_providers::Operation::DetachFile,
                            "absent",
                        )),
                        Err(error) => Err(error),
                    }
                }),
            ),
        ];
        for (name, tried) in told {
            let latency = Some(tried.latency_ms);
            match tried.result {
                Err(error) if error.kind == ErrorKind::NotFound => {
                    let status = error
                        .status
                        .map_or_else(String::new, |status| format!(" (HTTP {status})"));
                    self.note(
                        name,
                        CheckResult::Works,
                        format!("said to be absent{status}"),
                        latency,
                    );
                }
                Err(error) => self.note(
                    name,
                    CheckResult::Differs,
                    format!("not told from a failure: {error}"),
                    latency,
                ),
                Ok(()) => self.note(name, CheckResult::Differs, "said to be there", latency),
            }
        }
        Ok(())
    }
}

/// An id of the same form that nothing has: the last characters are others.
fn unlike(id: &str) -> String {
    let keep = id.len().saturating_sub(6);
    id.char_indices()
        .map(|(place, letter)| match letter {
            letter if place < keep || !letter.is_ascii_alphanumeric() => letter,
            '0' => '1',
            _ => '0',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_keeps_the_form() {
        for id in ["vs_68f0a0b0c", "file-000000", "d3b07384-000a-4b6e"] {
            let made = unlike(id);
            assert_ne!(made, id);
            assert_eq!(made.len(), id.len());
            assert_eq!(made.find(['_', '-']), id.find(['_', '-']));
        }
    }
}
