//! The kinds that a process serves, how busy each is, and whether it is worth asking for more.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::claim::Claim;
use crate::take::{Got, Want};

/// How long a busy lane goes on from where its last claim ended before it looks from the beginning again: at least so
/// long, and so many times as long as that look took. A job that belongs in front of those claimed last is overtaken for
/// no longer than this.
const GO_ON_FOR: Duration = Duration::from_millis(50);
const GO_ON_TIMES: u32 = 50;

#[derive(Default)]
pub(super) struct Lanes {
    open: BTreeMap<&'static str, Lane>,
    /// No lane opens any more.
    retired: bool,
    /// Where the last claim went, for taking turns.
    last: &'static str,
}

struct Lane {
    capacity: usize,
    /// Claimed jobs whose handlers have not ended.
    occupied: usize,
    /// Counts announcements; there may be a job if it is ahead of `exhausted`.
    announced: u64,
    exhausted: u64,
    /// Where the last claim ended, if it got all it asked for.
    place: Option<i64>,
    /// Until when to go on from there.
    go_on_until: Option<Instant>,
    paused: bool,
    jobs: mpsc::UnboundedSender<Claim>,
}

/// A claim to try.
pub(super) struct Order {
    pub(super) want: Want,
    /// Most slots are busy: a moment later more of them may be free, for the same price.
    pub(super) is_small: bool,
    announced: u64,
}

impl Lane {
    const fn free(&self) -> usize {
        self.capacity.saturating_sub(self.occupied)
    }

    const fn may_have_jobs(&self) -> bool {
        self.announced > self.exhausted
    }

    /// Free slots are asked for together, three quarters of all at least, unless that takes too long.
    fn is_small(&self, batch: usize) -> bool {
        self.free() * 4 < self.capacity.min(batch) * 3
    }

    fn floor(&self) -> Option<i64> {
        let goes_on = self.go_on_until.is_some_and(|until| Instant::now() < until);
        self.place.filter(|_| goes_on)
    }
}

impl Lanes {
    pub(super) fn open(
        &mut self,
        kind: &'static str,
        limit: usize,
        prefetch: usize,
    ) -> Option<mpsc::UnboundedReceiver<Claim>> {
        if self.retired {
            return None;
        }
        let (jobs, receiver) = mpsc::unbounded_channel();
        let capacity = limit.max(1) + prefetch;
        // Handlers of a lane that was there before may still run.
        let occupied = self.open.get(kind).map_or(0, |lane| lane.occupied);
        self.open.insert(
            kind,
            Lane {
                capacity,
                occupied,
                announced: 1,
                exhausted: 0,
                place: None,
                go_on_until: None,
                paused: false,
                jobs,
            },
        );
        Some(receiver)
    }

    /// Answers whether none is left open.
    pub(super) fn close(&mut self, kind: &str) -> bool {
        if let Some(lane) = self.open.get(kind)
            && lane.jobs.is_closed()
        {
            self.open.remove(kind);
        }
        self.open.is_empty()
    }

    /// Lets no lane open any more, if none is open.
    pub(super) fn retire(&mut self) -> bool {
        if self.open.is_empty() {
            self.retired = true;
        }
        self.retired
    }

    pub(super) fn announce(&mut self, kind: &str) {
        if let Some(lane) = self.open.get_mut(kind) {
            lane.announced += 1;
        }
    }

    pub(super) fn announce_all(&mut self) {
        for lane in self.open.values_mut() {
            lane.announced += 1;
        }
    }

    /// The next claim to try, the lanes taking turns.
    pub(super) fn next_order(&self, batch: usize) -> Option<Order> {
        let after = self
            .open
            .range(self.last..)
            .filter(|(kind, _)| **kind != self.last);
        let up_to = self.open.range(..=self.last);
        let (kind, lane) = after
            .chain(up_to)
            .find(|(_, lane)| lane.may_have_jobs() && !lane.paused && lane.free() > 0)?;
        Some(Order {
            want: Want {
                kind,
                limit: lane.free().min(batch),
                floor: lane.floor(),
            },
            is_small: lane.is_small(batch),
            announced: lane.announced,
        })
    }

    /// What came of an order. Fewer jobs than asked for: there are no more, unless some were announced meanwhile, or are
    /// in front of where the order began.
    pub(super) fn record(&mut self, order: &Order, got: &Got) {
        self.last = order.want.kind;
        let Some(lane) = self.open.get_mut(order.want.kind) else {
            return;
        };
        if order.want.floor.is_none() {
            let go_on_for = GO_ON_FOR.max(got.found_in * GO_ON_TIMES);
            lane.go_on_until = Some(Instant::now() + go_on_for);
        }
        lane.place = got.place.filter(|_| got.taken.len() >= order.want.limit);
        if lane.place.is_none() && order.want.floor.is_none() {
            lane.exhausted = order.announced;
        }
    }

    /// Gives a job to its lane; answers whether anybody takes it.
    pub(super) fn hand_over(&mut self, claim: Claim) -> bool {
        let Some(lane) = self.open.get_mut(claim.kind()) else {
            return false;
        };
        let taken = lane.jobs.send(claim).is_ok();
        lane.occupied += usize::from(taken);
        taken
    }

    /// Frees a slot; answers whether enough of them are free by now to ask for more.
    pub(super) fn free(&mut self, kind: &str, batch: usize) -> bool {
        let Some(lane) = self.open.get_mut(kind) else {
            return true;
        };
        lane.occupied = lane.occupied.saturating_sub(1);
        !lane.is_small(batch)
    }

    pub(super) fn set_paused(&mut self, paused: &[String]) {
        for (kind, lane) in &mut self.open {
            let was_paused = std::mem::replace(&mut lane.paused, paused.iter().any(|other| other == kind));
            if was_paused && !lane.paused {
                lane.announced += 1;
            }
        }
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.open.keys().copied().collect()
    }

    /// Kinds of which there was nothing to claim any more.
    pub(super) fn exhausted(&self) -> Vec<&'static str> {
        let exhausted = self.open.iter().filter(|(_, lane)| !lane.may_have_jobs());
        exhausted.map(|(kind, _)| *kind).collect()
    }

    /// Kinds that could take a job but have none: those to wait for.
    pub(super) fn hungry(&self) -> Vec<&'static str> {
        let hungry = self
            .open
            .iter()
            .filter(|(_, lane)| !lane.may_have_jobs() && !lane.paused && lane.free() > 0);
        hungry.map(|(kind, _)| *kind).collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.values().all(|lane| lane.occupied == 0)
    }

    /// Kind -> how many at a time.
    pub(super) fn capacities(&self) -> BTreeMap<&'static str, usize> {
        self.open
            .iter()
            .map(|(kind, lane)| (*kind, lane.capacity))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ClaimToken, JobId};
    use crate::take::Taken;

    fn got(jobs: usize, place: i64) -> Got {
        let taken = || Taken {
            token: ClaimToken::new(JobId::generate(), 1),
            payload: String::new(),
            attempts: 0,
            max_attempts: 1,
            tenant: None,
            trace_context: None,
            has_keys: false,
        };
        Got {
            taken: (0..jobs).map(|_| taken()).collect(),
            place: (jobs > 0).then_some(place),
            found_in: Duration::ZERO,
        }
    }

    #[test]
    fn a_busy_lane_goes_on_where_it_was_for_a_while() {
        let mut lanes = Lanes::default();
        let _jobs = lanes.open("k", 4, 0);
        let first = lanes.next_order(100).unwrap();
        assert_eq!((first.want.limit, first.want.floor), (4, None));
        lanes.record(&first, &got(4, 7));
        let second = lanes.next_order(100).unwrap();
        assert_eq!(second.want.floor, Some(7));
        lanes.record(&second, &got(4, 9));
        assert_eq!(lanes.next_order(100).unwrap().want.floor, Some(9));
        std::thread::sleep(GO_ON_FOR);
        assert_eq!(lanes.next_order(100).unwrap().want.floor, None);
    }

    #[test]
    fn a_lane_is_exhausted_only_when_a_look_from_the_beginning_says_so() {
        let mut lanes = Lanes::default();
        let _jobs = lanes.open("k", 4, 0);
        let first = lanes.next_order(100).unwrap();
        lanes.record(&first, &got(4, 7));
        let from_there = lanes.next_order(100).unwrap();
        lanes.record(&from_there, &got(3, 9));
        let again = lanes.next_order(100).unwrap();
        assert_eq!(again.want.floor, None);
        // What is announced while it looks counts.
        lanes.announce("k");
        lanes.record(&again, &got(0, 0));
        let last = lanes.next_order(100).unwrap();
        lanes.record(&last, &got(0, 0));
        assert!(lanes.next_order(100).is_none());
        assert_eq!(lanes.exhausted(), ["k"]);
    }

    #[test]
    fn kinds_take_turns() {
        let mut lanes = Lanes::default();
        let _jobs = (lanes.open("a", 1, 0), lanes.open("b", 1, 0));
        let mut kinds = Vec::new();
        for _ in 0..4 {
            let order = lanes.next_order(100).unwrap();
            lanes.record(&order, &got(1, 7));
            kinds.push(order.want.kind);
        }
        assert!(
            kinds == ["a", "b", "a", "b"] || kinds == ["b", "a", "b", "a"],
            "{kinds:?}"
        );
    }
}
