//! The calls into the kernel, which submit queued operations and collect completions.

use std::io;
use std::time::Duration;

use io_uring::{EnterFlags, squeue, types};

use super::{RawCompletion, Ring};
use crate::features::Feature;
use crate::slot::SendKind;
use crate::token::{self, Operation};

/// Pieces of deferred work that a call into the kernel runs, since Linux 6.13; before, it runs all. Each has a
/// completion or more, so a call with fewer completions has left none.
const DEFERRED_WORK_A_CALL: usize = 20;

/// Completions that are collected before they are handled. There are hardly more at a time: as many receives as there
/// are buffers, and a send for each connection.
const COLLECTED_MAX: usize = 65_536;

impl Ring {
    /// Submits all queued operations and collects all completions, without waiting. Bytes that had arrived before the
    /// call are among them, as far as there are buffers: see [`Ring::is_short_of_buffers`].
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` reports beyond what a later call mends; it means that the ring is unusable.
    pub fn enter(&mut self) -> io::Result<()> {
        self.prepare()?;
        self.flush_submissions()?;
        self.collect_all(false)
    }

    /// As [`Ring::enter`], but sleeps until something has completed, the ring's [`Waker`](crate::Waker) is used, or
    /// `timeout` has passed, if there is one. `has_news` is asked when the waker can be used, and says that there is
    /// no need to sleep.
    ///
    /// # Errors
    ///
    /// As for [`Ring::enter`].
    pub fn wait(&mut self, timeout: Option<Duration>, has_news: impl FnOnce() -> bool) -> io::Result<()> {
        self.prepare()?;
        if !self.has_nothing_to_report() || !self.starved.is_empty() || !self.ring.completion().is_empty() {
            return self.enter();
        }
        self.waker.publish_sleep();
        let has_news = has_news();
        let outcome = if has_news { self.flush_submissions() } else { self.submit_and_wait_for(1, timeout) };
        self.waker.publish_awake();
        outcome?;
        self.collect_all(!has_news)
    }

    /// Submits all queued operations, and collects nothing.
    ///
    /// # Errors
    ///
    /// As for [`Ring::enter`].
    pub fn submit_queued(&mut self) -> io::Result<()> {
        self.prepare()?;
        self.flush_submissions()
    }

    /// True when the next [`Ring::enter`] has something to collect.
    pub fn has_completions(&mut self) -> bool {
        !self.has_nothing_to_report()
            || !self.starved.is_empty()
            || !self.ring.completion().is_empty()
            || self.has_deferred_work()
    }

    /// Prepares each call into the kernel.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        self.give_back_lent();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Collects what has completed, and has the kernel complete what it has deferred. `has_run_deferred` says that the
    /// last call has already done so, as far as one call does.
    pub(super) fn collect_all(&mut self, has_run_deferred: bool) -> io::Result<()> {
        let mut collected = self.collect();
        // Since Linux 6.13 a call runs 20 pieces of deferred work, or as many as it waits for. To wait for many with
        // a timeout of zero would run all of them in one call, and would make the kernel set a timer and sleep until
        // it fires, which costs more than some calls that wait for nothing. What had overflowed is flushed by the
        // same call, for which there is room now.
        let mut has_more = match has_run_deferred {
            true => collected >= DEFERRED_WORK_A_CALL || self.ring.submission().cq_overflow(),
            false => self.has_deferred_work(),
        };
        while has_more && self.collected.len() < COLLECTED_MAX {
            self.submit_and_run_deferred()?;
            collected = self.collect();
            has_more =
                collected >= DEFERRED_WORK_A_CALL || collected > 0 && self.ring.submission().cq_overflow();
        }
        self.settle_sends();
        Ok(())
    }

    pub(super) fn has_nothing_to_report(&self) -> bool {
        self.collected.is_empty() && self.closed.is_empty() && self.sent.is_empty()
    }

    /// True when the kernel may have completions that it makes only when it is entered, or has no room for. It does not
    /// take its word back for work that was added and done within one call, so it is asked once.
    pub(super) fn has_deferred_work(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Submits all queued operations, and waits for so many completions or until the time is up.
    pub(super) fn submit_and_wait_for(
        &mut self,
        completions: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let timespec =
            timeout.map(|timeout| types::Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        let args = types::SubmitArgs::new();
        let args = timespec.as_ref().map_or(args, |timespec| args.timespec(timespec));
        let flags = match self.features.has(Feature::NoIowait) {
            true => EnterFlags::NO_IOWAIT,
            false => EnterFlags::empty(),
        };
        match self.ring.submitter().submit_with_args_and_flags(completions, &args, flags) {
            Err(error) if !is_passing(&error) && error.raw_os_error() != Some(libc::ETIME) => Err(error),
            _ => Ok(()),
        }
    }

    /// # Safety
    ///
    /// All memory that the entry points at stays valid, and unchanged where the kernel reads it, until the
    /// entry's last completion.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        self.counts.submissions += 1;
        loop {
            // SAFETY: passed on to our caller.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full: let the kernel take it, and make room for what completes meanwhile.
            if let Err(error) = self.flush_submissions() {
                // The ring is unusable; the next `enter` reports it.
                self.failure = Some(error);
                return;
            }
            self.collect();
        }
    }

    pub(super) fn flush_submissions(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.submit_and_run_deferred() }
    }

    /// Submits all queued operations, and lets the kernel do some of its deferred work.
    pub(super) fn submit_and_run_deferred(&mut self) -> io::Result<()> {
        match self.ring.submit() {
            Ok(_) => Ok(()),
            // EBUSY: completions must be collected first, which every caller does next.
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Collects the completion queue. Returns the number of completions.
    pub(super) fn collect(&mut self) -> usize {
        let before = self.collected.len();
        self.collected.extend(self.ring.completion().map(|entry| RawCompletion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        let collected = self.collected.len() - before;
        self.counts.completions += collected as u64;
        if self.unsettled.is_empty() {
            return collected;
        }
        for place in before..self.collected.len() {
            if let (Operation::Send, id) = token::unpack(self.collected[place].token)
                && let Some(send) = self.live_slot(id).and_then(|slot| slot.send.as_mut())
            {
                send.kind = SendKind::Ended;
                self.has_completed_sends = true;
            }
        }
        collected
    }
}

/// Errors of `io_uring_enter(2)` after which the same call may succeed.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}
