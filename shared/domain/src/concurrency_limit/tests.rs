use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;

const TENTH: Duration = Duration::from_millis(100);

/// A provider that works on so many requests at once, and lets the others wait in the order in which they came.
struct Server {
    at_once: usize,
    service: Duration,
}

/// Sends so many requests, as many at a time as the limit allows; how long that took.
fn send(limit: &mut ConcurrencyLimit, requests: usize, server: &Server) -> Duration {
    let mut workers: BinaryHeap<_> = (0..server.at_once).map(|_| Reverse(Duration::ZERO)).collect();
    let mut under_way = BinaryHeap::new();
    let (mut now, mut left) = (Duration::ZERO, requests);
    loop {
        while left > 0 && under_way.len() < limit.limit() {
            let Reverse(free) = workers.pop().unwrap();
            let answered = free.max(now) + server.service;
            workers.push(Reverse(answered));
            let period = limit.began(under_way.len() + 1);
            under_way.push(Reverse((answered, left, now, period.0)));
            left -= 1;
        }
        let Some(Reverse((answered, _, began, period))) = under_way.pop() else {
            return now;
        };
        now = answered;
        limit.answered(Period(period), now.saturating_sub(began));
    }
}

/// A round in which the whole limit was needed.
fn full_round(limit: &mut ConcurrencyLimit, took: Duration) {
    let requests = limit.limit().max(SMALLEST_ROUND);
    let periods: Vec<_> = (0..requests).map(|_| limit.began(limit.limit())).collect();
    for period in periods {
        limit.answered(period, took);
    }
}

fn grown(ceiling: usize) -> ConcurrencyLimit {
    let mut limit = ConcurrencyLimit::new(ceiling);
    while limit.limit() < ceiling {
        full_round(&mut limit, TENTH);
    }
    limit
}

#[test]
fn it_is_at_the_ceiling_within_half_a_second() {
    let server = Server {
        at_once: 1000,
        service: TENTH,
    };
    let mut limit = ConcurrencyLimit::new(32);
    send(&mut limit, 4 + 8 + 16, &server);
    assert_eq!(limit.limit(), 32, "after three round trips");
    // Three round trips on the way up, and 972 requests by 32.
    assert_eq!(
        send(&mut ConcurrencyLimit::new(32), 1000, &server),
        TENTH * (3 + 31)
    );
}

#[test]
fn a_refusal_halves_once_a_round_trip_and_ends_the_doubling() {
    let mut limit = grown(32);
    let periods: Vec<_> = (0..32).map(|_| limit.began(32)).collect();
    for period in periods {
        limit.refused(period);
    }
    assert_eq!(limit.limit(), 16);
    full_round(&mut limit, TENTH);
    assert_eq!(limit.limit(), 17);
    let period = limit.began(17);
    limit.refused(period);
    assert_eq!(limit.limit(), 8);
}

#[test]
fn what_was_sent_before_a_halving_does_not_count() {
    let mut limit = grown(32);
    let before = limit.began(32);
    limit.refused(before);
    for _ in 0..100 {
        limit.answered(before, TENTH * 100);
    }
    assert_eq!(limit.limit(), 16);
}

#[test]
fn it_does_not_grow_while_it_is_not_needed() {
    let mut limit = ConcurrencyLimit::new(32);
    for _ in 0..1000 {
        let period = limit.began(ConcurrencyLimit::START - 1);
        limit.answered(period, TENTH);
    }
    assert_eq!(limit.limit(), ConcurrencyLimit::START);
}

#[test]
fn a_busy_server_is_kept_busy_with_a_short_queue() {
    for at_once in [4, 8, 16] {
        let server = Server {
            at_once,
            service: TENTH,
        };
        let mut limit = ConcurrencyLimit::new(256);
        let took = send(&mut limit, 4000, &server);
        assert!(limit.limit() <= 3 * at_once, "{} for {at_once}", limit.limit());
        let least = TENTH.mul_f64(4000.0 / f64::from(u32::try_from(at_once).unwrap()));
        assert!(took < least.mul_f64(1.1), "{took:?} for {at_once}");
    }
}

#[test]
fn larger_files_cost_one_halving_and_get_the_limit_back() {
    let mut limit = grown(32);
    full_round(&mut limit, TENTH * 5);
    assert_eq!(limit.limit(), 16);
    full_round(&mut limit, TENTH * 5);
    assert_eq!(limit.limit(), 32);
    full_round(&mut limit, TENTH * 5);
    assert_eq!(limit.limit(), 32);
}

#[test]
fn one_slow_answer_of_a_few_is_no_rise() {
    let mut limit = ConcurrencyLimit::new(32);
    full_round(&mut limit, TENTH);
    for nth in 0..8 {
        let period = limit.began(8);
        limit.answered(period, if nth == 0 { TENTH * 20 } else { TENTH });
    }
    assert_eq!(limit.limit(), 16);
}

#[test]
fn short_times_are_not_compared() {
    let mut limit = ConcurrencyLimit::new(32);
    for millis in [1, 2, 5, 9] {
        full_round(&mut limit, Duration::from_millis(millis));
    }
    assert_eq!(limit.limit(), 32);
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Begins { under_way: usize },
    Answered { nth: usize, millis: u64 },
    Refused { nth: usize },
    Ceiling(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1_usize..80).prop_map(|under_way| Event::Begins { under_way }),
        8 => (0_usize..40, 0_u64..10_000).prop_map(|(nth, millis)| Event::Answered { nth, millis }),
        1 => (0_usize..40).prop_map(|nth| Event::Refused { nth }),
        1 => (0_usize..80).prop_map(Event::Ceiling),
    ]
}

proptest! {
    #[test]
    fn it_stays_between_one_and_the_ceiling(mut ceiling in 0_usize..80, events in prop::collection::vec(event(), 0..300)) {
        let mut limit = ConcurrencyLimit::new(ceiling);
        let mut under_way = Vec::new();
        let mut peak = 0;
        for event in events {
            let before = limit.limit();
            match event {
                Event::Begins { under_way: now } => {
                    peak = peak.max(now);
                    under_way.push(limit.began(now));
                }
                Event::Answered { nth, millis } if nth < under_way.len() => {
                    limit.answered(under_way.swap_remove(nth), Duration::from_millis(millis));
                }
                Event::Refused { nth } if nth < under_way.len() => {
                    limit.refused(under_way.swap_remove(nth));
                    prop_assert!(limit.limit() <= before);
                }
                Event::Ceiling(new) => {
                    ceiling = new;
                    limit.set_ceiling(new);
                }
                Event::Answered { .. } | Event::Refused { .. } => {}
            }
            prop_assert!((1..=ceiling.max(1)).contains(&limit.limit()));
            prop_assert!(limit.limit() <= before || peak >= before, "grew to {} though only {peak} were needed", limit.limit());
            prop_assert!(limit.limit() >= before.min(ceiling.max(1)) / 2);
        }
    }
}
