//! Reports of moderation orders that were carried out: in the log, and for those who watch the server.

use std::sync::Arc;

use tracing::info;

use super::client_io::{ClientIo, Context};
use crate::clock::Now;
use crate::events::{Event, ModerationEvent, ModerationTarget};
use crate::log_text::shown;
use crate::metrics::{Label as _, OrderKind};
use crate::moderation::{Admin, BanSubject};
use crate::rooms::UserId;

impl Context {
    /// Counts and reports an order about an account or an address.
    pub(super) fn note_order(
        &self,
        subject: &BanSubject,
        by: &Admin,
        kind: OrderKind,
        seconds: Option<u32>,
        reason: Option<&str>,
        now: Now,
    ) {
        self.metrics.moderation_orders.with(kind).add(1);
        let (account, address) = match subject {
            BanSubject::Account(account) => (Some(account), None),
            BanSubject::Address(address) => (None, Some(*address)),
        };
        info!(
            account = account.map(|account| shown(account)),
            address = address.map(display),
            %by,
            by_name = by.shown_name(),
            by_account = by.shown_account(),
            measure = %kind,
            seconds,
            reason = reason.map(shown),
            "moderated"
        );
        let target = ModerationTarget { account: account.cloned(), address, ..ModerationTarget::default() };
        self.report_moderation(kind, by, target, seconds, reason, now);
    }

    fn report_moderation(
        &self,
        kind: OrderKind,
        by: &Admin,
        target: ModerationTarget,
        seconds: Option<u32>,
        reason: Option<&str>,
        now: Now,
    ) {
        if self.events.is_some() {
            let (at, action, by) = (now.unix_seconds, kind.as_str(), by.label());
            let reason = reason.map(str::to_owned);
            self.tell(Event::Moderation(ModerationEvent { at, action, by, target, seconds, reason }));
        }
    }
}

impl ClientIo<'_> {
    /// Counts and reports an order about this client, a user with this id, name and account.
    pub(super) fn report_order(
        &self,
        by: &Admin,
        (id, name, account): (UserId, &Arc<str>, Option<Arc<str>>),
        kind: OrderKind,
        seconds: Option<u32>,
        reason: Option<&str>,
    ) {
        self.context.metrics.moderation_orders.with(kind).add(1);
        let address = self.link.peer.ip();
        info!(
            user = %id,
            name = shown(name),
            account = account.as_deref().map(shown),
            %address,
            %by,
            by_name = by.shown_name(),
            by_account = by.shown_account(),
            measure = %kind,
            seconds,
            reason = reason.map(shown),
            "moderated"
        );
        let target = ModerationTarget {
            account,
            address: Some(address),
            user: Some(id),
            name: Some(Arc::clone(name)),
            connection: Some(self.context.directory.instance().name(self.origin())),
            ..ModerationTarget::default()
        };
        self.context.report_moderation(kind, by, target, seconds, reason, self.now);
    }
}
