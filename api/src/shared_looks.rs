//! Questions of many callers, answered by few looks at the database.
//!
//! Nobody gets an answer that is older than its question: who comes while looks are under way waits for the next one, which
//! is about everything that has been asked until then. So callers cost a few looks at a time, however many they are and
//! whatever they ask about; and no subject is looked at twice at the same time.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::http::problem::Problem;

/// What a look found of each of its subjects that there are.
pub(crate) type Found<K, V> = HashMap<K, Result<V, Problem>>;

/// Who looks. One of them makes look after look, as long as somebody waits, and may keep what it needs for that.
pub(crate) trait Look<K, V>: Send + 'static {
    fn look(&mut self, keys: Vec<K>) -> impl Future<Output = Result<Found<K, V>, Problem>> + Send;
}

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Looks that are under way together.
    pub(crate) at_once: usize,
    /// Subjects of one look: who asks about something small waits for the large ones that are looked at with it.
    pub(crate) most_subjects: usize,
}

/// How long who has nothing to look at stays for the next question: callers who ask again and again do so within this time.
const LINGER: Duration = Duration::from_millis(2);

/// Looks at values by their keys.
#[derive(Debug)]
pub(crate) struct SharedLooks<K, V>(Arc<Office<K, V>>);

#[derive(Debug)]
struct Office<K, V> {
    extent: Extent,
    desk: Mutex<Desk<K, V>>,
    /// For those who have nothing to look at.
    asked: Notify,
}

#[derive(Debug)]
struct Desk<K, V> {
    waiting: Vec<Question<K, V>>,
    /// Subjects of the looks that are under way.
    subjects: HashSet<K>,
    /// Places that are taken, and how many of those have nothing to look at.
    taken: usize,
    idle: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("a look at the database broke off")]
struct BrokenOff;

#[derive(Debug)]
struct Question<K, V> {
    key: K,
    answer: oneshot::Sender<Result<Option<V>, Problem>>,
}

impl<K, V> SharedLooks<K, V> {
    pub(crate) fn new(extent: Extent) -> Self {
        let desk = Desk {
            waiting: Vec::new(),
            subjects: HashSet::new(),
            taken: 0,
            idle: 0,
        };
        Self(Arc::new(Office {
            extent,
            desk: Mutex::new(desk),
            asked: Notify::new(),
        }))
    }
}

impl<K, V> SharedLooks<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The value of `key` as it was at some time after this call; `None`: there is none.
    ///
    /// `look` finds the values of many keys; it is the same for all callers. It goes on when its caller goes away.
    pub(crate) async fn get(&self, key: K, look: impl Look<K, V>) -> Result<Option<V>, Problem> {
        let (answer, answered) = oneshot::channel();
        if let Some(place) = self.ask(Question { key, answer }) {
            tokio::spawn(place.serve(look));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(Problem::internal(BrokenOff)))
    }
}

impl<K: Eq + Hash, V> SharedLooks<K, V> {
    /// `None`: who has a place already takes the question up.
    fn ask(&self, question: Question<K, V>) -> Option<Place<K, V>> {
        let Self(office) = self;
        let mut desk = lock(&office.desk);
        desk.waiting.push(question);
        if desk.idle > 0 {
            office.asked.notify_one();
            return None;
        }
        (desk.taken < office.extent.at_once).then(|| {
            desk.taken += 1;
            Place {
                office: Arc::clone(office),
                subjects: Vec::new(),
                is_idle: false,
                is_given_back: false,
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of those that may look at the same time, until it is given back.
struct Place<K: Eq + Hash, V> {
    office: Arc<Office<K, V>>,
    /// Of the look that is under way here.
    subjects: Vec<K>,
    is_idle: bool,
    is_given_back: bool,
}

impl<K: Eq + Hash + Clone, V: Clone> Place<K, V> {
    async fn serve(mut self, mut look: impl Look<K, V>) {
        // Who is about to ask, having been answered something else together with the first, may come along.
        tokio::task::yield_now().await;
        let mut may_linger = true;
        while !self.is_given_back {
            let Some(questions) = self.next(may_linger) else {
                let asked = self.office.asked.notified();
                may_linger = tokio::time::timeout(LINGER, asked).await.is_ok();
                continue;
            };
            let found = look.look(self.subjects.clone()).await;
            for Question { key, answer } in questions {
                // Who asked may have gone away.
                let _ = answer.send(match &found {
                    Ok(found) => found.get(&key).cloned().transpose(),
                    Err(problem) => Err(problem.clone()),
                });
            }
            may_linger = true;
            // Who was answered goes on first, and asks again before the next look.
            tokio::task::yield_now().await;
        }
    }

    /// All questions about the first so many subjects at which nobody is looking. `None`: there are none; the place is idle,
    /// or given back.
    fn next(&mut self, may_linger: bool) -> Option<Vec<Question<K, V>>> {
        let mut desk = lock(&self.office.desk);
        desk.leave(&self.subjects);
        self.subjects.clear();
        desk.idle -= usize::from(std::mem::take(&mut self.is_idle));
        let most = self.office.extent.most_subjects;
        let mut chosen = HashSet::new();
        let (next, rest) = std::mem::take(&mut desk.waiting)
            .into_iter()
            .partition(|question| {
                let key = &question.key;
                let is_chosen = chosen.contains(key) || (chosen.len() < most && !desk.subjects.contains(key));
                if is_chosen {
                    chosen.insert(key.clone());
                }
                is_chosen
            });
        desk.waiting = rest;
        if chosen.is_empty() {
            // Before anybody else can ask, who would rely on it.
            if may_linger {
                desk.idle += 1;
                self.is_idle = true;
            } else {
                desk.taken -= 1;
                self.is_given_back = true;
            }
            return None;
        }
        desk.subjects.extend(chosen.iter().cloned());
        self.subjects = chosen.into_iter().collect();
        Some(next)
    }
}

impl<K: Eq + Hash, V> Desk<K, V> {
    /// Nobody looks at these any more.
    fn leave(&mut self, subjects: &[K]) {
        for subject in subjects {
            self.subjects.remove(subject);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Place<K, V> {
    fn drop(&mut self) {
        if self.is_given_back {
            return;
        }
        // A look panicked, or everything ends.
        let mut desk = lock(&self.office.desk);
        desk.leave(&self.subjects);
        desk.idle -= usize::from(self.is_idle);
        desk.taken -= 1;
        if desk.taken == 0 {
            // Nobody would answer them.
            desk.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;

    use super::*;
    use crate::http::problem::Kind;

    const EXTENT: Extent = Extent {
        at_once: 4,
        most_subjects: 16,
    };

    /// A value that changes, and looks at it that take a while.
    #[derive(Clone, Default)]
    struct World {
        value: Arc<AtomicU32>,
        looks: Arc<AtomicU32>,
        at_once: Arc<AtomicU32>,
        most_at_once: Arc<AtomicU32>,
        subjects: Arc<Mutex<HashSet<u32>>>,
    }

    impl Look<u32, u32> for World {
        /// Odd keys are there.
        async fn look(&mut self, keys: Vec<u32>) -> Result<Found<u32, u32>, Problem> {
            assert!(keys.len() <= EXTENT.most_subjects);
            for key in &keys {
                assert!(
                    lock(&self.subjects).insert(*key),
                    "{key} is looked at twice at the same time"
                );
            }
            self.looks.fetch_add(1, Ordering::SeqCst);
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
        async fn ask(&self, shared: &SharedLooks<u32, u32>, key: u32) -> Option<u32> {
            shared.get(key, self.clone()).await.unwrap()
        }
    }

    struct Fails;

    impl Look<u32, u32> for Fails {
        async fn look(&mut self, _: Vec<u32>) -> Result<Found<u32, u32>, Problem> {
            Err(Problem::not_found("database"))
        }
    }

    struct Panics;

    impl Look<u32, u32> for Panics {
        async fn look(&mut self, _: Vec<u32>) -> Result<Found<u32, u32>, Problem> {
            panic!("a look's fault")
        }
    }

    /// Until nobody looks any more.
    async fn rest(shared: &SharedLooks<u32, u32>) {
        while lock(&shared.0.desk).taken > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn shared() -> SharedLooks<u32, u32> {
        SharedLooks::new(EXTENT)
    }

    #[tokio::test]
    async fn who_comes_during_looks_shares_the_next_one() {
        let (world, shared) = (World::default(), shared());
        world.value.store(1, Ordering::SeqCst);
        let first = join_all([1, 3].map(|key| world.ask(&shared, key)));
        let others = async {
            // The first looks are under way.
            while world.looks.load(Ordering::SeqCst) == 0 {
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
                "{n}: none is older than its question, each is its own"
            );
        }
        let looks = world.looks.load(Ordering::SeqCst);
        assert!(
            looks as usize <= 1 + EXTENT.at_once,
            "{looks} looks for 52 callers"
        );
    }

    #[tokio::test]
    async fn looks_are_few_and_none_is_too_large() {
        let (world, shared) = (World::default(), shared());
        let answers = join_all((0..1000).map(|key| world.ask(&shared, key))).await;
        assert_eq!(answers.iter().flatten().count(), 500);
        assert_eq!(world.most_at_once.load(Ordering::SeqCst) as usize, EXTENT.at_once);
        rest(&shared).await;
        let desk = lock(&shared.0.desk);
        assert!(
            desk.waiting.is_empty() && desk.subjects.is_empty() && desk.idle == 0,
            "nothing is left behind"
        );
    }

    /// One who asks again at once is served by the same looker, who keeps what it needs; after a pause by another.
    #[tokio::test]
    async fn who_looks_lingers_and_then_goes() {
        let (world, shared) = (World::default(), shared());
        for _ in 0..20 {
            world.ask(&shared, 1).await;
            let taken = lock(&shared.0.desk).taken;
            assert!(taken <= 2, "{taken} places for one caller");
        }
        assert_eq!(world.looks.load(Ordering::SeqCst), 20);
        rest(&shared).await;
        assert_eq!(world.ask(&shared, 1).await, Some(0));
        rest(&shared).await;
    }

    #[tokio::test]
    async fn who_waits_behind_a_look_is_answered_though_its_caller_has_gone_away() {
        let (world, shared) = (World::default(), shared());
        let mut leaving = Box::pin(world.ask(&shared, 1));
        assert!(futures::poll!(&mut leaving).is_pending());
        // The look is under way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut waiting = Box::pin(world.ask(&shared, 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(leaving);
        let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(answer, Ok(Some(0)));
        assert_eq!(world.looks.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn trouble_reaches_all_who_asked_and_nobody_after_them() {
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
