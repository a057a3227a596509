//! The bans and mutes of a server, shared by its threads.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::bans::{Ban, BanId, Bans};
use super::terms::{Term, Terms};
use super::{Admin, BanSubject, MuteSubject, NewBan, OrderRefusal};
use crate::address::{AddressRange, network};
use crate::rooms::{Page, UserId};

/// The most bans, and the most mutes: with a name and a reason each, some 20 MB; with the longest, 80 MB. Only admins
/// add them.
pub const TERMS_MAX: usize = 65_536;

/// The most bans of one list.
pub const LISTED_MAX: usize = 500;

/// The most characters of a reason that are kept for the list.
const REASON_CHARACTERS_MAX: usize = 200;

/// A mute of an account, a session or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MuteTerm {
    /// Its last second, in Unix seconds.
    pub until: u64,
    /// The network that was muted together with this session.
    pub network: Option<IpAddr>,
}

impl Term for MuteTerm {
    fn last_second(&self) -> Option<u64> {
        Some(self.until)
    }
}

/// What [`Moderation::mute`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Muted {
    /// The last second of the mute, in Unix seconds.
    pub until: u64,
    /// The network where the user was muted before, if clients from there are no longer muted.
    pub lifted: Option<IpAddr>,
}

/// A user as mutes know it.
#[derive(Clone, Copy, Debug)]
pub struct ModeratedUser<'a> {
    /// The account with which it has signed in.
    pub account: Option<&'a str>,
    /// The account of the session with which it has come back. It counts while the user has not signed in.
    pub owner: Option<&'a str>,
    /// Its id.
    pub user: UserId,
    /// Its address.
    pub address: IpAddr,
}

impl ModeratedUser<'_> {
    /// Everything by which it may be muted.
    pub fn subjects(self) -> impl Iterator<Item = MuteSubject> {
        let own = [MuteSubject::Session(self.user), MuteSubject::Address(network(self.address))];
        self.account_subject().into_iter().chain(own)
    }

    fn account_subject(self) -> Option<MuteSubject> {
        self.account.or(self.owner).map(|account| MuteSubject::Account(account.into()))
    }
}

/// How long a user is muted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mute {
    /// The last second of it, in Unix seconds; 0 where it is not muted.
    pub until: u64,
    /// True when it is so only because of its address.
    pub is_of_address: bool,
}

impl Mute {
    /// Whether it holds at this time, in Unix seconds.
    #[must_use]
    pub fn holds(self, now: u64) -> bool {
        self.until > 0 && now <= self.until
    }

    /// The seconds that are left, at least 1.
    #[must_use]
    pub fn seconds_left(self, now: u64) -> u32 {
        u32::try_from(self.until.saturating_sub(now)).unwrap_or(u32::MAX).max(1)
    }
}

/// The bans and mutes that outlive the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredTerms {
    /// The bans.
    pub bans: Vec<(BanSubject, Ban)>,
    /// The last id that was given to a ban.
    pub last_ban: BanId,
    /// The mutes.
    pub mutes: Vec<(MuteSubject, MuteTerm)>,
}

/// A part of the list of bans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BansPage {
    /// The bans.
    pub listed: Vec<(BanSubject, Ban)>,
    /// How many there are in all.
    pub total: usize,
}

/// The bans and mutes in force. Clones share them. Times are Unix seconds.
///
/// The default has none, and trusts no proxy.
#[derive(Clone, Debug, Default)]
pub struct Moderation(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Their addresses stand for clients that they do not tell an address of, and are neither banned nor muted.
    trusted_proxies: Vec<AddressRange>,
    register: RwLock<Register>,
}

#[derive(Debug)]
struct Register {
    bans: Bans,
    mutes: Terms<MuteSubject, MuteTerm>,
}

impl Default for Register {
    fn default() -> Self {
        Self { bans: Bans::new(TERMS_MAX), mutes: Terms::new(TERMS_MAX) }
    }
}

impl Register {
    fn purge(&mut self, now: u64) {
        self.bans.purge(now);
        while self.mutes.pop_ended(now).is_some() {}
    }

    /// The network whose mute came with that of this session, and not with a longer one of another user.
    fn network_muted_with(&self, session: &MuteSubject) -> Option<IpAddr> {
        let MuteTerm { until, network } = *self.mutes.find(session)?;
        let of_network = self.mutes.find(&MuteSubject::Address(network?))?;
        network.filter(|_| of_network.until == until)
    }
}

impl Moderation {
    /// Neither bans nor mutes.
    #[must_use]
    pub fn new(trusted_proxies: Vec<AddressRange>) -> Self {
        Self(Arc::new(Shared { trusted_proxies, register: RwLock::default() }))
    }

    /// Bans an account or an address. A ban that is there is replaced.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::TrustedProxy`] or [`OrderRefusal::TooManyBans`].
    pub fn ban(&self, ban: &NewBan, by: &Admin, now: u64) -> Result<(), OrderRefusal> {
        let NewBan { subject, address, seconds, reason } = ban;
        // The address itself, and not the first one of its network.
        if let (BanSubject::Address(_), Some(address)) = (subject, address)
            && self.is_trusted_proxy(*address)
        {
            return Err(OrderRefusal::TrustedProxy);
        }
        let until = if *seconds == 0 { 0 } else { now + u64::from(*seconds) };
        let reason = shortened(reason.as_deref().unwrap_or_default());
        let mut register = self.write(now);
        let ban = Ban { id: register.bans.id_for(subject), until, reason, by: by.label(), since: now };
        register.bans.insert(subject.clone(), ban).map_err(|_| OrderRefusal::TooManyBans)
    }

    /// Ends a ban.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::UnknownBan`].
    pub fn unban(&self, subject: &BanSubject, now: u64) -> Result<(), OrderRefusal> {
        self.write(now).bans.remove(subject).then_some(()).ok_or(OrderRefusal::UnknownBan)
    }

    /// Ends the ban with this id, and returns its subject.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::UnknownBan`].
    pub fn unban_by_id(&self, id: BanId, now: u64) -> Result<BanSubject, OrderRefusal> {
        let mut register = self.write(now);
        let subject = register.bans.subject(id).ok_or(OrderRefusal::UnknownBan)?.clone();
        register.bans.remove(&subject);
        Ok(subject)
    }

    /// Whether a client may not connect: its account is banned; or, if it has shown none, its address.
    #[must_use]
    pub fn is_banned(&self, account: Option<&str>, address: IpAddr, now: u64) -> bool {
        let subject = match account {
            Some(account) => BanSubject::Account(account.into()),
            None if self.is_trusted_proxy(address) => return false,
            None => BanSubject::address(address),
        };
        self.read().bans.get(&subject, now).is_some()
    }

    /// The bans in force, without the first `offset`, in the order of their subjects. At most [`LISTED_MAX`].
    #[must_use]
    pub fn bans(&self, page: Page, now: u64) -> BansPage {
        let register = self.read();
        let in_force = register.bans.in_force(now).skip(page.offset).take(page.limit.min(LISTED_MAX));
        let listed = in_force.map(|(subject, ban)| (subject.clone(), ban.clone())).collect();
        BansPage { listed, total: register.bans.count(now) }
    }

    /// At most `limit` bans in force behind this id, by id.
    #[must_use]
    pub fn bans_after(&self, after: Option<BanId>, limit: usize, now: u64) -> Vec<(BanSubject, Ban)> {
        let register = self.read();
        let listed = register.bans.after(after).filter(|(_, ban)| ban.holds(now)).take(limit);
        listed.map(|(subject, ban)| (subject.clone(), ban.clone())).collect()
    }

    /// The ban of an account, and the last second of its mute in Unix seconds.
    #[must_use]
    pub fn terms_of_account(&self, account: &Arc<str>, now: u64) -> (Option<Ban>, Option<u64>) {
        let register = self.read();
        let ban = register.bans.get(&BanSubject::Account(Arc::clone(account)), now).cloned();
        let mute = register.mutes.get(&MuteSubject::Account(Arc::clone(account)), now);
        (ban, mute.map(|term| term.until))
    }

    /// Mutes an account. Returns the last second of the mute, in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::TooManyMutes`].
    pub fn mute_account(&self, account: &Arc<str>, seconds: u32, now: u64) -> Result<u64, OrderRefusal> {
        let until = now + u64::from(seconds);
        let muted = (MuteSubject::Account(Arc::clone(account)), MuteTerm { until, network: None });
        self.write(now).mutes.insert([muted]).map(|()| until).map_err(|_| OrderRefusal::TooManyMutes)
    }

    /// Ends the mute of an account.
    pub fn unmute_account(&self, account: &Arc<str>, now: u64) {
        self.write(now).mutes.remove(&MuteSubject::Account(Arc::clone(account)));
    }

    /// Mutes a user: its account; or, if it has none, its session and those who come later from its address. A longer mute
    /// of that address, which came with another user, stays.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::TooManyMutes`].
    pub fn mute(&self, target: ModeratedUser<'_>, seconds: u32, now: u64) -> Result<Muted, OrderRefusal> {
        let until = now + u64::from(seconds);
        let ModeratedUser { account, user, address, .. } = target;
        let mut register = self.write(now);
        let too_many = |_| OrderRefusal::TooManyMutes;
        if let Some(account) = account {
            let muted = (MuteSubject::Account(account.into()), MuteTerm { until, network: None });
            register.mutes.insert([muted]).map_err(too_many)?;
            return Ok(Muted { until, lifted: None });
        }
        let session = MuteSubject::Session(user);
        // The last mute of this user counts, also for the address that was muted with it.
        let own_before = register.network_muted_with(&session);
        let network = (!self.is_trusted_proxy(address)).then(|| network(address));
        let muted = (session, MuteTerm { until, network });
        match network.map(MuteSubject::Address) {
            None => register.mutes.insert([muted]),
            Some(address) => {
                let of_others = register.mutes.find(&address).filter(|_| own_before != network);
                let until = until.max(of_others.map_or(0, |term| term.until));
                register.mutes.insert([muted, (address, MuteTerm { until, network: None })])
            }
        }
        .map_err(too_many)?;
        let lifted = own_before.filter(|before| network != Some(*before));
        let lifted = lifted.filter(|before| register.mutes.remove(&MuteSubject::Address(*before)));
        Ok(Muted { until, lifted })
    }

    /// Ends every mute of a user: of its account, of its session, of the address that was muted with the session, and, if
    /// it has no account, of its present address. Returns the networks from where clients are no longer muted.
    #[must_use]
    pub fn unmute(&self, target: ModeratedUser<'_>, now: u64) -> Vec<IpAddr> {
        let ModeratedUser { account, user, address, .. } = target;
        let mut register = self.write(now);
        if let Some(account) = target.account_subject() {
            register.mutes.remove(&account);
        }
        let session = register.mutes.take(&MuteSubject::Session(user));
        let muted_with = session.and_then(|session| session.network);
        let present = account.is_none().then(|| network(address));
        let networks = muted_with.into_iter().chain(present);
        networks.filter(|network| register.mutes.remove(&MuteSubject::Address(*network))).collect()
    }

    /// How long a user is muted who comes now or has just signed in.
    #[must_use]
    pub fn mute_of(&self, user: ModeratedUser<'_>, now: u64) -> Mute {
        let of_account = user.account_subject();
        let ModeratedUser { account, user, address, .. } = user;
        let register = self.read();
        let until = |subject| register.mutes.get(&subject, now).map_or(0, |term| term.until);
        let of_account = of_account.map_or(0, until);
        let own = of_account.max(until(MuteSubject::Session(user)));
        if own > 0 || account.is_some() {
            return Mute { until: own, is_of_address: false };
        }
        let of_address = until(MuteSubject::Address(network(address)));
        Mute { until: of_address, is_of_address: of_address > 0 }
    }

    /// Whether clients are muted that come from this address without signing in.
    #[must_use]
    pub fn is_address_muted(&self, address: IpAddr, now: u64) -> bool {
        self.read().mutes.get(&MuteSubject::Address(network(address)), now).is_some()
    }

    /// A ban, to be stored.
    #[must_use]
    pub fn stored_ban(&self, subject: &BanSubject) -> Option<Ban> {
        self.read().bans.find(subject).cloned()
    }

    /// The last id that was given to a ban, to be stored.
    #[must_use]
    pub fn last_ban(&self) -> BanId {
        self.read().bans.last_id()
    }

    /// A mute, to be stored.
    #[must_use]
    pub fn stored_mute(&self, subject: &MuteSubject) -> Option<MuteTerm> {
        self.read().mutes.find(subject).copied()
    }

    /// All bans and mutes, to be stored.
    #[must_use]
    pub fn stored(&self) -> StoredTerms {
        let register = self.read();
        StoredTerms {
            bans: register.bans.iter().map(|(subject, ban)| (subject.clone(), ban.clone())).collect(),
            last_ban: register.bans.last_id(),
            mutes: register.mutes.iter().map(|(subject, term)| (subject.clone(), *term)).collect(),
        }
    }

    /// Takes over the bans and mutes of an earlier life of the server. Returns how many there is no room for.
    pub fn restore(&self, stored: &StoredTerms, now: u64) -> usize {
        let mut register = self.write(now);
        let register = &mut *register;
        register.bans.continue_after(stored.last_ban);
        let bans = stored.bans.iter().cloned();
        let left_out = bans.filter_map(|(subject, ban)| register.bans.insert(subject, ban).err()).count();
        let mutes = stored.mutes.iter().filter(|one| register.mutes.insert([(*one).clone()]).is_err());
        left_out + mutes.count()
    }

    fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.0.trusted_proxies.iter().any(|range| range.contains(address))
    }

    /// A thread that has panicked has ended the server, so what it left behind no longer matters.
    fn read(&self) -> RwLockReadGuard<'_, Register> {
        self.0.register.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the register for a change, without terms that have ended.
    fn write(&self, now: u64) -> RwLockWriteGuard<'_, Register> {
        let mut register = self.0.register.write().unwrap_or_else(PoisonError::into_inner);
        register.purge(now);
        register
    }
}

fn shortened(reason: &str) -> Arc<str> {
    match reason.char_indices().nth(REASON_CHARACTERS_MAX) {
        None => reason.into(),
        Some((end, _)) => format!("{}…", &reason[..end]).into(),
    }
}
