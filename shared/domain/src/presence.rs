//! When something at a provider is gone: pure, and the same for builds and syncs.
//!
//! A 404 alone proves nothing: a proxy, a restart, a wrong path and a server without the route answer so too. Gone is what
//! two witnesses (asking for it by its id, and a complete listing) agree on, some time apart. Where the listing is empty, the server must also be known to
//! find such things by their ids. Everything else is unknown, and nothing is given up, made anew or deleted because of it.

use std::time::Duration;

/// What the witnesses say of a thing that was not found by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    pub listing: Listing,
    /// The server has found things by their ids before.
    pub route_answers: bool,
    /// How long ago it was missed for the first time without having been seen since; `None`: never before.
    pub missed_for: Option<Duration>,
}

/// What a complete listing says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It is there.
    Has,
    /// It is not there, and so many others are.
    Lacks { others: usize },
    /// There is no listing to be had.
    Unusable,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To be looked at again after so long; until then nothing is known.
    CheckAgain(Duration),
    /// It will not be known by looking again.
    Unknown(Doubt),
    Gone,
}

/// Why nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("the provider lists it and does not find it by its id")]
    Contradiction,
    #[error("the provider does not find it by its id, and has no listing to compare with")]
    NoListing,
    #[error("the provider does not find it by its id, and has never found anything by an id")]
    NeverAnswered,
}

impl Evidence {
    /// `apart`: how far apart the polls of the two witnesses have to be.
    pub fn judge(self, apart: Duration) -> Verdict {
        let left = apart.saturating_sub(self.missed_for.unwrap_or_default());
        if self.missed_for.is_none() || !left.is_zero() {
            return Verdict::CheckAgain(left);
        }
        match self.listing {
            Listing::Has => Verdict::Unknown(Doubt::Contradiction),
            Listing::Unusable => Verdict::Unknown(Doubt::NoListing),
            Listing::Lacks { others: 0 } if !self.route_answers => Verdict::Unknown(Doubt::NeverAnswered),
            Listing::Lacks { .. } => Verdict::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const APART: Duration = Duration::from_secs(30);

    fn evidence(listing: Listing, route_answers: bool, missed_for: Option<u64>) -> Evidence {
        let missed_for = missed_for.map(Duration::from_secs);
        Evidence {
            listing,
            route_answers,
            missed_for,
        }
    }

    #[test]
    fn each_doubt_has_its_name() {
        let lacks = Listing::Lacks { others: 0 };
        for (listing, answers, missed_for, verdict) in [
            (lacks, true, None, Verdict::CheckAgain(APART)),
            (
                lacks,
                true,
                Some(20),
                Verdict::CheckAgain(Duration::from_secs(10)),
            ),
            (lacks, true, Some(30), Verdict::Gone),
            (lacks, false, Some(31), Verdict::Unknown(Doubt::NeverAnswered)),
            (Listing::Lacks { others: 1 }, false, Some(31), Verdict::Gone),
            (
                Listing::Has,
                true,
                Some(31),
                Verdict::Unknown(Doubt::Contradiction),
            ),
            (
                Listing::Unusable,
                true,
                Some(31),
                Verdict::Unknown(Doubt::NoListing),
            ),
        ] {
            assert_eq!(evidence(listing, answers, missed_for).judge(APART), verdict);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_gone_by_one_witness_or_at_once(
            others in 0_usize..3, kind in 0_usize..3, answers: bool, missed_for in prop::option::of(0_u64..100),
        ) {
            let listing = [Listing::Has, Listing::Lacks { others }, Listing::Unusable][kind];
            if evidence(listing, answers, missed_for).judge(APART) == Verdict::Gone {
                let lacks = matches!(listing, Listing::Lacks { .. });
                let apart = missed_for.is_some_and(|seconds| seconds >= 30);
                prop_assert!(lacks && apart);
                prop_assert!(answers || others > 0);
            }
        }
    }
}
