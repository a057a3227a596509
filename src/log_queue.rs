//! A bounded queue of lines, and a thread that writes them to a descriptor.
//!
//! The reader of our output may stop reading: a paused terminal, or the log driver of a container. So threads that
//! serve clients do not write there. They put lines into the queue, and the thread writes all waiting lines with one
//! system call. When a mebibyte waits, further lines are dropped and counted.

use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The most bytes that wait, some 8,000 lines; as many more may be in the thread's write.
const BYTES_MAX: usize = 1 << 20;

/// The queue of the process's log, once there is one.
static LOG: OnceLock<LineQueue> = OnceLock::new();

/// Lines of the process's log that were dropped since its start; 0 for a process that logs elsewhere.
#[must_use]
pub fn lines_dropped() -> u64 {
    LOG.get().map_or(0, LineQueue::lines_dropped)
}

/// A queue of lines. A clone is another handle to the same queue.
#[derive(Clone, Debug)]
pub struct LineQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when the queue is no longer empty, and when everything is written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, at most [`BYTES_MAX`].
    waiting: Vec<u8>,
    waiting_lines: u64,
    /// True from when the thread has taken lines until they are written.
    is_writing: bool,
    dropped: u64,
    /// Dropped lines that have not been reported yet.
    untold: u64,
}

impl LineQueue {
    /// Starts the thread. After lines were dropped, and when lines can be written again, it calls `report_dropped`
    /// with their number; a line that this pushes appears in their place.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(
        name: &str,
        to: BorrowedFd<'static>,
        report_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let thread_queue = queue.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || thread_queue.run(to, report_dropped))?;
        Ok(queue)
    }

    /// Makes this the queue of the process's log, if there is none yet.
    pub fn set_as_process_log(&self) {
        let _ = LOG.set(self.clone());
    }

    /// Appends a line, with its line break, or drops and counts it. Never blocks.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > BYTES_MAX {
            state.drop_lines(1);
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        state.waiting_lines += 1;
        drop(state);
        if was_empty {
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything is written, at most for this time. False when lines are left.
    pub fn flush(&self, time_max: Duration) -> bool {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(self.lock(), time_max, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Lines that were dropped since the start.
    #[must_use]
    pub fn lines_dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn run(self, to: BorrowedFd<'static>, report_dropped: impl Fn(u64)) {
        let mut batch = Vec::new();
        let mut has_failed = false;
        loop {
            batch.clear();
            let lines = self.take(&mut batch);
            // Lines were dropped because these filled the queue, so the gap is right after them. After a failed
            // write, a report would fail, too, and be dropped itself.
            let untold = if has_failed { 0 } else { mem::take(&mut self.lock().untold) };
            if untold > 0 {
                report_dropped(untold);
            }
            has_failed = write_all(to, &batch).is_err();
            if has_failed {
                self.lock().drop_lines(lines);
            }
        }
    }

    /// Waits for lines, and takes all of them. Returns their number.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        state.is_writing = false;
        if state.waiting.is_empty() {
            self.0.changed.notify_all();
            let has_none = |state: &mut State| state.waiting.is_empty();
            state = self.0.changed.wait_while(state, has_none).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        mem::swap(batch, &mut state.waiting);
        mem::take(&mut state.waiting_lines)
    }

    /// The state is right after every statement, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_lines(&mut self, lines: u64) {
        self.dropped += lines;
        self.untold += lines;
    }
}

/// `tracing_subscriber` gives a line to one call of `write_all`.
impl io::Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As [`io::Write::write_all`], also for a descriptor with `O_NONBLOCK`, which any process that shares the terminal
/// or pipe may have set.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::sync::mpsc;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A pipe that nobody has read yet, a queue into it, and the gaps of which the queue tells.
    fn queue(flags: PipeFlags) -> (File, LineQueue, mpsc::Receiver<u64>) {
        let (reader, writer) = pipe_with(flags).unwrap();
        // A thread writes to it until the process ends.
        let writer: &'static File = Box::leak(Box::new(writer.into()));
        let (gap, gaps) = mpsc::channel();
        let report_dropped = move |lines| {
            let _ = gap.send(lines);
        };
        let queue = LineQueue::start("test", writer.as_fd(), report_dropped).unwrap();
        (reader.into(), queue, gaps)
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number:099}\n").into_bytes()
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (mut reader, queue, _gaps) = queue(PipeFlags::empty());
        for number in 0..100 {
            queue.push(&line(number));
        }
        assert!(queue.flush(LONG));
        let mut read = vec![0; 10_000];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, (0..100).flat_map(line).collect::<Vec<_>>());
        assert_eq!(queue.lines_dropped(), 0);
    }

    #[test]
    fn a_reader_that_stalls_holds_up_nobody_and_is_told_how_many_lines_it_missed() {
        for flags in [PipeFlags::empty(), PipeFlags::NONBLOCK] {
            let (mut reader, queue, gaps) = queue(flags);
            // More than the pipe, a batch under way and the queue have room for.
            let count = 3 * BYTES_MAX / 100;
            for number in 0..count {
                queue.push(&line(number));
            }
            let dropped = queue.lines_dropped();
            assert!(dropped > 0);
            assert!(!queue.flush(Duration::from_millis(1)), "nothing can be written");

            rustix::io::ioctl_fionbio(&reader, false).unwrap();
            let mut read = vec![0; (count - dropped as usize) * 100];
            reader.read_exact(&mut read).unwrap();
            for (number, found) in read.chunks(100).enumerate().take(1_000) {
                assert_eq!(found, line(number), "the oldest are kept");
            }
            // In several parts, where the thread took some lines while others were still dropped.
            let mut told = 0;
            while told < dropped {
                told += gaps.recv_timeout(LONG).unwrap();
            }
            assert_eq!(told, dropped);
            assert!(queue.flush(LONG));
            queue.push(&line(0));
            assert!(queue.flush(LONG));
            assert_eq!(queue.lines_dropped(), dropped);
            assert!(gaps.try_recv().is_err(), "it is told once");
        }
    }

    #[test]
    fn lines_for_a_reader_that_is_gone_are_counted() {
        let (reader, queue, gaps) = queue(PipeFlags::empty());
        drop(reader);
        for number in 0..3 {
            queue.push(&line(number));
        }
        assert!(queue.flush(LONG));
        assert_eq!(queue.lines_dropped(), 3);
        assert!(gaps.try_recv().is_err());
    }
}
