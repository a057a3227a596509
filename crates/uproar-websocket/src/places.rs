//! The connections of a server: how many there may be, which there are, and how far each has come.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use slab::Slab;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::link::Link;
use super::listen_options::ListenOptions;

/// The places that a server has for connections.
pub(super) struct Places {
    pub(super) options: ListenOptions,
    free: Arc<Semaphore>,
    open: RefCell<Slab<Open>>,
    /// Told when a place is free again.
    vacated: Notify,
}

/// A connection.
struct Open {
    link: Weak<Link>,
    /// True once the opening handshake is over.
    is_upgraded: bool,
}

impl fmt::Debug for Places {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Places").field("open", &self.open.borrow().len()).finish_non_exhaustive()
    }
}

impl Places {
    pub(super) fn new(options: ListenOptions) -> Rc<Self> {
        let free = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
        Rc::new(Self { options, free, open: RefCell::default(), vacated: Notify::new() })
    }

    /// Waits until there is a place for one more connection, which is then reserved.
    pub(super) async fn reserve(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("Bug: the semaphore was closed")
    }

    /// Gives a connection its place. It keeps it for as long as it lives, see [`Place`].
    pub(super) fn take(self: &Rc<Self>, permit: OwnedSemaphorePermit, link: &Rc<Link>) -> Rc<Place> {
        let open = Open { link: Rc::downgrade(link), is_upgraded: false };
        let index = self.open.borrow_mut().insert(open);
        let place = Rc::new(Place { places: Rc::clone(self), index, _permit: permit });
        link.keep(place.clone());
        place
    }

    /// How many connections there are.
    pub(super) fn taken(&self) -> usize {
        self.open.borrow().len()
    }

    /// All connections, and whether they have upgraded.
    pub(super) fn links(&self) -> Vec<(Rc<Link>, bool)> {
        let open = self.open.borrow();
        open.iter().filter_map(|(_, open)| Some((open.link.upgrade()?, open.is_upgraded))).collect()
    }

    /// Waits until there are no connections.
    pub(super) async fn all_vacated(&self) {
        loop {
            let vacated = self.vacated.notified();
            if self.taken() == 0 {
                return;
            }
            vacated.await;
        }
    }
}

/// A connection's place among those that there may be. It is free again when both the connection has ended and
/// its handler has returned, whichever is last.
pub(super) struct Place {
    places: Rc<Places>,
    index: usize,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn options(&self) -> &ListenOptions {
        &self.places.options
    }

    /// Notes that the connection is a WebSocket now.
    pub(super) fn note_upgrade(&self) {
        self.places.open.borrow_mut()[self.index].is_upgraded = true;
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Place").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open.borrow_mut().remove(self.index);
        self.places.vacated.notify_waiters();
    }
}
