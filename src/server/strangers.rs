//! The warning about what strangers may do.

use std::net::SocketAddr;

use tracing::warn;

use crate::config::Config;
use crate::metrics::Dialect;

/// Warns when anyone who reaches the server may publish, or make it answer.
pub(super) fn warn_of_strangers(config: &Config, address: SocketAddr) {
    let mut open = config.open_dialects();
    if open.is_empty() {
        return;
    }
    let (anyone, elsewhere) = if config.listens_on_loopback() {
        (format!("anyone whom a proxy connects to {address}"), String::new())
    } else {
        let here = format!(", or listen on this machine only, with --listen 127.0.0.1:{}", address.port());
        (format!("anyone who reaches {address}"), here)
    };
    let echo = open.pop_if(|dialect| *dialect == Dialect::Echo);
    let open = open.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let allowed = if open.is_empty() {
        format!("use echo: it answers {anyone}")
    } else {
        let and_echo = if echo.is_some() { ", and echo answers them" } else { "" };
        format!("publish: {anyone} may send messages as {open} without signing in{and_echo}")
    };
    warn!(
        "strangers may {allowed}. Require sign-in with --auth required, let strangers only listen with --anonymous \
         listen, speak less with --dialects chat{elsewhere}"
    );
}
