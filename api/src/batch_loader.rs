//! Loads values by key for many concurrent callers with few reads of the database.
//!
//! A caller never gets a value older than its request: one that arrives while reads are under way waits for the next read,
//! which covers every key requested until then. The number of concurrent reads is bounded, whatever the number of callers and
//! keys, and no key is read twice at the same time.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::http::problem::Problem;

/// The values of those keys of a batch that exist.
pub(crate) type Loaded<K, V> = HashMap<K, Result<V, Problem>>;

/// Reads a batch of keys. A worker uses one value of this for batch after batch, so it may keep a connection.
pub(crate) trait Load<K, V>: Send + 'static {
    fn load(&mut self, keys: Vec<K>) -> impl Future<Output = Result<Loaded<K, V>, Problem>> + Send;
}

/// Bounds of the work at the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Batches read at the same time.
    pub(crate) max_concurrent: usize,
    /// Keys of one batch: a small value waits for the large ones that are read with it.
    pub(crate) max_batch: usize,
}

/// How long an idle worker waits for the next request: callers that poll come back within this time.
const LINGER: Duration = Duration::from_millis(2);

/// Loads values by their keys.
#[derive(Debug)]
pub(crate) struct BatchLoader<K, V>(Arc<Inner<K, V>>);

#[derive(Debug)]
struct Inner<K, V> {
    limits: Limits,
    state: Mutex<State<K, V>>,
    /// Wakes an idle worker.
    requested: Notify,
}

#[derive(Debug)]
struct State<K, V> {
    waiting: Vec<Pending<K, V>>,
    /// Keys of the batches that are being read.
    in_flight: HashSet<K>,
    /// Permits in use, and how many of their workers are idle.
    taken: usize,
    idle: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("a read of the database was interrupted")]
struct ReadFailed;

#[derive(Debug)]
struct Pending<K, V> {
    key: K,
    answer: oneshot::Sender<Result<Option<V>, Problem>>,
}

impl<K, V> BatchLoader<K, V> {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State {
            waiting: Vec::new(),
            in_flight: HashSet::new(),
            taken: 0,
            idle: 0,
        };
        Self(Arc::new(Inner {
            limits,
            state: Mutex::new(state),
            requested: Notify::new(),
        }))
    }
}

impl<K, V> BatchLoader<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The value of `key` as it was at some time after this call; `None`: there is none.
    ///
    /// `load` reads the values of many keys; all callers pass the same. It goes on when its caller goes away.
    pub(crate) async fn get(&self, key: K, load: impl Load<K, V>) -> Result<Option<V>, Problem> {
        let (answer, answered) = oneshot::channel();
        if let Some(permit) = self.enqueue(Pending { key, answer }) {
            tokio::spawn(permit.serve(load));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(Problem::internal(ReadFailed)))
    }
}

impl<K: Eq + Hash, V> BatchLoader<K, V> {
    /// `None`: an idle worker takes the request, or one that is busy will.
    fn enqueue(&self, pending: Pending<K, V>) -> Option<WorkerPermit<K, V>> {
        let Self(inner) = self;
        let mut state = lock(&inner.state);
        state.waiting.push(pending);
        if state.idle > 0 {
            inner.requested.notify_one();
            return None;
        }
        (state.taken < inner.limits.max_concurrent).then(|| {
            state.taken += 1;
            WorkerPermit {
                inner: Arc::clone(inner),
                in_flight: Vec::new(),
                is_idle: false,
                is_released: false,
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the workers that may read at the same time, until it is released.
struct WorkerPermit<K: Eq + Hash, V> {
    inner: Arc<Inner<K, V>>,
    /// Keys of the batch that this worker is reading.
    in_flight: Vec<K>,
    is_idle: bool,
    is_released: bool,
}

impl<K: Eq + Hash + Clone, V: Clone> WorkerPermit<K, V> {
    async fn serve(mut self, mut load: impl Load<K, V>) {
        // Callers that were answered together with the first one may join its batch.
        tokio::task::yield_now().await;
        let mut may_linger = true;
        while !self.is_released {
            let Some(pending) = self.next(may_linger) else {
                let requested = self.inner.requested.notified();
                may_linger = tokio::time::timeout(LINGER, requested).await.is_ok();
                continue;
            };
            let found = load.load(self.in_flight.clone()).await;
            for Pending { key, answer } in pending {
                // The caller may have gone away.
                let _ = answer.send(match &found {
                    Ok(found) => found.get(&key).cloned().transpose(),
                    Err(problem) => Err(problem.clone()),
                });
            }
            may_linger = true;
            // The callers just answered run first, and may ask again before the next batch.
            tokio::task::yield_now().await;
        }
    }

    /// All requests for the first keys that no other worker is reading. `None`: there are none, and the worker is idle or
    /// released.
    fn next(&mut self, may_linger: bool) -> Option<Vec<Pending<K, V>>> {
        let mut state = lock(&self.inner.state);
        state.finish(&self.in_flight);
        self.in_flight.clear();
        state.idle -= usize::from(std::mem::take(&mut self.is_idle));
        let max = self.inner.limits.max_batch;
        let mut chosen = HashSet::new();
        let (next, rest) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|pending| {
                let key = &pending.key;
                let is_chosen =
                    chosen.contains(key) || (chosen.len() < max && !state.in_flight.contains(key));
                if is_chosen {
                    chosen.insert(key.clone());
                }
                is_chosen
            });
        state.waiting = rest;
        if chosen.is_empty() {
            // Under the lock, because a later caller relies on it.
            if may_linger {
                state.idle += 1;
                self.is_idle = true;
            } else {
                state.taken -= 1;
                self.is_released = true;
            }
            return None;
        }
        state.in_flight.extend(chosen.iter().cloned());
        self.in_flight = chosen.into_iter().collect();
        Some(next)
    }
}

impl<K: Eq + Hash, V> State<K, V> {
    /// These keys are no longer being read.
    fn finish(&mut self, in_flight: &[K]) {
        for key in in_flight {
            self.in_flight.remove(key);
        }
    }
}

impl<K: Eq + Hash, V> Drop for WorkerPermit<K, V> {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        // A read panicked, or the runtime shuts down.
        let mut state = lock(&self.inner.state);
        state.finish(&self.in_flight);
        state.idle -= usize::from(self.is_idle);
        state.taken -= 1;
        if state.taken == 0 {
            // No worker is left to answer them.
            state.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

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
        async fn load(&mut self, keys: Vec<u32>) -> Result<Loaded<u32, u32>, Problem> {
            assert!(keys.len() <= LIMITS.max_batch);
            for key in &keys {
                assert!(
                    lock(&self.subjects).insert(*key),
                    "{key} is read twice at the same time"
                );
            }
            self.reads.fetch_add(1, Ordering::SeqCst);
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            let seen = self.value.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            lock(&self.subjects).retain(|key| !keys.contains(key));
            let odd = keys.into_iter().filter(|key| key % 2 == 1);
            Ok(odd.map(|key| (key, Ok(seen))).collect())
        }
    }

    impl World {
        async fn ask(&self, shared: &BatchLoader<u32, u32>, key: u32) -> Option<u32> {
            shared.get(key, self.clone()).await.unwrap()
        }
    }

    struct Fails;

    impl Load<u32, u32> for Fails {
        async fn load(&mut self, _: Vec<u32>) -> Result<Loaded<u32, u32>, Problem> {
            Err(Problem::not_found("database"))
        }
    }

    struct Panics;

    impl Load<u32, u32> for Panics {
        async fn load(&mut self, _: Vec<u32>) -> Result<Loaded<u32, u32>, Problem> {
            panic!("the read fails")
        }
    }

    /// Until no worker is left.
    async fn rest(shared: &BatchLoader<u32, u32>) {
        while lock(&shared.0.state).taken > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
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
            reads as usize <= 1 + LIMITS.max_concurrent,
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
        rest(&shared).await;
        let state = lock(&shared.0.state);
        assert!(
            state.waiting.is_empty() && state.in_flight.is_empty() && state.idle == 0,
            "nothing is left behind"
        );
    }

    /// A caller that asks again at once is served by the same worker; after a pause by another.
    #[tokio::test]
    async fn an_idle_worker_waits_a_moment_and_then_ends() {
        let (world, shared) = (World::default(), shared());
        for _ in 0..20 {
            world.ask(&shared, 1).await;
            let taken = lock(&shared.0.state).taken;
            assert!(taken <= 2, "{taken} workers for one caller");
        }
        assert_eq!(world.reads.load(Ordering::SeqCst), 20);
        rest(&shared).await;
        assert_eq!(world.ask(&shared, 1).await, Some(0));
        rest(&shared).await;
    }

    #[tokio::test]
    async fn a_caller_behind_a_read_is_answered_though_the_first_caller_has_gone_away() {
        let (world, shared) = (World::default(), shared());
        let mut leaving = Box::pin(world.ask(&shared, 1));
        assert!(futures::poll!(&mut leaving).is_pending());
        // The read is under way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut waiting = Box::pin(world.ask(&shared, 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(leaving);
        let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(answer, Ok(Some(0)));
        assert_eq!(world.reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn an_error_reaches_all_waiting_callers_and_no_later_one() {
        let shared = shared();
        let failed = join_all([1, 1, 2].map(|key| shared.get(key, Fails))).await;
        assert!(failed.iter().all(|answer| {
            answer
                .as_ref()
                .is_err_and(|problem| problem.kind() == Kind::NotFound)
        }));
        rest(&shared).await;
        let broken = join_all([1, 2, 3].map(|key| shared.get(key, Panics))).await;
        assert!(broken.iter().all(Result::is_err));
        rest(&shared).await;
        assert_eq!(World::default().ask(&shared, 1).await, Some(0));
    }
}
