//! The kinds that a process serves, how busy each is, and whether it is worth asking for more.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::claim::Claim;
use crate::take::{ClaimRequest, ClaimedBatch};

use super::ahead::Ahead;

/// How long a busy kind continues from where its last claim ended before it starts from the beginning again: at least so
/// long, and so many times as long as a claim from there took. A job that belongs in front of those claimed last is overtaken for
/// no longer than this.
const CONTINUE_FOR: Duration = Duration::from_millis(50);
const CONTINUE_TIMES: u32 = 50;

#[derive(Default)]
pub(super) struct Slots {
    open: BTreeMap<&'static str, KindSlots>,
    /// No kind is served any more.
    retired: bool,
    /// Where the last claim went, for taking turns.
    last: &'static str,
    /// When a job was claimed last.
    last_job: Option<Instant>,
}

struct KindSlots {
    /// How many handlers run at a time.
    limit: usize,
    ahead: Ahead,
    /// Claimed jobs whose handlers have not ended, and those that are being claimed.
    occupied: usize,
    /// Counts announcements; there may be a job if it is ahead of `exhausted`.
    announced: u64,
    exhausted: u64,
    /// Where the last claim ended, if it got all it asked for.
    position: Option<i64>,
    /// Until when to go on from there.
    continue_until: Option<Instant>,
    paused: bool,
    jobs: mpsc::UnboundedSender<Claim>,
}

/// A claim to try.
pub(super) struct Order {
    pub(super) want: ClaimRequest,
    /// Most slots are busy: a moment later more of them may be free, for the same price.
    pub(super) is_small: bool,
    announced: u64,
}

impl KindSlots {
    const fn capacity(&self) -> usize {
        self.limit + self.ahead.jobs
    }

    const fn free(&self) -> usize {
        self.capacity().saturating_sub(self.occupied)
    }

    const fn may_have_jobs(&self) -> bool {
        self.announced > self.exhausted
    }

    /// Free slots are asked for together, three quarters of all at least, unless that takes too long.
    fn is_small(&self, batch: usize) -> bool {
        self.free() * 4 < self.capacity().min(batch) * 3
    }

    fn floor(&self) -> Option<i64> {
        let continues = self.continue_until.is_some_and(|until| Instant::now() < until);
        self.position.filter(|_| continues)
    }
}

impl Slots {
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
        // Handlers of an earlier worker of the kind may still run.
        let occupied = self.open.get(kind).map_or(0, |slots| slots.occupied);
        self.open.insert(
            kind,
            KindSlots {
                limit: limit.max(1),
                ahead: Ahead::new(prefetch),
                occupied,
                announced: 1,
                exhausted: 0,
                position: None,
                continue_until: None,
                paused: false,
                jobs,
            },
        );
        Some(receiver)
    }

    /// Answers whether none is left open.
    pub(super) fn close(&mut self, kind: &str) -> bool {
        if let Some(slots) = self.open.get(kind)
            && slots.jobs.is_closed()
        {
            self.open.remove(kind);
        }
        self.open.is_empty()
    }

    /// Serves no kind any more, if none is served now.
    pub(super) fn retire(&mut self) -> bool {
        if self.open.is_empty() {
            self.retired = true;
        }
        self.retired
    }

    pub(super) fn announce(&mut self, kind: &str) {
        if let Some(slots) = self.open.get_mut(kind) {
            slots.announced += 1;
        }
    }

    pub(super) fn announce_all(&mut self) {
        for slots in self.open.values_mut() {
            slots.announced += 1;
        }
    }

    /// The next claim to try, the slots taking turns, and its slots taken for it.
    pub(super) fn take_order(&mut self, batch: usize) -> Option<Order> {
        let order = self.next_order(batch)?;
        if let Some(slots) = self.open.get_mut(order.want.kind) {
            slots.occupied += order.want.limit;
        }
        self.last = order.want.kind;
        Some(order)
    }

    /// Slots that were taken for jobs which did not come.
    pub(super) fn give_back(&mut self, kind: &str, count: usize) {
        if let Some(slots) = self.open.get_mut(kind) {
            slots.occupied = slots.occupied.saturating_sub(count);
        }
    }

    /// What [`take_order`](Self::take_order) would take.
    pub(super) fn next_order(&self, batch: usize) -> Option<Order> {
        let after = self
            .open
            .range(self.last..)
            .filter(|(kind, _)| **kind != self.last);
        let up_to = self.open.range(..=self.last);
        let (kind, slots) = after
            .chain(up_to)
            .find(|(_, slots)| slots.may_have_jobs() && !slots.paused && slots.free() > 0)?;
        Some(Order {
            want: ClaimRequest {
                kind,
                limit: slots.free().min(batch),
                floor: slots.floor(),
            },
            is_small: slots.is_small(batch),
            announced: slots.announced,
        })
    }

    /// What came of an order: the slots of the jobs that it got stay taken. Fewer jobs than asked for: there are no more, unless some were announced meanwhile, or are
    /// in front of where the order began.
    pub(super) fn record(&mut self, order: &Order, got: &ClaimedBatch) {
        let Some(slots) = self.open.get_mut(order.want.kind) else {
            return;
        };
        if !got.taken.is_empty() {
            self.last_job = Some(Instant::now());
        }
        let missing = order.want.limit.saturating_sub(got.taken.len());
        slots.occupied = slots.occupied.saturating_sub(missing);
        if order.want.floor.is_none() {
            let continue_for = CONTINUE_FOR.max(got.found_in * CONTINUE_TIMES);
            slots.continue_until = Some(Instant::now() + continue_for);
        }
        slots.position = got.position.filter(|_| got.taken.len() >= order.want.limit);
        if slots.position.is_none() && order.want.floor.is_none() {
            slots.exhausted = order.announced;
        }
    }

    /// Gives a job, for which a slot was taken, to its kind; answers whether anybody takes it.
    pub(super) fn hand_over(&mut self, claim: Claim) -> bool {
        let Some(slots) = self.open.get_mut(claim.kind()) else {
            return false;
        };
        let taken = slots.jobs.send(claim).is_ok();
        if !taken {
            slots.occupied = slots.occupied.saturating_sub(1);
        }
        taken
    }

    /// Frees a slot; answers whether enough of them are free by now to ask for more.
    pub(super) fn free(&mut self, kind: &str, batch: usize) -> bool {
        let Some(slots) = self.open.get_mut(kind) else {
            return true;
        };
        slots.occupied = slots.occupied.saturating_sub(1);
        slots.ahead.count(Instant::now());
        !slots.is_small(batch)
    }

    pub(super) fn set_paused(&mut self, paused: &[String]) {
        for (kind, slots) in &mut self.open {
            let was_paused = std::mem::replace(&mut slots.paused, paused.iter().any(|other| other == kind));
            if was_paused && !slots.paused {
                slots.announced += 1;
            }
        }
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.open.keys().copied().collect()
    }

    /// Kinds of which there was nothing to claim any more.
    pub(super) fn exhausted(&self) -> Vec<&'static str> {
        let exhausted = self.open.iter().filter(|(_, slots)| !slots.may_have_jobs());
        exhausted.map(|(kind, _)| *kind).collect()
    }

    /// Kinds that could take a job but have none: those to wait for.
    pub(super) fn idle_kinds(&self) -> Vec<&'static str> {
        let idle_kinds = self
            .open
            .iter()
            .filter(|(_, slots)| !slots.may_have_jobs() && !slots.paused && slots.free() > 0);
        idle_kinds.map(|(kind, _)| *kind).collect()
    }

    /// A job was claimed within this time.
    pub(super) fn had_job_within(&self, time: Duration) -> bool {
        self.last_job.is_some_and(|at| at.elapsed() < time)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.values().all(|slots| slots.occupied == 0)
    }

    /// Kind -> how many at a time.
    pub(super) fn capacities(&self) -> BTreeMap<&'static str, usize> {
        self.open
            .iter()
            .map(|(kind, slots)| (*kind, slots.limit))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ClaimToken, JobId};
    use crate::take::ClaimedJob;

    fn got(jobs: usize, position: i64) -> ClaimedBatch {
        let taken = || ClaimedJob {
            token: ClaimToken::new(JobId::generate(), 1),
            payload: String::new(),
            attempts: 0,
            max_attempts: 1,
            tenant: None,
            trace_context: None,
            has_keys: false,
        };
        ClaimedBatch {
            taken: (0..jobs).map(|_| taken()).collect(),
            position: (jobs > 0).then_some(position),
            found_in: Duration::ZERO,
        }
    }

    #[test]
    fn a_busy_kind_continues_where_it_was_for_a_while() {
        let mut slots = Slots::default();
        let _jobs = slots.open("k", 4, 0);
        let first = slots.take_order(100).unwrap();
        assert_eq!((first.want.limit, first.want.floor), (4, None));
        slots.record(&first, &got(4, 7));
        slots.give_back("k", 4);
        let second = slots.take_order(100).unwrap();
        assert_eq!(second.want.floor, Some(7));
        slots.record(&second, &got(4, 9));
        slots.give_back("k", 4);
        assert_eq!(slots.next_order(100).unwrap().want.floor, Some(9));
        std::thread::sleep(CONTINUE_FOR);
        assert_eq!(slots.next_order(100).unwrap().want.floor, None);
    }

    #[test]
    fn a_kind_is_exhausted_only_when_a_claim_from_the_beginning_says_so() {
        let mut slots = Slots::default();
        let _jobs = slots.open("k", 4, 0);
        let first = slots.take_order(100).unwrap();
        slots.record(&first, &got(4, 7));
        slots.give_back("k", 4);
        let from_there = slots.take_order(100).unwrap();
        slots.record(&from_there, &got(3, 9));
        slots.give_back("k", 3);
        let again = slots.take_order(100).unwrap();
        assert_eq!(again.want.floor, None);
        // What is announced while it claims counts.
        slots.announce("k");
        slots.record(&again, &got(0, 0));
        let last = slots.take_order(100).unwrap();
        slots.record(&last, &got(0, 0));
        assert!(slots.next_order(100).is_none());
        assert_eq!(slots.exhausted(), ["k"]);
    }

    #[test]
    fn two_claims_at_once_never_take_more_than_the_slots() {
        let mut slots = Slots::default();
        let _jobs = slots.open("k", 5, 0);
        let first = slots.take_order(3).unwrap();
        let second = slots.take_order(3).unwrap();
        assert_eq!((first.want.limit, second.want.limit), (3, 2));
        assert!(slots.take_order(3).is_none());
        slots.record(&second, &got(0, 0));
        slots.give_back("k", first.want.limit);
        slots.announce("k");
        assert_eq!(slots.take_order(100).unwrap().want.limit, 5);
    }

    #[test]
    fn kinds_take_turns() {
        let mut slots = Slots::default();
        let _jobs = (slots.open("a", 1, 0), slots.open("b", 1, 0));
        let mut kinds = Vec::new();
        for _ in 0..4 {
            let order = slots.take_order(100).unwrap();
            slots.record(&order, &got(1, 7));
            slots.give_back(order.want.kind, 1);
            kinds.push(order.want.kind);
        }
        assert!(
            kinds == ["a", "b", "a", "b"] || kinds == ["b", "a", "b", "a"],
            "{kinds:?}"
        );
    }
}
