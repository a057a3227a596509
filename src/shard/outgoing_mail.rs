//! Messages from a shard to others, to the verifier and to itself, until they are handled or posted.

use std::collections::VecDeque;

use crate::accounts::Attempt;
use crate::mail::{Delivery, LogMail, Request};
use crate::rooms::{ClientRef, ShardIndex};

/// Requests that may wait for one other shard before reading from clients is paused.
pub const REQUESTS_WAITING_MAX: usize = 256;

/// Deliveries that may wait for one other shard before requests of other shards are left where they are.
/// This shard's requests to itself by then, at most [`REQUESTS_WAITING_MAX`], are still handled.
pub const DELIVERIES_WAITING_MAX: usize = 512;

/// The mail that a shard has written.
#[derive(Debug)]
pub struct OutgoingMail {
    own_index: ShardIndex,
    /// To this shard itself.
    own_requests: VecDeque<Request>,
    own_deliveries: VecDeque<Delivery>,
    /// By shard; to itself there are none.
    requests: Vec<VecDeque<Request>>,
    deliveries: Vec<VecDeque<Delivery>>,
    /// To the HTTP API: one for each of its requests that is answered.
    for_api: VecDeque<Delivery>,
    /// To the log of the cluster.
    for_log: VecDeque<LogMail>,
    /// To the verifier: at most one attempt to sign in of each connection.
    attempts: VecDeque<Attempt<ClientRef>>,
}

impl OutgoingMail {
    pub(super) fn new(own_index: ShardIndex, shards: usize) -> Self {
        assert!(usize::from(own_index.0) < shards);
        Self {
            own_index,
            own_requests: VecDeque::new(),
            own_deliveries: VecDeque::new(),
            requests: std::iter::repeat_with(VecDeque::new).take(shards).collect(),
            deliveries: std::iter::repeat_with(VecDeque::new).take(shards).collect(),
            for_api: VecDeque::new(),
            for_log: VecDeque::new(),
            attempts: VecDeque::new(),
        }
    }

    pub(super) fn request(&mut self, to: ShardIndex, request: impl Into<Request>) {
        let queue =
            if to == self.own_index { &mut self.own_requests } else { &mut self.requests[usize::from(to.0)] };
        queue.push_back(request.into());
    }

    pub(super) fn deliver(&mut self, to: ShardIndex, delivery: impl Into<Delivery>) {
        let queue = match to {
            ShardIndex::API => &mut self.for_api,
            // Its own server tells it.
            to if to.elsewhere().is_some() => return,
            to if to == self.own_index => &mut self.own_deliveries,
            to => &mut self.deliveries[usize::from(to.0)],
        };
        queue.push_back(delivery.into());
    }

    pub(super) fn verify(&mut self, attempt: Attempt<ClientRef>) {
        self.attempts.push_back(attempt);
    }

    /// The next attempt to sign in. The result comes back as a [`Delivery::PasswordChecked`].
    #[must_use]
    pub fn poll_attempt(&mut self) -> Option<Attempt<ClientRef>> {
        self.attempts.pop_front()
    }

    pub(super) fn post(&mut self, mail: impl Into<LogMail>) {
        self.for_log.push_back(mail.into());
    }

    /// The next mail for the log of the cluster.
    #[must_use]
    pub fn poll_log_mail(&mut self) -> Option<LogMail> {
        self.for_log.pop_front()
    }

    /// The next delivery for the HTTP API.
    #[must_use]
    pub fn poll_api_delivery(&mut self) -> Option<Delivery> {
        self.for_api.pop_front()
    }

    /// True while this shard has mail for itself.
    #[inline]
    pub(super) fn has_own(&self) -> bool {
        !self.own_deliveries.is_empty() || !self.own_requests.is_empty()
    }

    /// The next delivery of this shard to itself.
    pub(super) fn pop_own_delivery(&mut self) -> Option<Delivery> {
        self.own_deliveries.pop_front()
    }

    /// The next request of this shard to itself.
    pub(super) fn pop_own_request(&mut self) -> Option<Request> {
        self.own_requests.pop_front()
    }

    /// The next request for another shard.
    #[must_use]
    pub fn poll_request(&mut self, to: ShardIndex) -> Option<Request> {
        self.requests[usize::from(to.0)].pop_front()
    }

    /// The next delivery for another shard.
    #[must_use]
    pub fn poll_delivery(&mut self, to: ShardIndex) -> Option<Delivery> {
        self.deliveries[usize::from(to.0)].pop_front()
    }

    /// All shards, this one included, for which nothing ever waits.
    pub fn shards(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.requests.len() as u16).map(ShardIndex)
    }

    /// How many requests and deliveries wait for another shard.
    #[must_use]
    pub fn waiting_for(&self, to: ShardIndex) -> (usize, usize) {
        (self.requests[usize::from(to.0)].len(), self.deliveries[usize::from(to.0)].len())
    }

    /// True while no more deliveries should be caused by requests.
    pub(super) fn is_full_of_deliveries(&self) -> bool {
        self.deliveries.iter().any(|waiting| waiting.len() >= DELIVERIES_WAITING_MAX)
    }

    /// True while no more requests should be caused by clients.
    pub(super) fn is_full_of_requests(&self) -> bool {
        // This shard's requests to itself become deliveries for others, too.
        self.own_requests.len() >= REQUESTS_WAITING_MAX
            || self.requests.iter().any(|waiting| waiting.len() >= REQUESTS_WAITING_MAX)
    }
}
