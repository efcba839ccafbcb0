//! How fast clients call: requests in any one second, and requests at the same time, per path prefix.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(1);

/// What `GET /_emulator/rate` answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rates {
    /// By the first two segments of the path (`/v1/files`), and `*` for all.
    pub prefixes: BTreeMap<String, Rate>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Rate {
    pub total: u64,
    /// Most requests that arrived within any one second.
    pub max_per_second: usize,
    /// Most requests that were open at the same time.
    pub max_in_flight: usize,
}

#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    meters: BTreeMap<String, Meter>,
}

#[derive(Debug, Default)]
struct Meter {
    recent: VecDeque<Instant>,
    in_flight: usize,
    rate: Rate,
}

impl RateMeter {
    /// Counts a request in; answers how many arrived in the second up to now, itself included.
    pub(crate) fn enter(&mut self, path: &str) -> usize {
        let now = Instant::now();
        self.meter(prefix(path)).enter(now);
        self.meter("*").enter(now)
    }

    pub(crate) fn leave(&mut self, path: &str) {
        for name in [prefix(path), "*"] {
            let meter = self.meter(name);
            // A reset in between has forgotten the request.
            meter.in_flight = meter.in_flight.saturating_sub(1);
        }
    }

    pub(crate) fn rates(&self) -> Rates {
        Rates {
            prefixes: self
                .meters
                .iter()
                .map(|(name, meter)| (name.clone(), meter.rate))
                .collect(),
        }
    }

    fn meter(&mut self, name: &str) -> &mut Meter {
        self.meters.entry(name.to_owned()).or_default()
    }
}

impl Meter {
    fn enter(&mut self, now: Instant) -> usize {
        while self
            .recent
            .front()
            .is_some_and(|first| now.duration_since(*first) >= WINDOW)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.in_flight += 1;
        self.rate.total += 1;
        self.rate.max_per_second = self.rate.max_per_second.max(self.recent.len());
        self.rate.max_in_flight = self.rate.max_in_flight.max(self.in_flight);
        self.recent.len()
    }
}

/// `/v1/files/file-1/content` is counted as `/v1/files`.
fn prefix(path: &str) -> &str {
    let end = path.match_indices('/').nth(2).map_or(path.len(), |(at, _)| at);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_per_prefix_and_in_flight() {
        let mut meter = RateMeter::default();
        for path in ["/v1/files", "/v1/files/file-1/content", "/v1/vector_stores"] {
            meter.enter(path);
        }
        meter.leave("/v1/files");
        meter.enter("/v1/files");
        let rates = meter.rates().prefixes;
        assert_eq!(
            (rates["/v1/files"].total, rates["/v1/files"].max_in_flight),
            (3, 2)
        );
        assert_eq!((rates["*"].max_per_second, rates["*"].max_in_flight), (4, 3));
    }

    #[test]
    fn old_requests_leave_the_window() {
        let mut meter = Meter::default();
        let start = Instant::now();
        for ms in [0, 400, 999, 1000, 1450] {
            meter.enter(start + Duration::from_millis(ms));
        }
        assert_eq!(meter.rate.max_per_second, 3);
    }
}
