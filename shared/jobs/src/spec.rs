//! What a kind of job states about itself, in one `impl`: its name, its keys, whose it is, and how many attempts it has.
//!
//! An attempt has no time limit of its own: every call to a provider has one, and a build ends at its deadline
//! (`BUILD_DEADLINE_SECONDS`). How long finished jobs are kept is one setting for all kinds (`QUEUE_RETENTION_DAYS`).

use apalis_mariadb::{JobKind, NewJob, QueueError};
use rag_domain::{DomainId, IndexId};
use serde::Serialize;

/// A kind of job; the type that implements it is the payload.
pub trait JobSpec: JobKind + Serialize {
    /// The name of the kind. It is stored in job rows: renaming it orphans the jobs that wait.
    const NAME: &'static str;

    /// After how many failures without progress in between the job fails.
    const ATTEMPTS: Attempts;

    /// While a job with this key is active, enqueueing another one of the kind returns the active one.
    fn unique_key(&self) -> String;

    /// Whether the unique key applies to this job.
    fn is_unique(&self) -> bool {
        true
    }

    /// Jobs that work on the same index run one at a time, whatever their kinds.
    fn works_on(&self) -> Option<IndexId> {
        None
    }

    /// The domain that may see the job; `None`: only admins.
    fn domain_id(&self) -> Option<&DomainId> {
        None
    }

    /// The job, complete and ready to be enqueued.
    fn to_job(&self, limits: JobLimits) -> Result<NewJob, QueueError>
    where
        Self: Sized,
    {
        let mut job = NewJob::of(self)?.max_attempts(Self::ATTEMPTS.number(limits));
        if self.is_unique() {
            job = job.unique_key(self.unique_key());
        }
        if let Some(index_id) = self.works_on() {
            job = job.concurrency_key(index_concurrency_key(index_id));
        }
        if let Some(domain_id) = self.domain_id() {
            job = job.tenant(domain_id.to_string());
        }
        Ok(job)
    }
}

/// Within the [`JobSpec`] of a payload with an `index_id` and a `domain_id`.
macro_rules! of_an_index {
    () => {
        fn works_on(&self) -> Option<IndexId> {
            Some(self.index_id)
        }

        fn domain_id(&self) -> Option<&DomainId> {
            Some(&self.domain_id)
        }
    };
}
pub(crate) use of_an_index;

/// Within the [`JobSpec`] of a kind of which each index has one active job at most.
macro_rules! one_at_a_time {
    () => {
        fn unique_key(&self) -> String {
            format!("{}:{}", Self::NAME, self.index_id)
        }
    };
}
pub(crate) use one_at_a_time;

/// What the settings say about jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLimits {
    /// `BUILD_MAX_ATTEMPTS`, for builds and for uploads of single files.
    pub build_max_attempts: u32,
}

/// How many attempts the jobs of a kind have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// For what is cheap to ask for again.
    Few,
    /// For runs that go through many stores or files, and continue where they stopped.
    Usual,
    /// As [`JobLimits::build_max_attempts`] says.
    Configured,
    /// A deletion is tried until it succeeds: a provider that fails for a week must not keep what it holds for ever. Its
    /// failures are counted all the same, and the backoff between them has a limit.
    Unlimited,
}

impl Attempts {
    pub const fn number(self, limits: JobLimits) -> u32 {
        match self {
            Self::Few => 3,
            Self::Usual => 10,
            Self::Configured => limits.build_max_attempts,
            Self::Unlimited => 1_000_000,
        }
    }
}

/// The concurrency key of everything that works on an index: such jobs take turns, whatever their kinds.
pub fn index_concurrency_key(index_id: IndexId) -> String {
    format!("index:{index_id}")
}

/// Makes kinds of the queue out of specs, and a list of their names.
macro_rules! kinds {
    ($($job:ty),+ $(,)?) => {
        $(impl apalis_mariadb::JobKind for $job {
            const KIND: &'static str = <$job as $crate::JobSpec>::NAME;
        })+

        /// The names of all kinds.
        pub const KINDS: &[&str] = &[$(<$job as $crate::JobSpec>::NAME),+];
    };
}
pub(crate) use kinds;
