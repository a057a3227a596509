//! Bans and mutes as the log and Redis have them.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uproar_cluster::{Proposal, TermChange, TermKind, Terms};

use crate::moderation::{
    Ban, BanId, BanSubject, ModerationNotice, MuteSubject, MuteTerm, StoredTerms, TermsChange,
};
use crate::rooms::UserId;

/// A ban, beside its subject and its end. It has no id before the log has given it one.
#[derive(Serialize, Deserialize)]
struct BanValue {
    #[serde(default)]
    id: Option<u64>,
    reason: Arc<str>,
    by: Arc<str>,
    since: u64,
}

/// A mute, beside its subject and its end.
#[derive(Serialize, Deserialize)]
struct MuteValue {
    #[serde(default)]
    network: Option<IpAddr>,
}

/// The proposal that changes bans and mutes on all nodes.
pub(super) fn propose(change: &TermsChange, notices: &[ModerationNotice]) -> Proposal {
    let bans = change.bans.iter().map(|(subject, ban)| TermChange {
        kind: TermKind::Ban,
        subject: ban_key(subject),
        until: ban.as_ref().map_or(0, |ban| ban.until),
        value: ban.as_ref().map(|Ban { id, reason, by, since, .. }| {
            let id = Some(id.0).filter(|_| *id != BanId::NONE);
            json(&BanValue { id, reason: Arc::clone(reason), by: Arc::clone(by), since: *since })
        }),
    });
    let mutes = change.mutes.iter().map(|(subject, term)| TermChange {
        kind: TermKind::Mute,
        subject: mute_key(subject),
        until: term.map_or(0, |term| term.until),
        value: term.map(|MuteTerm { network, .. }| json(&MuteValue { network })),
    });
    let notices = postcard::to_allocvec(notices).expect("Bug: notices cannot be written");
    Proposal::Terms { changes: bans.chain(mutes).collect(), notices: notices.into() }
}

/// Reads what [`propose`] has written. New bans have this number as their id. What this version does not know is left out.
pub(super) fn read(changes: &[TermChange], number: u64) -> TermsChange {
    let mut change = TermsChange::default();
    for TermChange { kind, subject, until, value } in changes {
        let is_read = match kind {
            TermKind::Ban => {
                read_ban(subject, *until, value.as_deref(), number).map(|it| change.bans.push(it))
            }
            TermKind::Mute => read_mute(subject, *until, value.as_deref()).map(|it| change.mutes.push(it)),
        };
        if is_read.is_none() {
            warn!(%subject, "a ban or mute in the cluster's log cannot be read; is another version running?");
        }
    }
    change
}

/// What an order means for connections; nothing where this version cannot read it.
pub(super) fn read_notices(notices: &Bytes) -> Vec<ModerationNotice> {
    postcard::from_bytes(notices).unwrap_or_default()
}

/// All bans and mutes as the log has led to them.
pub(super) fn stored(terms: &Terms) -> StoredTerms {
    let mut stored = StoredTerms::default();
    for ((kind, subject), term) in terms {
        let change = TermChange {
            kind: *kind,
            subject: Arc::clone(subject),
            until: term.until,
            value: Some(Arc::clone(&term.value)),
        };
        let TermsChange { bans, mutes } = read(&[change], term.number);
        stored.bans.extend(bans.into_iter().filter_map(|(subject, ban)| Some((subject, ban?))));
        stored.mutes.extend(mutes.into_iter().filter_map(|(subject, term)| Some((subject, term?))));
    }
    stored
}

fn read_ban(
    subject: &str,
    until: u64,
    value: Option<&str>,
    number: u64,
) -> Option<(BanSubject, Option<Ban>)> {
    let (kind, name) = subject.split_once(':')?;
    let subject = match kind {
        "account" => BanSubject::account(name)?,
        "address" => BanSubject::parse_address(name)?,
        _ => return None,
    };
    let Some(value) = value else { return Some((subject, None)) };
    let BanValue { id, reason, by, since } = serde_json::from_str(value).ok()?;
    Some((subject, Some(Ban { id: BanId(id.unwrap_or(number)), until, reason, by, since })))
}

fn read_mute(subject: &str, until: u64, value: Option<&str>) -> Option<(MuteSubject, Option<MuteTerm>)> {
    let (kind, name) = subject.split_once(':')?;
    let subject = match kind {
        "account" => MuteSubject::Account(name.into()),
        "session" => MuteSubject::Session(UserId::from_wire(name.parse().ok()?)?),
        "address" => MuteSubject::Address(name.parse().ok()?),
        _ => return None,
    };
    let Some(value) = value else { return Some((subject, None)) };
    let MuteValue { network } = serde_json::from_str(value).ok()?;
    Some((subject, Some(MuteTerm { until, network })))
}

fn ban_key(subject: &BanSubject) -> Arc<str> {
    match subject {
        BanSubject::Account(account) => format!("account:{account}").into(),
        BanSubject::Address(address) => format!("address:{address}").into(),
    }
}

fn mute_key(subject: &MuteSubject) -> Arc<str> {
    match subject {
        MuteSubject::Account(account) => format!("account:{account}").into(),
        MuteSubject::Session(user) => format!("session:{user}").into(),
        MuteSubject::Address(address) => format!("address:{address}").into(),
    }
}

fn json(value: &impl Serialize) -> Arc<str> {
    serde_json::to_string(value).expect("Bug: a term cannot be written").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_and_mutes_are_read_as_they_were_written_and_a_new_ban_gets_an_id() {
        let address: IpAddr = "2001:db8::".parse().unwrap();
        let ban = |id| Ban { id, until: 9, reason: "a\0\"".into(), by: "key:shop".into(), since: 3 };
        let mut change = TermsChange {
            bans: vec![
                (BanSubject::account("ann: 1\0").unwrap(), Some(ban(BanId::NONE))),
                (BanSubject::Address(address), Some(ban(BanId(4)))),
                (BanSubject::account("ben").unwrap(), None),
            ],
            mutes: vec![
                (MuteSubject::Account(":".into()), None),
                (
                    MuteSubject::Session(UserId::from_wire(7).unwrap()),
                    Some(MuteTerm { until: 5, network: Some(address) }),
                ),
                (MuteSubject::Address(address), Some(MuteTerm { until: 5, network: None })),
            ],
        };
        let notices = vec![ModerationNotice::AddressUnmuted(address)];
        let Proposal::Terms { changes, notices: bytes } = propose(&change, &notices) else { panic!() };
        assert_eq!(read_notices(&bytes), notices);
        change.bans[0].1 = Some(ban(BanId(1_024)));
        assert_eq!(read(&changes, 1_024), change);
        assert_eq!(read_notices(&Bytes::from_static(b"\x09")), []);
    }
}
