//! How many requests may be under way at once, found out from how they are answered.
//!
//! Answers are taken in rounds of about one round trip. Where a round needed the whole limit and was answered in good time, the
//! limit grows: it doubles until the first refusal or rise of latency, by one afterwards. A refusal halves it, and so does a
//! round that took more than [`RISE`] times the best one. What was sent before a halving says nothing about the new limit, so
//! no round trip halves twice.
//!
//! Latency grows with the size of files too. If half as many requests are no faster, the load was not the reason: the limit goes
//! back to what it was, and the new latency is what later rounds are compared with. Times are averaged as logarithms, which
//! keeps one slow answer of a few from looking like a rise.

use std::time::Duration;

/// A round that takes so many times the best one has met a queue.
const RISE: f64 = 2.0;
/// Half as many requests are answered at least so much faster, where they waited for each other.
const RELIEF: f64 = 0.75;
/// Shorter times count as this one: what differs below it is our own machine's doing, and not worth a halving.
const SHORTEST: Duration = Duration::from_millis(10);
/// The fewest answers that are compared.
const SMALLEST_ROUND: usize = 4;
/// The best round comes nearer to the present one by this share: what was fast once is not expected for ever.
const AGEING: f64 = 1.0 / 64.0;

/// The limit as it is now, and what it was found from.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    limit: usize,
    ceiling: usize,
    /// Below this the limit doubles.
    fast_below: usize,
    period: Period,
    round: Round,
    /// Logarithm of the best round's seconds.
    best: Option<f64>,
    /// The limit was just halved for this.
    rise: Option<Rise>,
}

/// The time between two halvings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(u64);

#[derive(Debug, Clone, Default)]
struct Round {
    answers: usize,
    /// Of the logarithms of the seconds.
    sum: f64,
    /// The most requests that were under way.
    peak: usize,
}

#[derive(Debug, Clone, Copy)]
struct Rise {
    from_limit: usize,
    latency: f64,
}

impl ConcurrencyLimit {
    /// What is tried first.
    pub const START: usize = 4;

    /// `ceiling`: at least 1.
    pub fn new(ceiling: usize) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            limit: Self::START.min(ceiling),
            ceiling,
            fast_below: usize::MAX,
            period: Period(0),
            round: Round::default(),
            best: None,
            rise: None,
        }
    }

    /// How many requests may be under way.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The limit stays at or below this from now on.
    pub fn set_ceiling(&mut self, ceiling: usize) {
        self.ceiling = ceiling.max(1);
        self.limit = self.limit.min(self.ceiling);
    }

    /// A request begins; with it `under_way` are.
    pub fn began(&mut self, under_way: usize) -> Period {
        self.round.peak = self.round.peak.max(under_way);
        self.period
    }

    /// A request that began in this period was answered.
    pub fn answered(&mut self, began_in: Period, took: Duration) {
        if began_in != self.period {
            return;
        }
        self.round.answers += 1;
        self.round.sum += took.max(SHORTEST).as_secs_f64().ln();
        if self.round.answers >= self.limit.max(SMALLEST_ROUND) {
            self.end_round();
        }
    }

    /// The provider refused a request that began in this period, because there were too many.
    pub fn refused(&mut self, began_in: Period) {
        if began_in == self.period {
            self.rise = None;
            self.halve();
        }
    }

    fn end_round(&mut self) {
        let round = std::mem::take(&mut self.round);
        #[expect(clippy::cast_precision_loss, reason = "a round has few answers")]
        let latency = round.sum / round.answers as f64;
        let rise = self.rise.take();
        let best = match (self.best, rise) {
            // Half the load was no relief.
            (Some(best), Some(rise))
                if latency > best + RISE.ln() && latency > rise.latency + RELIEF.ln() =>
            {
                self.fast_below = rise.from_limit;
                latency
            }
            (Some(best), _) => latency.min(best + (latency - best) * AGEING),
            (None, _) => latency,
        };
        self.best = Some(best);
        if latency > best + RISE.ln() {
            self.rise = Some(Rise {
                from_limit: self.limit,
                latency,
            });
            self.halve();
        } else if round.peak >= self.limit {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let grown = if self.limit < self.fast_below {
            (self.limit * 2).min(self.fast_below)
        } else {
            self.limit + 1
        };
        self.limit = grown.min(self.ceiling);
    }

    fn halve(&mut self) {
        self.limit = (self.limit / 2).max(1);
        self.fast_below = self.limit;
        self.period.0 += 1;
        self.round = Round::default();
    }
}

#[cfg(test)]
mod tests;
