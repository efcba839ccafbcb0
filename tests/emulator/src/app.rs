//! One emulator's parts, shared by its handlers and background work.

use crate::{
    deviations::Deviations,
    faults::Faults,
    iam::Iam,
    ids::{self, Id, Kind},
    options::Options,
    rate::RateMeter,
    state::State,
};
use parking_lot::Mutex;
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[derive(Debug)]
pub(crate) struct App {
    pub options: Options,
    pub deviations: Deviations,
    pub state: Mutex<State>,
    pub faults: Mutex<Faults>,
    pub rate: Mutex<RateMeter>,
    pub iam: Option<Iam>,
    /// Places for files being indexed.
    pub places: Arc<Semaphore>,
    /// Attach calls whose files are not all indexed yet.
    pub open_operations: Arc<AtomicUsize>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    directory: TempDir,
}

impl App {
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        Ok(Self {
            iam: Iam::from_options(&options)?,
            places: Arc::new(Semaphore::new(
                options.indexing_parallelism.clamp(1, Semaphore::MAX_PERMITS),
            )),
            deviations: options.deviations(),
            state: Mutex::new(State::new(options.deviations())),
            options,
            faults: Mutex::default(),
            rate: Mutex::default(),
            open_operations: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            directory: tempfile::Builder::new().prefix("rag-emulator-").tempdir()?,
        })
    }

    pub(crate) fn new_id(&self, kind: Kind) -> Id {
        ids::new_id(kind, self.options.profile)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}
