//! Files that the stores of a run are at, so that a file in several stores is downloaded once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// By what names them. Nobody waits with a file in hand, so no two stores wait for each other.
#[derive(Debug, Default)]
pub(super) struct InHand {
    subjects: Mutex<HashSet<String>>,
    released: Notify,
}

impl InHand {
    /// Takes those of `rest` that nobody has, and leaves the others there; waits while others have all of them.
    pub(super) async fn take<T>(&self, rest: &mut Vec<T>, subject: impl Fn(&T) -> String) -> Held<'_, T> {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            // From now on: what is released after the search below is not missed.
            released.as_mut().enable();
            let held = self.take_free(rest, &subject);
            if rest.is_empty() || !held.items.is_empty() {
                return held;
            }
            released.await;
        }
    }

    fn take_free<T>(&self, rest: &mut Vec<T>, subject: impl Fn(&T) -> String) -> Held<'_, T> {
        let mut held = Held {
            items: Vec::new(),
            subjects: Vec::new(),
            of: self,
        };
        let mut subjects = self.subjects();
        let mut others = Vec::new();
        for item in rest.drain(..) {
            let subject = subject(&item);
            if subjects.insert(subject.clone()) {
                held.subjects.push(subject);
                held.items.push(item);
            } else {
                others.push(item);
            }
        }
        drop(subjects);
        *rest = others;
        held
    }

    fn subjects(&self) -> MutexGuard<'_, HashSet<String>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files that nobody else takes before this is dropped.
#[derive(Debug)]
pub(super) struct Held<'a, T> {
    pub(super) items: Vec<T>,
    subjects: Vec<String>,
    of: &'a InHand,
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        if self.subjects.is_empty() {
            return;
        }
        let mut subjects = self.of.subjects();
        for subject in &self.subjects {
            subjects.remove(subject);
        }
        drop(subjects);
        self.of.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn name(file: &&str) -> String {
        (*file).to_owned()
    }

    #[test]
    fn what_another_store_has_is_left_until_it_is_released() {
        let in_hand = InHand::default();
        let mut first = vec!["a", "b"];
        let held = in_hand.take(&mut first, name).now_or_never().unwrap();
        assert_eq!((held.items.as_slice(), first.len()), (["a", "b"].as_slice(), 0));

        let mut second = vec!["b", "c"];
        let own = in_hand.take(&mut second, name).now_or_never().unwrap();
        assert_eq!(
            (own.items.as_slice(), second.as_slice()),
            (["c"].as_slice(), ["b"].as_slice())
        );
        drop(own);
        let mut waits = Box::pin(in_hand.take(&mut second, name));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!(waits.now_or_never().unwrap().items, ["b"]);
    }

    #[test]
    fn a_store_that_lists_a_file_twice_waits_for_nobody() {
        let in_hand = InHand::default();
        let mut files = vec!["a", "a"];
        let held = in_hand.take(&mut files, name).now_or_never().unwrap();
        assert_eq!((held.items.len(), files.len()), (1, 1));
        drop(held);
        assert!(in_hand.take(&mut files, name).now_or_never().is_some());
    }
}
