//! Reports of moderation orders that were carried out: in the log, and for those who watch the server.

use std::sync::Arc;

use tracing::info;

use super::client_io::{ClientIo, Context};
use crate::clock::Now;
use crate::events::{Event, ModerationEvent, ModerationTarget};
use crate::log_text::shown;
use crate::mail::OrderReport;
use crate::metrics::Label as _;
use crate::moderation::BanSubject;
use crate::rooms::UserId;

impl Context {
    /// Counts and reports an order about an account or an address.
    pub(super) fn note_order(&self, report: &OrderReport, now: Now) {
        let OrderReport { target, by, kind, seconds, reason } = report;
        self.metrics.moderation_orders.with(*kind).add(1);
        info!(
            user = target.user.map(display),
            name = target.name.as_deref().map(shown),
            account = target.account.as_deref().map(shown),
            address = target.address.map(display),
            %by,
            by_name = by.shown_name(),
            by_account = by.shown_account(),
            measure = %kind,
            seconds,
            reason = reason.as_deref().map(shown),
            "moderated"
        );
        if self.events.is_some() {
            let (at, action, by) = (now.unix_seconds, kind.as_str(), by.label());
            let (target, seconds, reason) = (target.clone(), *seconds, reason.clone());
            self.tell(Event::Moderation(ModerationEvent { at, action, by, target, seconds, reason }));
        }
    }
}

/// An account or an address, as the target of an order.
pub(super) fn target_of(subject: &BanSubject) -> ModerationTarget {
    let (account, address) = match subject {
        BanSubject::Account(account) => (Some(Arc::clone(account)), None),
        BanSubject::Address(address) => (None, Some(*address)),
    };
    ModerationTarget { account, address, ..ModerationTarget::default() }
}

impl ClientIo<'_> {
    /// This client, a user with this id, name and account, as the target of an order.
    pub(super) fn as_target(
        &self,
        (id, name, account): (UserId, &Arc<str>, Option<Arc<str>>),
    ) -> ModerationTarget {
        ModerationTarget {
            account,
            address: Some(self.link.peer.ip()),
            user: Some(id),
            name: Some(Arc::clone(name)),
            connection: Some(self.context.directory.instance().name(self.origin())),
            ..ModerationTarget::default()
        }
    }
}
