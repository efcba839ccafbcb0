//! Many callers that ask the same at once are answered by one look at the database.
//!
//! Nobody gets an answer that is older than its question: who comes while a look is under way waits for the next one, which
//! all who have come until then share. So the callers of one index cost two looks at a time, however many they are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Looks by what they are about.
#[derive(Debug)]
pub(crate) struct SharedLooks<K, V>(Mutex<HashMap<K, Arc<Line<V>>>>);

/// The callers who ask the same.
#[derive(Debug)]
struct Line<V> {
    /// Counts comings and beginnings of looks, so that one can be said to be before the other.
    clock: AtomicU64,
    latest: tokio::sync::Mutex<Option<Latest<V>>>,
}

#[derive(Debug)]
struct Latest<V> {
    began: u64,
    value: V,
}

impl<K, V> Default for SharedLooks<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash + Clone, V: Clone> SharedLooks<K, V> {
    /// What `look` finds, or what another one found that began after this call.
    pub(crate) async fn get<E>(&self, key: K, look: impl AsyncFnOnce() -> Result<V, E>) -> Result<V, E> {
        let caller = Caller {
            line: Arc::clone(self.lines().entry(key.clone()).or_default()),
            looks: self,
            key,
        };
        let line = &caller.line;
        let came = line.clock.fetch_add(1, Ordering::SeqCst);
        let mut latest = line.latest.lock().await;
        match &*latest {
            Some(latest) if latest.began > came => Ok(latest.value.clone()),
            _ => {
                let began = line.clock.fetch_add(1, Ordering::SeqCst);
                let value = look().await?;
                *latest = Some(Latest {
                    began,
                    value: value.clone(),
                });
                Ok(value)
            }
        }
    }
}

impl<K: Eq + Hash, V> SharedLooks<K, V> {
    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<Line<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the line, also when the caller goes away; the last one takes it along.
struct Caller<'a, K: Eq + Hash, V> {
    looks: &'a SharedLooks<K, V>,
    key: K,
    line: Arc<Line<V>>,
}

impl<K: Eq + Hash, V> Drop for Caller<'_, K, V> {
    fn drop(&mut self) {
        let mut lines = self.looks.lines();
        // The map's and this one.
        if Arc::strong_count(&self.line) <= 2 {
            lines.remove(&self.key);
        }
    }
}

impl<V> Default for Line<V> {
    fn default() -> Self {
        Self {
            clock: AtomicU64::new(0),
            latest: tokio::sync::Mutex::new(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_comes_during_a_look_shares_the_next_one() {
        let (looks, shared, world) = (
            AtomicU32::new(0),
            SharedLooks::<u8, u32>::default(),
            AtomicU32::new(1),
        );
        let ask = async || {
            let look = async || {
                looks.fetch_add(1, Ordering::SeqCst);
                let seen = world.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, Infallible>(seen)
            };
            shared.get(7, look).await.unwrap()
        };
        let first = ask();
        let others = async {
            // The first look is under way.
            tokio::time::sleep(Duration::from_millis(5)).await;
            world.store(2, Ordering::SeqCst);
            futures::future::join_all((0..50).map(|_| ask())).await
        };
        let (first, others) = tokio::join!(first, others);
        assert_eq!(first, 1);
        assert!(
            others.iter().all(|seen| *seen == 2),
            "none is older than its question"
        );
        assert_eq!(looks.load(Ordering::SeqCst), 2);
        assert!(shared.lines().is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn a_look_that_fails_is_nobody_elses() {
        let shared = SharedLooks::<u8, u32>::default();
        let failed = shared.get(1, async || Err::<u32, &str>("away")).await;
        assert_eq!(failed, Err("away"));
        assert_eq!(shared.get(1, async || Ok::<_, &str>(3)).await, Ok(3));
    }
}
