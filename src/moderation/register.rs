//! The bans and mutes of a server, shared by its threads.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::bans::{Ban, BanId, Bans};
use super::change::MuteTerm;
use super::terms::{Term as _, Terms};
use super::{Admin, BanSubject, MuteSubject, NewBan, OrderRefusal, TermsChange};
use crate::address::{AddressRange, network};
use crate::rooms::{Page, UserId};

/// The most bans, and the most mutes: with a name and a reason each, some 20 MB; with the longest, 80 MB. Only admins
/// add them.
pub const TERMS_MAX: usize = 65_536;

/// The most bans of one list.
pub const LISTED_MAX: usize = 500;

/// The most characters of a reason that are kept for the list.
const REASON_CHARACTERS_MAX: usize = 200;

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

    /// A change of mutes, for which there must be room.
    fn mute(
        &self,
        mutes: impl IntoIterator<Item = (MuteSubject, Option<MuteTerm>)>,
    ) -> Result<TermsChange, OrderRefusal> {
        let change = TermsChange::of_mutes(mutes);
        let added = change.mutes.iter().filter(|(_, term)| term.is_some()).map(|(subject, _)| subject);
        if self.mutes.is_full_for(added) { Err(OrderRefusal::TooManyMutes) } else { Ok(change) }
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

    /// Puts a change in force. Returns how many bans and mutes there is no room for.
    pub fn apply(&self, change: &TermsChange, now: u64) -> usize {
        let mut register = self.write(now);
        let register = &mut *register;
        let mut left_out = 0;
        for (subject, ban) in change.bans.iter().cloned() {
            match ban {
                Some(ban) => left_out += usize::from(register.bans.insert(subject, ban).is_err()),
                None => drop(register.bans.remove(&subject)),
            }
        }
        for (subject, term) in change.mutes.iter().cloned() {
            match term {
                Some(term) => left_out += usize::from(register.mutes.insert([(subject, term)]).is_err()),
                None => drop(register.mutes.remove(&subject)),
            }
        }
        left_out
    }

    /// What bans an account or an address. A ban that is there is replaced.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::TrustedProxy`] or [`OrderRefusal::TooManyBans`].
    pub fn ban(&self, ban: &NewBan, by: &Admin, now: u64) -> Result<TermsChange, OrderRefusal> {
        let NewBan { subject, address, seconds, reason } = ban;
        // The address itself, and not the first one of its network.
        if let (BanSubject::Address(_), Some(address)) = (subject, address)
            && self.is_trusted_proxy(*address)
        {
            return Err(OrderRefusal::TrustedProxy);
        }
        let until = if *seconds == 0 { 0 } else { now + u64::from(*seconds) };
        let reason = shortened(reason.as_deref().unwrap_or_default());
        let register = self.write(now);
        if register.bans.is_full_for(subject) {
            return Err(OrderRefusal::TooManyBans);
        }
        let id = register.bans.find(subject).map_or(BanId::NONE, |present| present.id);
        let ban = Ban { id, until, reason, by: by.label(), since: now };
        Ok(TermsChange::of_ban(subject.clone(), Some(ban)))
    }

    /// What ends a ban.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::UnknownBan`].
    pub fn unban(&self, subject: &BanSubject, now: u64) -> Result<TermsChange, OrderRefusal> {
        let register = self.read();
        register.bans.get(subject, now).ok_or(OrderRefusal::UnknownBan)?;
        Ok(TermsChange::of_ban(subject.clone(), None))
    }

    /// The subject of the ban with this id.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::UnknownBan`].
    pub fn subject_of(&self, id: BanId, now: u64) -> Result<BanSubject, OrderRefusal> {
        let register = self.write(now);
        register.bans.subject(id).cloned().ok_or(OrderRefusal::UnknownBan)
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

    /// What mutes an account, and the last second of the mute, in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::TooManyMutes`].
    pub fn mute_account(
        &self,
        account: &Arc<str>,
        seconds: u32,
        now: u64,
    ) -> Result<(u64, TermsChange), OrderRefusal> {
        let until = now + u64::from(seconds);
        let muted = (MuteSubject::Account(Arc::clone(account)), Some(MuteTerm { until, network: None }));
        Ok((until, self.write(now).mute([muted])?))
    }

    /// What ends the mute of an account.
    #[must_use]
    pub fn unmute_account(account: &Arc<str>) -> TermsChange {
        TermsChange::of_mutes([(MuteSubject::Account(Arc::clone(account)), None)])
    }

    /// What mutes a user: its account; or, if it has none, its session and those who come later from its address. A longer
    /// mute of that address, which came with another user, stays.
    ///
    /// # Errors
    ///
    /// [`OrderRefusal::TooManyMutes`].
    pub fn mute(
        &self,
        target: ModeratedUser<'_>,
        seconds: u32,
        now: u64,
    ) -> Result<(Muted, TermsChange), OrderRefusal> {
        let ModeratedUser { account, user, address, .. } = target;
        if let Some(account) = account {
            let (until, change) = self.mute_account(&account.into(), seconds, now)?;
            return Ok((Muted { until, lifted: None }, change));
        }
        let until = now + u64::from(seconds);
        let register = self.write(now);
        let session = MuteSubject::Session(user);
        // The last mute of this user counts, also for the address that was muted with it.
        let own_before = register.network_muted_with(&session);
        let network = (!self.is_trusted_proxy(address)).then(|| network(address));
        let of_address = network.map(|network| {
            let address = MuteSubject::Address(network);
            let of_others = register.mutes.find(&address).filter(|_| own_before != Some(network));
            let until = until.max(of_others.map_or(0, |term| term.until));
            (address, Some(MuteTerm { until, network: None }))
        });
        let lifted = own_before.filter(|before| network != Some(*before));
        let ended = lifted.map(|before| (MuteSubject::Address(before), None));
        let muted = (session, Some(MuteTerm { until, network }));
        let change = register.mute([muted].into_iter().chain(of_address).chain(ended))?;
        Ok((Muted { until, lifted }, change))
    }

    /// What ends every mute of a user: of its account, of its session, of the address that was muted with the session, and,
    /// if it has no account, of its present address. Also the networks from where clients are no longer muted.
    #[must_use]
    pub fn unmute(&self, target: ModeratedUser<'_>, now: u64) -> (Vec<IpAddr>, TermsChange) {
        let ModeratedUser { account, user, address, .. } = target;
        let register = self.write(now);
        let session = MuteSubject::Session(user);
        let muted_with = register.mutes.find(&session).and_then(|session| session.network);
        let present = (account.is_none()).then(|| network(address)).filter(|it| muted_with != Some(*it));
        let networks = muted_with.into_iter().chain(present);
        let is_muted = |network: &IpAddr| register.mutes.find(&MuteSubject::Address(*network)).is_some();
        let lifted: Vec<_> = networks.filter(is_muted).collect();
        let addresses = lifted.iter().copied().map(MuteSubject::Address);
        let ended = target.account_subject().into_iter().chain([session]).chain(addresses);
        let change = TermsChange::of_mutes(ended.map(|subject| (subject, None)));
        (lifted, change)
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
