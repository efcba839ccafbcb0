//! Loads values by key for many concurrent callers with few reads of the database.
//!
//! A caller never gets a value older than its request: one that arrives while reads are under way waits for the next read,
//! which covers every key requested until then. The number of concurrent reads is bounded, whatever the number of callers and
//! keys, and no key is read twice at the same time.
//!
//! No task reads: a caller that finds a free turn reads for itself and for all who wait, and then passes the turn on to one
//! that came meanwhile. A task would have each request change threads twice, which takes longer than to read a row.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::http::problem::Problem;

/// The values of those keys of a batch that exist.
pub(crate) type Loaded<K, V> = HashMap<K, Result<V, Problem>>;

/// Reads a batch of keys.
pub(crate) trait Load<K, V>: Sync {
    fn load(&self, keys: Vec<K>) -> impl Future<Output = Result<Loaded<K, V>, Problem>> + Send;
}

/// Bounds of the work at the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Batches read at the same time.
    pub(crate) max_concurrent: usize,
    /// Keys of one batch: a small value waits for the large ones that are read with it.
    pub(crate) max_batch: usize,
}

/// Loads values by their keys.
#[derive(Debug)]
pub(crate) struct BatchLoader<K: Key, V>(Arc<Inner<K, V>>);

/// What identifies a value.
pub(crate) trait Key: Eq + Hash + Clone + Send {}

impl<K: Eq + Hash + Clone + Send> Key for K {}

#[derive(Debug)]
struct Inner<K: Key, V> {
    limits: Limits,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K: Key, V> {
    waiting: Vec<Pending<K, V>>,
    /// Keys of the batches that are being read, or about to be.
    in_flight: HashSet<K>,
    /// Turns that are taken.
    taken: usize,
}

#[derive(Debug)]
struct Pending<K: Key, V> {
    key: K,
    reply: oneshot::Sender<Reply<K, V>>,
}

#[derive(Debug)]
enum Reply<K: Key, V> {
    Value(Result<Option<V>, Problem>),
    /// The caller reads itself.
    Turn(Turn<K, V>),
}

#[derive(Debug, thiserror::Error)]
#[error("a read of the database was interrupted")]
struct ReadFailed;

impl<K: Key, V: Clone + Send> BatchLoader<K, V> {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State {
            waiting: Vec::new(),
            in_flight: HashSet::new(),
            taken: 0,
        };
        Self(Arc::new(Inner {
            limits,
            state: Mutex::new(state),
        }))
    }

    /// The value of `key` as it was at some time after this call; `None`: there is none.
    ///
    /// `load` reads the values of many keys; all callers pass the same.
    pub(crate) async fn get(&self, key: K, load: &impl Load<K, V>) -> Result<Option<V>, Problem> {
        let turn = match self.request(key) {
            Ok(turn) => turn,
            Err(reply) => match reply.await {
                Ok(Reply::Turn(turn)) => turn,
                Ok(Reply::Value(value)) => return value,
                Err(_) => return Err(Problem::internal(ReadFailed)),
            },
        };
        // Boxed, so that callers who are answered do not carry the size of its future.
        Box::pin(turn.read(load)).await
    }

    /// A turn, or else the place where the reply arrives.
    fn request(&self, key: K) -> Result<Turn<K, V>, oneshot::Receiver<Reply<K, V>>> {
        let Self(inner) = self;
        let mut state = inner.lock();
        if state.taken < inner.limits.max_concurrent && state.in_flight.insert(key.clone()) {
            state.taken += 1;
            return Ok(Turn::new(inner, key));
        }
        let (reply, receiver) = oneshot::channel();
        state.waiting.push(Pending { key, reply });
        Err(receiver)
    }
}

impl<K: Key, V> Inner<K, V> {
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the reads that may go on at the same time. It is passed on when it is dropped, be it that the batch is read, that
/// its caller has gone away, or that the read panicked.
#[derive(Debug)]
struct Turn<K: Key, V> {
    inner: Arc<Inner<K, V>>,
    /// All of them are in flight; the first is this caller's.
    keys: Vec<K>,
    /// The other callers whose keys are read.
    pending: Vec<Pending<K, V>>,
}

impl<K: Key, V> Turn<K, V> {
    /// `key` is in flight.
    fn new(inner: &Arc<Inner<K, V>>, key: K) -> Self {
        Self {
            inner: Arc::clone(inner),
            keys: vec![key],
            pending: Vec::new(),
        }
    }

    /// All requests for this key and for the first others that are not in flight.
    fn gather(&mut self) {
        let mut state = self.inner.lock();
        let State {
            waiting, in_flight, ..
        } = &mut *state;
        let max = self.inner.limits.max_batch;
        let gathered = waiting.extract_if(.., |Pending { key, .. }| {
            if !self.keys.contains(key) {
                if self.keys.len() >= max || !in_flight.insert(key.clone()) {
                    return false;
                }
                self.keys.push(key.clone());
            }
            true
        });
        self.pending.extend(gathered);
    }
}

impl<K: Key, V: Clone> Turn<K, V> {
    async fn read(mut self, load: &impl Load<K, V>) -> Result<Option<V>, Problem> {
        self.gather();
        let found = load.load(self.keys.clone()).await;
        let value = |key: &K| match &found {
            Ok(found) => found.get(key).cloned().transpose(),
            Err(problem) => Err(problem.clone()),
        };
        for Pending { key, reply } in self.pending.drain(..) {
            // The caller may have gone away.
            let _ = reply.send(Reply::Value(value(&key)));
        }
        value(&self.keys[0])
    }
}

impl<K: Key, V> Drop for Turn<K, V> {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        for key in &self.keys {
            state.in_flight.remove(key);
        }
        // Those that got no answer are the first again.
        state.waiting.splice(0..0, self.pending.drain(..));
        let State {
            waiting, in_flight, ..
        } = &mut *state;
        waiting.retain(|Pending { reply, .. }| !reply.is_closed());
        let next = waiting
            .iter()
            .position(|Pending { key, .. }| in_flight.insert(key.clone()));
        let Some(next) = next else {
            state.taken -= 1;
            return;
        };
        let Pending { key, reply } = waiting.remove(next);
        drop(state);
        // If that caller goes away first, the turn is dropped and passed on again.
        let _ = reply.send(Reply::Turn(Self::new(&self.inner, key)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;
    use crate::http::problem::Kind;

    const LIMITS: Limits = Limits {
        max_concurrent: 4,
        max_batch: 16,
    };

    /// A value that changes, and reads of it that take a while.
    #[derive(Clone, Default)]
    struct World {
        value: Arc<AtomicU32>,
        reads: Arc<AtomicU32>,
        at_once: Arc<AtomicU32>,
        most_at_once: Arc<AtomicU32>,
        subjects: Arc<Mutex<HashSet<u32>>>,
    }

    impl Load<u32, u32> for World {
        /// Odd keys are there.
        async fn load(&self, keys: Vec<u32>) -> Result<Loaded<u32, u32>, Problem> {
            assert!(keys.len() <= LIMITS.max_batch);
            for key in &keys {
                assert!(
                    self.subjects.lock().unwrap().insert(*key),
                    "{key} is read twice at the same time"
                );
            }
            self.reads.fetch_add(1, Ordering::SeqCst);
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            let seen = self.value.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            self.subjects.lock().unwrap().retain(|key| !keys.contains(key));
            let odd = keys.into_iter().filter(|key| key % 2 == 1);
            Ok(odd.map(|key| (key, Ok(seen))).collect())
        }
    }

    impl World {
        async fn ask(&self, shared: &BatchLoader<u32, u32>, key: u32) -> Option<u32> {
            shared.get(key, self).await.unwrap()
        }
    }

    struct Fails;

    impl Load<u32, u32> for Fails {
        async fn load(&self, _: Vec<u32>) -> Result<Loaded<u32, u32>, Problem> {
            Err(Problem::not_found("database"))
        }
    }

    struct Panics;

    impl Load<u32, u32> for Panics {
        async fn load(&self, _: Vec<u32>) -> Result<Loaded<u32, u32>, Problem> {
            panic!("the read fails")
        }
    }

    /// Nothing is left behind.
    fn assert_rests(shared: &BatchLoader<u32, u32>) {
        let state = shared.0.lock();
        assert!(state.waiting.is_empty() && state.in_flight.is_empty() && state.taken == 0);
    }

    fn shared() -> BatchLoader<u32, u32> {
        BatchLoader::new(LIMITS)
    }

    #[tokio::test]
    async fn callers_that_arrive_during_a_read_share_the_next_one() {
        let (world, shared) = (World::default(), shared());
        world.value.store(1, Ordering::SeqCst);
        let first = join_all([1, 3].map(|key| world.ask(&shared, key)));
        let others = async {
            // The first reads are under way.
            while world.reads.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            world.value.store(2, Ordering::SeqCst);
            join_all((0..50).map(|n| world.ask(&shared, n % 10))).await
        };
        let (first, others) = tokio::join!(first, others);
        assert_eq!(first, [Some(1), Some(1)]);
        for (n, seen) in others.iter().enumerate() {
            let wanted = (n % 2 == 1).then_some(2);
            assert_eq!(
                *seen, wanted,
                "{n}: none is older than its request, each has its own key"
            );
        }
        let reads = world.reads.load(Ordering::SeqCst);
        assert!(
            reads as usize <= 2 * LIMITS.max_concurrent,
            "{reads} reads for 52 callers"
        );
    }

    #[tokio::test]
    async fn reads_are_few_and_no_batch_is_too_large() {
        let (world, shared) = (World::default(), shared());
        let answers = join_all((0..1000).map(|key| world.ask(&shared, key))).await;
        assert_eq!(answers.iter().flatten().count(), 500);
        assert_eq!(
            world.most_at_once.load(Ordering::SeqCst) as usize,
            LIMITS.max_concurrent
        );
        assert_rests(&shared);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_while_it_reads_passes_its_turn_on() {
        let (world, shared) = (World::default(), shared());
        let mut leaving = Box::pin(world.ask(&shared, 1));
        assert!(futures::poll!(&mut leaving).is_pending());
        let mut gone = Box::pin(world.ask(&shared, 1));
        assert!(futures::poll!(&mut gone).is_pending());
        let mut waiting = Box::pin(world.ask(&shared, 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(gone);
        drop(leaving);
        world.subjects.lock().unwrap().clear();
        let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(answer, Ok(Some(0)));
        assert_eq!(world.reads.load(Ordering::SeqCst), 2);
        assert_rests(&shared);
    }

    #[tokio::test]
    async fn callers_whose_reader_goes_away_are_read_for_again() {
        let (world, shared) = (World::default(), shared());
        let first = world.ask(&shared, 1);
        let mut second = Box::pin(world.ask(&shared, 1));
        let mut third = Box::pin(world.ask(&shared, 1));
        {
            let mut first = Box::pin(first);
            assert!(futures::poll!(&mut first).is_pending());
            assert!(futures::poll!(&mut second).is_pending());
            assert!(futures::poll!(&mut third).is_pending());
            first.await;
        }
        // The second has the turn, and reads for the third, too.
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        world.subjects.lock().unwrap().clear();
        let answer = tokio::time::timeout(Duration::from_secs(5), third).await;
        assert_eq!(answer, Ok(Some(0)));
        assert_rests(&shared);
    }

    #[tokio::test]
    async fn an_error_reaches_all_waiting_callers_and_no_later_one() {
        let shared = shared();
        let failed = join_all([1, 1, 2].map(|key| shared.get(key, &Fails))).await;
        assert!(failed.iter().all(|answer| {
            answer
                .as_ref()
                .is_err_and(|problem| problem.kind() == Kind::NotFound)
        }));
        let broken = join_all([1, 1, 2, 3].map(|key| {
            let read = std::panic::AssertUnwindSafe(shared.get(key, &Panics));
            futures::FutureExt::catch_unwind(read)
        }));
        assert!(broken.await.iter().all(Result::is_err), "each reads, and panics");
        assert_eq!(World::default().ask(&shared, 1).await, Some(0));
        assert_rests(&shared);
    }
}
