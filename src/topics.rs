//! The raw topics of all shards: how many there are, and a limit.
//!
//! A topic is there while a connection is upgraded to it. Upgrades to topics, and the end of each topic, take the lock
//! that all threads share; messages do not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Counts topics, and limits them. A clone is another handle to the same topics.
#[derive(Clone, Debug)]
pub struct TopicLimiter {
    topics_max: usize,
    topics: Arc<Mutex<Topics>>,
}

/// Invariant: a topic has an entry while it has connections, and until its last permit has been dropped.
type Topics = HashMap<Arc<str>, Weak<Topic>>;

/// A topic that is there.
#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    topics: Arc<Mutex<Topics>>,
}

/// Keeps a topic there until it is dropped.
#[derive(Debug)]
pub struct TopicPermit {
    _topic: Arc<Topic>,
}

impl TopicLimiter {
    /// A limiter without topics.
    #[must_use]
    pub fn new(topics_max: usize) -> Self {
        Self { topics_max, topics: Arc::default() }
    }

    /// Counts a connection for its topic. `None` when it would be one topic too many.
    #[must_use]
    pub fn enter(&self, name: &str) -> Option<TopicPermit> {
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(name).and_then(Weak::upgrade) {
            return Some(TopicPermit { _topic: topic });
        }
        if topics.len() >= self.topics_max && !topics.contains_key(name) {
            return None;
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic { name: Arc::clone(&name), topics: Arc::clone(&self.topics) });
        topics.insert(name, Arc::downgrade(&topic));
        Some(TopicPermit { _topic: topic })
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let mut topics = lock(&self.topics);
        // Another connection may have come between the last permit's end and this, with a new entry.
        if topics.get(&self.name).is_some_and(|topic| topic.strong_count() == 0) {
            topics.remove(&self.name);
        }
    }
}

/// A thread that has panicked has ended the server, so the topics no longer matter.
fn lock(topics: &Mutex<Topics>) -> MutexGuard<'_, Topics> {
    topics.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_there_while_a_connection_is_on_it() {
        let topics = TopicLimiter::new(2);
        let first = topics.enter("a").expect("the first");
        let second = topics.enter("a").expect("the same");
        let other = topics.enter("").expect("the second");
        assert!(topics.enter("c").is_none());
        drop(first);
        assert!(topics.enter("c").is_none(), "one is still on it");
        drop(second);
        let third = topics.enter("c").expect("a free place");
        assert!(topics.enter("a").is_none());
        drop((other, third));
        assert!(lock(&topics.topics).is_empty());
    }

    #[test]
    fn threads_that_come_and_go_leave_no_topic_behind() {
        let topics = TopicLimiter::new(3);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let topics = &topics;
                scope.spawn(move || {
                    for n in 0..1_000 {
                        drop(topics.enter(["a", "b", "c"][(n + thread) % 3]).expect("one of three"));
                    }
                });
            }
        });
        assert!(lock(&topics.topics).is_empty());
    }
}
