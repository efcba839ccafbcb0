//! Log lines at growing intervals: the first of a kind at once, the others summed up, later and later.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(10);

/// When the next line about one kind of event is due.
#[derive(Debug, Default)]
pub struct Growing {
    last: Option<(Instant, Duration)>,
    untold: u64,
}

impl Growing {
    /// It happened again: how often since the last line, if one is due now. After a quiet time it begins anew.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let pause = match self.last {
            None => FIRST,
            Some((at, pause)) => {
                let since = now.saturating_duration_since(at);
                if since < pause {
                    return None;
                }
                if since > 2 * LONGEST {
                    FIRST
                } else {
                    (pause * 2).min(LONGEST)
                }
            }
        };
        self.last = Some((now, pause));
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_at_once_and_then_ever_less_often_and_nothing_is_left_out() {
        let (mut growing, start) = (Growing::default(), Instant::now());
        // Ten times a second, for an hour.
        let told: Vec<(u64, u64)> = (0..36_000)
            .filter_map(|n| Some((n / 10, growing.due(start + Duration::from_millis(n * 100))?)))
            .collect();
        assert_eq!(told[..4], [(0, 1), (1, 10), (3, 20), (7, 40)]);
        assert!(told.len() < 20, "{told:?}");
        let longest = told.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
        assert_eq!(longest, Some(600));

        let after_a_quiet_day = start + Duration::from_hours(24);
        assert!(growing.due(after_a_quiet_day).is_some());
        assert_eq!(growing.due(after_a_quiet_day + FIRST), Some(1));
    }
}
