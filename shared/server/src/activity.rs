//! What is under way on one connection, and since when there is nothing: the reason to close it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::limits::Limits;

/// Answers that wait for their caller are checked so often within the time that they may wait.
const CHECKS: u32 = 4;

/// One connection's requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Arc<Limits>,
    state: Mutex<State>,
    /// A deadline is before the next check.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    exchanges: HashMap<u64, Weak<Exchange>>,
    begun: u64,
    /// When the last request ended, or when the connection was accepted.
    idle_since: Instant,
    /// Since when the peer takes nothing of what is to be sent.
    blocked_since: Option<Instant>,
    /// When the deadlines are checked next; `None`: they are being checked, or never were.
    checked_at: Option<Instant>,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// No first request arrived in time.
    NoRequest,
    /// No further one did.
    Unused,
    /// Nothing is under way but answers that the caller does not take.
    NotTaken,
}

impl Expired {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoRequest => "no_request",
            Self::Unused => "unused",
            Self::NotTaken => "not_taken",
        }
    }
}

enum Check {
    Over(Expired),
    Again(Instant),
}

/// A request, from the end of its head to the end of its bodies, both its own and its answer's.
#[derive(Debug)]
pub(crate) struct Exchange {
    activity: Activity,
    number: u64,
    answer: Answer,
}

impl Activity {
    /// Of a connection that has just been accepted.
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self(Arc::new(Inner {
            limits,
            state: Mutex::new(State {
                exchanges: HashMap::new(),
                begun: 0,
                idle_since: Instant::now(),
                blocked_since: None,
                checked_at: None,
            }),
            sooner: Notify::new(),
        }))
    }

    /// The whole head of a request has arrived.
    pub(crate) fn begin(&self) -> Arc<Exchange> {
        let mut state = self.state();
        let number = state.begun;
        state.begun += 1;
        let exchange = Arc::new(Exchange {
            activity: self.clone(),
            number,
            answer: Answer::new(self.0.limits.answers),
        });
        state.exchanges.insert(number, Arc::downgrade(&exchange));
        self.check_by(&state, Instant::now() + self.pause());
        exchange
    }

    /// The peer takes nothing more at present.
    pub(crate) fn write_blocked(&self) {
        self.state().blocked_since.get_or_insert_with(Instant::now);
    }

    /// The peer has taken something.
    pub(crate) fn wrote(&self) {
        self.state().blocked_since = None;
    }

    /// Returns when there is no reason any more to keep the connection.
    pub(crate) async fn expired(&self) -> Expired {
        loop {
            match self.check(Instant::now()) {
                Check::Over(expired) => return expired,
                Check::Again(at) => {
                    self.state().checked_at = Some(at);
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.0.sooner.notified() => {}
                    }
                }
            }
        }
    }

    fn check(&self, now: Instant) -> Check {
        let limits = &self.0.limits;
        let mut state = self.state();
        state.checked_at = None;
        if state.exchanges.is_empty() {
            let (limit, expired) = if state.begun == 0 {
                (limits.first_request, Expired::NoRequest)
            } else {
                (limits.next_request, Expired::Unused)
            };
            let mut until = state.idle_since + limit;
            if let Some(since) = state.blocked_since {
                // The end of the last answer is still on its way.
                until = until.max(since + limits.answers.idle);
            }
            return if now >= until {
                Check::Over(expired)
            } else {
                Check::Again(until)
            };
        }
        let under_way: Vec<Arc<Exchange>> = state.exchanges.values().filter_map(Weak::upgrade).collect();
        // An exchange that ends here wants the lock.
        drop(state);
        let given_up = under_way
            .iter()
            .filter(|exchange| exchange.answer.is_given_up(now))
            .count();
        // Without any, the last one is just ending.
        if given_up > 0 && given_up == under_way.len() {
            return Check::Over(Expired::NotTaken);
        }
        Check::Again(now + self.pause())
    }

    /// Between two checks of answers that wait for their caller.
    fn pause(&self) -> Duration {
        (self.0.limits.answers.idle / CHECKS).max(Duration::from_millis(10))
    }

    /// Wakes the connection's task only if it would sleep for too long: each time costs a poll of the whole connection.
    fn check_by(&self, state: &State, deadline: Instant) {
        if state.checked_at.is_none_or(|at| deadline < at) {
            self.0.sooner.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// The answer's body, as it is to be sent.
    pub(crate) fn answer(self: Arc<Self>, body: Body) -> Body {
        self.answer.begin(body);
        Body::new(Sent(self))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.exchanges.remove(&self.number);
        state.idle_since = Instant::now();
        let deadline = state.idle_since + self.activity.0.limits.next_request;
        self.activity.check_by(&state, deadline);
    }
}

/// The body as the server sends it.
#[derive(Debug)]
struct Sent(Arc<Exchange>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.answer.end();
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.0.answer.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.answer.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::SinkExt as _;

    use super::*;
    use crate::rate::LeastRate;

    const FIRST: Duration = Duration::from_secs(2);
    const NEXT: Duration = Duration::from_secs(50);
    const IDLE: Duration = Duration::from_secs(100);

    fn activity() -> Activity {
        Activity::new(Arc::new(Limits {
            max_header_bytes: 8192,
            first_request: FIRST,
            next_request: NEXT,
            max_connections: 10,
            max_connections_per_address: None,
            answers: LeastRate {
                idle: IDLE,
                bytes_per_second: 0,
            },
        }))
    }

    /// What is found when so much time has passed; the test itself takes none of the seconds that matter.
    fn after(activity: &Activity, time: Duration) -> Option<Expired> {
        match activity.check(Instant::now() + time) {
            Check::Over(expired) => Some(expired),
            Check::Again(at) => {
                assert!(
                    at > Instant::now() + time,
                    "or it would be checked without a pause"
                );
                None
            }
        }
    }

    async fn next(body: &mut Body) -> Option<Result<(), axum::Error>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.map(drop))
    }

    #[test]
    fn silence_ends_a_connection_and_a_request_does_not() {
        let activity = activity();
        assert_eq!(after(&activity, FIRST / 2), None);
        assert_eq!(after(&activity, FIRST), Some(Expired::NoRequest));

        let request = activity.begin();
        assert_eq!(after(&activity, 1000 * IDLE), None, "it may take its time");
        drop(request);
        assert_eq!(after(&activity, NEXT / 2), None);
        assert_eq!(after(&activity, NEXT), Some(Expired::Unused));
    }

    #[test]
    fn the_end_of_an_answer_is_waited_for_as_long_as_any_piece_of_it() {
        let activity = activity();
        drop(activity.begin());
        activity.write_blocked();
        assert_eq!(after(&activity, IDLE / 2), None);
        assert_eq!(after(&activity, IDLE), Some(Expired::Unused));
        activity.wrote();
        assert_eq!(after(&activity, NEXT), Some(Expired::Unused));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_dropped_and_others_on_the_connection_go_on() {
        let activity = activity();
        let held = Arc::new(());
        let holder = Arc::clone(&held);
        let endless = futures::stream::repeat_with(move || {
            let () = *holder;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let mut untaken = activity.begin().answer(Body::from_stream(endless));
        assert!(matches!(next(&mut untaken).await, Some(Ok(()))));
        let other = activity.begin();
        assert_eq!(after(&activity, IDLE / 2), None);
        assert_eq!(Arc::strong_count(&held), 2);
        assert_eq!(after(&activity, IDLE), None, "the other one is under way");
        assert_eq!(Arc::strong_count(&held), 1, "what the answer held is free");
        let end = next(&mut untaken).await;
        assert!(matches!(end, Some(Err(_))), "it must not seem complete");
        drop(other);
        assert_eq!(after(&activity, Duration::ZERO), Some(Expired::NotTaken));
    }

    #[tokio::test]
    async fn a_large_piece_is_taken_in_parts_so_that_a_slow_caller_is_seen_to_move() {
        let activity = activity();
        let piece = Bytes::from(vec![7; 64 * 1024 + 1]);
        let mut body = activity.begin().answer(Body::from(piece.clone()));
        let (mut taken, mut parts) = (Vec::new(), 0);
        while !body.is_end_stream() {
            let left = (piece.len() - taken.len()) as u64;
            assert_eq!(
                body.size_hint().exact(),
                Some(left),
                "the length is told beforehand"
            );
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            taken.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
            parts += 1;
        }
        assert_eq!(taken, piece);
        assert!(parts > 4, "{parts} parts");
    }

    /// The server may not even ask for a piece, because it has enough unsent.
    #[tokio::test]
    async fn a_caller_is_waited_for_as_soon_as_there_is_something_to_take() {
        let activity = activity();
        let (mut pieces, stream) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
        let mut body = activity.begin().answer(Body::from_stream(stream));
        assert!(futures::poll!(std::pin::pin!(next(&mut body))).is_pending());
        assert_eq!(after(&activity, 1000 * IDLE), None, "nothing is there yet");
        pieces.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!(after(&activity, IDLE / 2), None);
        assert_eq!(after(&activity, IDLE), Some(Expired::NotTaken));
    }
}
