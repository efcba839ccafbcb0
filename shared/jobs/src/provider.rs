//! Jobs that work on a provider as a whole. They belong to no domain: only admins see them.

use serde::{Deserialize, Serialize};

use crate::spec::{Attempts, JobSpec};

/// Which files a provider sync downloads to compare them with ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// All that we hold.
    #[default]
    Full,
    /// Those that were not found equal before, under the same id at the provider and with the same contents here.
    Once,
}

/// Brings indexes and files into agreement with what a provider has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSync {
    pub provider_type: String,
    /// Report what differs; change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Unlink files that their stores no longer have.
    #[serde(default)]
    pub strict: bool,
    /// Detach however much is gone.
    #[serde(default)]
    pub force: bool,
    #[serde(default)]
    pub compare: Compare,
}

impl JobSpec for ProviderSync {
    const NAME: &'static str = "provider_sync";
    const ATTEMPTS: Attempts = Attempts::Usual;

    /// One per provider is active at a time, and one report beside it.
    fn unique_key(&self) -> String {
        let report = if self.dry_run { ":report" } else { "" };
        format!("{}:{}{report}", Self::NAME, self.provider_type)
    }
}

/// Tries every operation that this service relies on at a provider, with a store and files of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderProbe {
    pub provider_type: String,
}

impl JobSpec for ProviderProbe {
    const NAME: &'static str = "provider_probe";
    /// A probe that fails says why in its report and is not tried again; the attempts are for workers that were lost.
    const ATTEMPTS: Attempts = Attempts::Few;

    /// One per provider is active at a time.
    fn unique_key(&self) -> String {
        format!("{}:{}", Self::NAME, self.provider_type)
    }
}

/// What a search for orphans does with those that it finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanMode {
    #[default]
    Report,
    Delete,
}

/// Looks for what we made at a provider and no row of ours references.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanReconcile {
    pub provider_type: String,
    #[serde(default)]
    pub mode: OrphanMode,
    /// Ids of unproven files at the provider, of which an admin says that they are ours: they are deleted.
    #[serde(default)]
    pub confirmed_files: Vec<String>,
}

impl JobSpec for OrphanReconcile {
    const NAME: &'static str = "orphan_reconcile";
    const ATTEMPTS: Attempts = Attempts::Usual;

    /// One per provider and mode is active at a time.
    fn unique_key(&self) -> String {
        let mode = match self.mode {
            OrphanMode::Report => "report",
            OrphanMode::Delete => "delete",
        };
        format!("{}:{}:{mode}", Self::NAME, self.provider_type)
    }

    /// A search that confirms files is a job of its own, whatever else is active.
    fn is_unique(&self) -> bool {
        self.confirmed_files.is_empty()
    }
}
