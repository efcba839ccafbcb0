//! Ids: of a job, of one claim on a job, of one worker process.
//!
//! A claim token is its job's id with the claim's number in the low 24 bits, which every job id leaves zero. So a token
//! names its job (checking one is a primary key lookup, with no index of tokens to maintain), a later claim always has
//! a greater token, and it still fits wherever a uuid fits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many claims a job can see in its life: what fits in a token beside the job's id.
pub(crate) const MAX_CLAIMS: u32 = (1 << CLAIM_BITS) - 1;

const CLAIM_BITS: u32 = 24;
const CLAIM_MASK: u128 = (1 << CLAIM_BITS) - 1;

/// A job's id: a uuid v7, so jobs sort by the time they were enqueued. Text form: hyphenated, lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct JobId(Uuid);

impl JobId {
    pub(crate) fn generate() -> Self {
        Self(Uuid::from_u128(Uuid::now_v7().as_u128() & !CLAIM_MASK))
    }

    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

/// One claim on a job: what a worker shows to prove that a write on the job's behalf is still its to make. Every claim
/// of a job gets a new, greater one. Text form: hyphenated, lower case, 36 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimToken(Uuid);

impl ClaimToken {
    pub(crate) fn new(job: JobId, claim_no: u32) -> Self {
        Self(Uuid::from_u128(
            (job.0.as_u128() & !CLAIM_MASK) | (u128::from(claim_no) & CLAIM_MASK),
        ))
    }

    /// The job that the claim is on.
    pub fn job_id(&self) -> JobId {
        JobId(Uuid::from_u128(self.0.as_u128() & !CLAIM_MASK))
    }

    pub(crate) fn claim_no(&self) -> u32 {
        u32::try_from(self.0.as_u128() & CLAIM_MASK).unwrap_or(u32::MAX)
    }

    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

/// One run of a worker program; a restarted process is a new worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct WorkerId(Uuid);

impl WorkerId {
    pub(crate) fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// What a job's row has before its first claim.
    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_nil()
    }
}

macro_rules! as_hyphenated_text {
    ($($id:ident),+) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($id), self.0.hyphenated())
            }
        }

        impl FromStr for $id {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<$id> for Uuid {
            fn from(id: $id) -> Self {
                id.0
            }
        }
    )+};
}

as_hyphenated_text!(JobId, ClaimToken, WorkerId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_job_and_orders_its_claims() {
        let job = JobId::generate();
        let (first, last) = (ClaimToken::new(job, 1), ClaimToken::new(job, MAX_CLAIMS));
        assert_eq!(first.job_id(), job);
        assert_eq!(last.job_id(), job);
        assert_eq!(last.claim_no(), MAX_CLAIMS);
        assert!(first < last);
        assert_ne!(first.as_uuid(), job.as_uuid());
    }

    #[test]
    fn ids_are_distinct_and_survive_text() {
        let ids: std::collections::HashSet<JobId> = (0..100_000).map(|_| JobId::generate()).collect();
        assert_eq!(ids.len(), 100_000);
        for id in ids.into_iter().take(10) {
            assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
            assert_eq!(id.to_string().len(), 36);
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(json, format!("\"{id}\""));
        }
    }
}
