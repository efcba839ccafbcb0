//! How much a sync, or a sweep, may remove at once.

/// Keeps a wrong answer of a provider from doing wide damage: more than a share detached at once is taken for its mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionThreshold {
    /// 0 to 100.
    pub percent: u32,
}

impl DeletionThreshold {
    /// So few are never too many.
    pub const ALWAYS_ALLOWED: u64 = 3;

    /// How many of `known` may be detached at once.
    pub const fn allowance(self, known: u64) -> u64 {
        let share = known.saturating_mul(self.percent as u64) / 100;
        if share > Self::ALWAYS_ALLOWED {
            share
        } else {
            Self::ALWAYS_ALLOWED
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_are_always_allowed_and_many_never() {
        let threshold = DeletionThreshold { percent: 20 };
        for (known, allowed) in [(0, 3), (5, 3), (15, 3), (20, 4), (1000, 200)] {
            assert_eq!(threshold.allowance(known), allowed, "{known}");
        }
        assert_eq!(DeletionThreshold { percent: 100 }.allowance(1000), 1000);
        assert_eq!(DeletionThreshold { percent: 0 }.allowance(1000), 3);
    }

    proptest! {
        #[test]
        fn more_files_or_a_larger_share_never_allow_less(known in 0_u64..100_000, more in 0_u64..1000, percent in 0_u32..100) {
            let (threshold, larger) = (DeletionThreshold { percent }, DeletionThreshold { percent: percent + 1 });
            let allowed = threshold.allowance(known);
            prop_assert!(threshold.allowance(known + more) >= allowed);
            prop_assert!(larger.allowance(known) >= allowed);
            prop_assert!(allowed <= known.max(DeletionThreshold::ALWAYS_ALLOWED));
        }
    }
}
