//! How slow a transfer may be. Only the time in which we wait for the peer counts: a slow disk of ours is not its fault.

use std::time::Duration;

use thiserror::Error;

/// What a peer must move: something within every `idle`, and on average over so long a time this many bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastRate {
    pub idle: Duration,
    /// 0: any.
    pub bytes_per_second: u64,
}

/// The peer does not keep to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Stalled {
    #[error("nothing moved for {} seconds", .0.as_secs())]
    Idle(Duration),
    #[error("less than {0} bytes a second moved")]
    Slow(u64),
}

/// How far a transfer has come in the present window, which ends when we have waited for `idle` in it.
#[derive(Debug)]
pub struct Progress {
    least: LeastRate,
    waited: Duration,
    bytes: u64,
}

impl Progress {
    pub fn new(least: LeastRate) -> Self {
        Self {
            least,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// We waited so long, and then this much moved.
    pub fn moved(&mut self, waited: Duration, bytes: u64) -> Result<(), Stalled> {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < self.least.idle {
            return Ok(());
        }
        self.check_rate()?;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }

    /// How long we may wait for the next movement.
    pub fn patience(&self) -> Duration {
        if self.check_rate().is_ok() {
            self.least.idle
        } else {
            self.least.idle.saturating_sub(self.waited)
        }
    }

    /// We have been waiting so long since something moved last.
    pub fn waiting(&self, waited: Duration) -> Result<(), Stalled> {
        if waited >= self.least.idle {
            return Err(Stalled::Idle(self.least.idle));
        }
        if waited >= self.patience() {
            self.check_rate()?;
        }
        Ok(())
    }

    fn check_rate(&self) -> Result<(), Stalled> {
        let rate = self.least.bytes_per_second;
        let wanted = u128::from(rate) * self.least.idle.as_millis() / 1000;
        if u128::from(self.bytes) < wanted {
            return Err(Stalled::Slow(rate));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn progress(bytes_per_second: u64) -> Progress {
        Progress::new(LeastRate {
            idle: 10 * SECOND,
            bytes_per_second,
        })
    }

    #[test]
    fn a_byte_a_second_is_too_slow_and_a_burst_now_and_then_is_not() {
        let mut trickle = progress(100);
        let ended = (1..100).find(|_| trickle.moved(SECOND, 1).is_err());
        assert_eq!(ended, Some(10));
        assert_eq!(progress(100).waiting(9 * SECOND), Ok(()));

        let mut bursts = progress(100);
        for _ in 0..100 {
            assert_eq!(bursts.moved(9 * SECOND, 2000), Ok(()));
        }
    }

    #[test]
    fn silence_ends_a_transfer_however_much_moved_before() {
        let mut progress = progress(100);
        progress.moved(SECOND, 1 << 40).unwrap();
        assert_eq!(progress.waiting(9 * SECOND), Ok(()));
        assert_eq!(progress.waiting(10 * SECOND), Err(Stalled::Idle(10 * SECOND)));
    }

    #[test]
    fn without_a_least_rate_only_silence_counts() {
        let mut trickle = progress(0);
        for _ in 0..1000 {
            assert_eq!(trickle.moved(9 * SECOND, 1), Ok(()));
        }
        assert!(trickle.waiting(10 * SECOND).is_err());
    }

    #[test]
    fn a_rate_is_not_saved_up_for_later_windows() {
        let mut progress = progress(100);
        progress.moved(10 * SECOND, 1 << 40).unwrap();
        assert_eq!(progress.patience(), 10 * SECOND);
        assert_eq!(progress.moved(9 * SECOND, 1), Ok(()));
        assert_eq!(progress.patience(), SECOND);
        assert_eq!(progress.waiting(SECOND), Err(Stalled::Slow(100)));
    }
}
