//! Verifies passwords and watches the file of accounts, on a thread of its own, since a hash takes as long as tens of
//! thousands of messages.
//!
//! Attempts come through one bounded queue from all shards, and are checked in order. An unknown name takes as much
//! time as a wrong password, so the time does not reveal which names exist. No address can take more than an eighth
//! of the queue, so none keeps the others out. Before each attempt, and
//! four times a second, the thread looks whether `uproar user` has changed the file. Failed attempts are logged, at most one a second; passwords never are.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::log_limit::LogLimit;
use tracing::{error, info, warn};

use super::attempts_in_flight::{AttemptPermit, AttemptsInFlight};
use super::failed_attempts::FailedAttempts;
use super::{AccountsChange, Identity, KnownAccounts, Password};
use crate::log_text::shown;

/// Attempts that may wait: five seconds' worth at 20 ms each. When the queue is full, clients get an error.
const QUEUE_ATTEMPTS_MAX: usize = 256;

/// How often the file of accounts is looked at: a change must reach its sessions within a second, and looking costs a few
/// system calls.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// The nice value of the thread (setpriority(2)): on a busy core, its share is a tenth of a shard's.
const NICENESS: i32 = 10;

/// A name and a password, as a client has sent them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name, unchecked.
    pub username: String,
    /// The password.
    pub password: Password,
}

impl fmt::Debug for Credentials {
    /// Users type passwords into the wrong field, so the name is shown only when an attempt fails.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// An attempt to sign in.
#[derive(Debug)]
pub struct Attempt<T> {
    /// Returned with the result.
    pub ticket: T,
    /// The client's address.
    pub address: IpAddr,
    /// The name and the password.
    pub credentials: Credentials,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInResult {
    /// The credentials are right.
    Granted(Identity),
    /// The name or the password is wrong, or the address has failed too often.
    Denied,
    /// Too many attempts wait, in all or of this address, or the accounts cannot be read.
    Unavailable,
}

/// What the thread reports.
#[derive(Debug)]
pub enum VerifierReport<T> {
    /// The result of the attempt with this ticket.
    Checked(T, SignInResult),
    /// The accounts have changed. Results that are reported later are of the changed accounts.
    Changed(AccountsChange),
}

/// A handle to the thread, which ends when the last handle is dropped.
#[derive(Debug)]
pub struct Verifier<T> {
    queue: SyncSender<(Attempt<T>, AttemptPermit)>,
    in_flight: AttemptsInFlight,
}

impl<T> Clone for Verifier<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), in_flight: self.in_flight.clone() }
    }
}

impl<T: Send + 'static> Verifier<T> {
    /// Starts the thread. It calls `report` with each result and each change; while that blocks, other attempts wait.
    /// When it returns `Break`, the thread ends.
    ///
    /// # Errors
    ///
    /// When no thread can be started, or no password can be hashed.
    pub fn start(
        accounts: KnownAccounts,
        report: impl FnMut(VerifierReport<T>) -> ControlFlow<()> + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let nobodys_hash = Password::new("nobody's".to_owned()).hash().map_err(io::Error::other)?;
        let checker = PasswordChecker {
            accounts,
            is_current: true,
            attempts: FailedAttempts::new(),
            nobodys_hash,
            started: Instant::now(),
        };
        let (queue, attempts) = sync_channel(QUEUE_ATTEMPTS_MAX);
        let thread = thread::Builder::new().name("verifier".to_owned());
        let thread = thread.spawn(move || run(&attempts, checker, report))?;
        Ok((Self { queue, in_flight: AttemptsInFlight::default() }, thread))
    }

    /// Hands an attempt over; its result follows. False, without a result, when too many attempts wait, in all or of
    /// this address, or when the thread has ended.
    #[must_use]
    pub fn submit(&self, attempt: Attempt<T>) -> bool {
        let Some(place) = self.in_flight.begin(attempt.address) else { return false };
        match self.queue.try_send((attempt, place)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

/// The thread.
fn run<T>(
    queue: &Receiver<(Attempt<T>, AttemptPermit)>,
    mut checker: impl Checker,
    mut report: impl FnMut(VerifierReport<T>) -> ControlFlow<()>,
) {
    // On Linux this sets the priority of the calling thread alone (setpriority(2), "C library/kernel differences").
    // If it fails, passwords are verified nevertheless.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        warn!(%error, "the password verifier runs at the priority of the shards");
    }
    loop {
        let attempt = match queue.recv_timeout(WATCH_EVERY) {
            Ok(attempt) => Some(attempt),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Some(change) = guarded(|| checker.refresh()).flatten()
            && report(VerifierReport::Changed(change)).is_break()
        {
            return;
        }
        let Some((Attempt { ticket, address, credentials }, place)) = attempt else { continue };
        let result = guarded(|| checker.check(address, &credentials)).unwrap_or(SignInResult::Unavailable);
        // A client that has its result may try again.
        drop(place);
        if report(VerifierReport::Checked(ticket, result)).is_break() {
            return;
        }
    }
}

/// Runs a part of the thread's work; `None` when it panics. A bug must not leave the other clients without an answer. The
/// checker changes its counts last, so they are still valid after a panic.
fn guarded<R>(work: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(work));
    result.inspect_err(|_| error!("Bug: the password verifier has panicked; please report it")).ok()
}

/// The work of the thread.
trait Checker {
    /// What has changed in the accounts since the last call.
    fn refresh(&mut self) -> Option<AccountsChange>;

    /// Checks an attempt against the accounts as they were at the last refresh.
    fn check(&mut self, address: IpAddr, credentials: &Credentials) -> SignInResult;
}

/// Logs a failed sign-in with this name, at most once a second.
pub(crate) fn log_denial(username: &str, address: IpAddr, reason: &'static str) {
    static DENIED: LogLimit = LogLimit::new();
    if let Some(left_out) = DENIED.allow() {
        info!(account = shown(username), %address, reason, left_out, "sign-in failed");
    }
}

/// Accounts that could not be read.
static UNREADABLE: LogLimit = LogLimit::new();

/// Checks credentials against the accounts.
struct PasswordChecker {
    accounts: KnownAccounts,
    /// True when the last refresh has succeeded.
    is_current: bool,
    attempts: FailedAttempts,
    /// The hash that a password is compared with if the name is unknown.
    nobodys_hash: String,
    started: Instant,
}

impl Checker for PasswordChecker {
    fn refresh(&mut self) -> Option<AccountsChange> {
        let refreshed = self.accounts.refresh();
        self.is_current = refreshed.is_ok();
        refreshed.unwrap_or_else(|error| {
            if let Some(left_out) = UNREADABLE.allow() {
                error!(left_out, "users cannot sign in: {error}");
            }
            None
        })
    }

    fn check(&mut self, address: IpAddr, credentials: &Credentials) -> SignInResult {
        self.check_at(address, credentials, self.started.elapsed().as_millis() as u64)
    }
}

impl PasswordChecker {
    fn check_at(&mut self, address: IpAddr, credentials: &Credentials, now_ms: u64) -> SignInResult {
        let username = &credentials.username;
        if !self.attempts.allow(username, address, now_ms) {
            log_denial(username, address, "too many wrong attempts");
            return SignInResult::Denied;
        }
        if !self.is_current {
            return SignInResult::Unavailable;
        }
        let account = self.accounts.find(username);
        let hash = account.map_or(&self.nobodys_hash, |account| &account.password_hash);
        let is_behind = credentials.password.is_behind(hash);
        match account {
            Some(account) if is_behind == Some(true) => {
                let name: Arc<str> = account.name.as_str().into();
                let is_admin = account.is_admin;
                let rights = Arc::default();
                SignInResult::Granted(Identity { account: Arc::clone(&name), name, is_admin, rights })
            }
            Some(account) if is_behind.is_none() => {
                let name = &account.name;
                if let Some(left_out) = UNREADABLE.allow() {
                    error!(
                        left_out,
                        "the password of {name:?} is not readable; set it with uproar user passwd"
                    );
                }
                SignInResult::Unavailable
            }
            account => {
                self.attempts.note_failure(username, address, now_ms);
                let reason = if account.is_some() { "wrong password" } else { "unknown account" };
                log_denial(username, address, reason);
                SignInResult::Denied
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::attempts_in_flight::IN_FLIGHT_MAX;
    use super::super::{Account, AccountChange, AccountChangeKind, Accounts, failed_attempts};
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn credentials(username: &str, password: &str) -> Credentials {
        Credentials { username: username.to_owned(), password: Password::new(password.to_owned()) }
    }

    fn checker(directory: &tempfile::TempDir) -> PasswordChecker {
        let file = Accounts::open(directory.path()).unwrap();
        let password_hash = Password::new("secret".to_owned()).hash().unwrap();
        file.add(&Account { name: "Ann".into(), password_hash, is_admin: true }).unwrap();
        PasswordChecker {
            accounts: KnownAccounts::read(file).unwrap(),
            is_current: true,
            attempts: FailedAttempts::new(),
            nobodys_hash: Password::new("nobody's".to_owned()).hash().unwrap(),
            started: Instant::now(),
        }
    }

    #[test]
    fn the_right_pair_alone_is_granted() {
        let directory = tempfile::tempdir().unwrap();
        let mut checker = checker(&directory);
        let rights = Arc::default();
        let ann = Identity { account: "Ann".into(), name: "Ann".into(), is_admin: true, rights };
        let granted = SignInResult::Granted(ann);
        assert_eq!(checker.check_at(HERE, &credentials("Ann", "secret"), 0), granted);
        for (username, password) in [("Ann", "Secret"), ("ann", "secret"), ("Ben", "nobody's"), ("", "")] {
            assert_eq!(checker.check_at(HERE, &credentials(username, password), 0), SignInResult::Denied);
        }
    }

    #[test]
    fn a_change_counts_once_it_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let mut checker = checker(&directory);
        let beside = Accounts::open(directory.path()).unwrap();
        beside.set_password_hash("Ann", &Password::new("new".to_owned()).hash().unwrap()).unwrap();
        assert!(checker.refresh().is_some());
        assert_eq!(checker.check_at(HERE, &credentials("Ann", "secret"), 0), SignInResult::Denied);
        assert!(matches!(checker.check_at(HERE, &credentials("Ann", "new"), 0), SignInResult::Granted(_)));
        beside.remove("Ann").unwrap();
        assert!(checker.refresh().is_some());
        assert_eq!(checker.check_at(HERE, &credentials("Ann", "new"), 0), SignInResult::Denied);
    }

    #[test]
    fn an_account_is_closed_for_a_while_to_an_address_with_too_many_failures() {
        let directory = tempfile::tempdir().unwrap();
        let mut checker = checker(&directory);
        for _ in 0..failed_attempts::FOR_ACCOUNT.failures_max {
            assert!(matches!(
                checker.check_at(HERE, &credentials("Ann", "secret"), 0),
                SignInResult::Granted(_)
            ));
            assert_eq!(checker.check_at(HERE, &credentials("Ann", "guess"), 0), SignInResult::Denied);
        }
        assert_eq!(checker.check_at(HERE, &credentials("Ann", "secret"), 0), SignInResult::Denied);
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        let right = credentials("Ann", "secret");
        assert!(matches!(checker.check_at(elsewhere, &right, 0), SignInResult::Granted(_)));
        let later_ms = failed_attempts::FOR_ACCOUNT.forgiven_after_ms;
        assert!(matches!(checker.check_at(HERE, &right, later_ms), SignInResult::Granted(_)));
    }

    #[test]
    fn unreadable_accounts_do_not_count_as_failures() {
        let directory = tempfile::tempdir().unwrap();
        let mut checker = checker(&directory);
        let beside = Accounts::open(directory.path()).unwrap();
        beside.set_password_hash("Ann", "no hash").unwrap();
        assert!(checker.refresh().is_some());
        assert_eq!(checker.check_at(HERE, &credentials("Ann", "secret"), 0), SignInResult::Unavailable);
        let beside = rusqlite::Connection::open(directory.path().join("accounts.db")).unwrap();
        beside.execute_batch("DROP TABLE accounts").unwrap();
        assert!(checker.refresh().is_none());
        assert_eq!(checker.check_at(HERE, &credentials("Ann", "secret"), 0), SignInResult::Unavailable);
    }

    #[test]
    fn a_full_queue_says_so_and_the_rest_is_answered_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let PasswordChecker { accounts, .. } = checker(&directory);
        let (answer, answers) = mpsc::channel();
        let (hold, held) = mpsc::channel::<()>();
        let (verifier, thread) = Verifier::start(accounts, move |report| {
            let VerifierReport::Checked(ticket, result) = report else { panic!("{report:?}") };
            // The first answer waits until the queue is full behind it.
            let _ = held.recv();
            answer.send((ticket, result)).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
        // Each from a network of its own, since one has but a share of the queue.
        let attempt = |ticket: usize| Attempt {
            ticket,
            address: IpAddr::from((ticket as u32).to_be_bytes()),
            credentials: credentials("Ben", "guess"),
        };
        let taken = (0..).take_while(|&ticket| verifier.clone().submit(attempt(ticket))).count();
        // One more when the thread has taken the first already.
        assert!((QUEUE_ATTEMPTS_MAX..=QUEUE_ATTEMPTS_MAX + 1).contains(&taken), "{taken}");
        drop(hold);
        for ticket in 0..taken {
            let result = answers.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(result, (ticket, SignInResult::Denied));
        }
        drop(verifier);
        thread.join().unwrap();
    }

    #[test]
    fn one_address_leaves_room_for_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let PasswordChecker { accounts, .. } = checker(&directory);
        let (hold, held) = mpsc::channel::<()>();
        let (answer, answers) = mpsc::channel();
        let (verifier, thread) = Verifier::start(accounts, move |report| {
            let VerifierReport::Checked(ticket, _) = report else { panic!("{report:?}") };
            let _ = held.recv();
            answer.send(ticket).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
        let attempt = |ticket, address| Attempt { ticket, address, credentials: credentials("Ben", "guess") };
        let taken = (0..).take_while(|&ticket| verifier.submit(attempt(ticket, HERE))).count();
        // One more when the first one has been judged already.
        let share = IN_FLIGHT_MAX as usize;
        assert!((share..=share + 1).contains(&taken), "{taken}");
        assert!(verifier.submit(attempt(taken, IpAddr::from([192, 0, 2, 1]))));
        drop(hold);
        for ticket in 0..=taken {
            assert_eq!(answers.recv_timeout(Duration::from_secs(60)), Ok(ticket));
        }
        assert!(verifier.submit(attempt(0, HERE)));
        drop(verifier);
        thread.join().unwrap();
    }

    #[test]
    fn a_panic_is_answered_and_the_next_attempt_is_judged() {
        let (queue, attempts) = sync_channel(2);
        let in_flight = AttemptsInFlight::default();
        for username in ["panic", "Ben"] {
            let attempt = Attempt { ticket: username, address: HERE, credentials: credentials(username, "") };
            queue.send((attempt, in_flight.begin(HERE).unwrap())).unwrap();
        }
        drop(queue);
        struct Panicking;
        impl Checker for Panicking {
            fn refresh(&mut self) -> Option<AccountsChange> {
                panic!("as it should")
            }

            fn check(&mut self, _: IpAddr, credentials: &Credentials) -> SignInResult {
                assert_eq!(credentials.username, "Ben");
                SignInResult::Denied
            }
        }
        let mut answers = Vec::new();
        run(&attempts, Panicking, |report| {
            let VerifierReport::Checked(ticket, result) = report else { panic!("{report:?}") };
            answers.push((ticket, result));
            ControlFlow::Continue(())
        });
        assert_eq!(answers, [("panic", SignInResult::Unavailable), ("Ben", SignInResult::Denied)]);
    }

    #[test]
    fn a_change_is_reported_without_an_attempt() {
        let directory = tempfile::tempdir().unwrap();
        let PasswordChecker { accounts, .. } = checker(&directory);
        let (tell, told) = mpsc::channel();
        let (verifier, thread) = Verifier::<()>::start(accounts, move |report| {
            let VerifierReport::Changed(change) = report else { panic!("{report:?}") };
            tell.send(change.changed).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
        Accounts::open(directory.path()).unwrap().set_admin("Ann", false).unwrap();
        let changed = told.recv_timeout(Duration::from_secs(60)).unwrap();
        let kind = AccountChangeKind::RoleChanged { is_admin: false };
        assert_eq!(changed, [AccountChange { account: "Ann".into(), kind }]);
        drop(verifier);
        thread.join().unwrap();
    }

    #[test]
    fn the_thread_ends_when_nobody_listens() {
        let directory = tempfile::tempdir().unwrap();
        let PasswordChecker { accounts, .. } = checker(&directory);
        let (verifier, thread) = Verifier::start(accounts, |_| ControlFlow::Break(())).unwrap();
        let credentials = credentials("Ben", "guess");
        assert!(verifier.submit(Attempt { ticket: (), address: HERE, credentials: credentials.clone() }));
        thread.join().unwrap();
        assert!(!verifier.submit(Attempt { ticket: (), address: HERE, credentials }));
    }
}
