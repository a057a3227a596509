//! The harness of all behaviour tests: a server process, and clients that share no code with it.
//!
//! [`Launch`] starts the real binary on a free port, [`Chat`] and [`Socket`] speak to it through tokio-tungstenite,
//! [`Wire`] speaks raw bytes, all of them over TLS where the server does. Nothing here waits without a bound, and
//! nothing waits for time to pass where it can wait for an event.

mod accounts;
mod api;
mod certificate;
mod chat;
pub(crate) mod cluster;
mod envelope;
mod event_stream;
mod frame;
mod guest;
mod hub;
mod hung_thread;
mod server;
mod socket;
mod tokens;
mod transport;
mod wire;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

pub(crate) use accounts::{AccountFile, password_of};
pub(crate) use api::{Answer, ApiKeys, Backend, read_answer, through_unix_socket};
pub(crate) use certificate::Certificate;
pub(crate) use chat::{Chat, after_ms_of, take_epoch, take_timestamp};
pub(crate) use envelope::{direct, error, from, from_system};
pub(crate) use event_stream::{EventStream, SentEvent};
pub(crate) use frame::{BINARY, CLOSE, CONTINUATION, Header, PING, PONG, TEXT, frame, part};
pub(crate) use guest::{Guest, admitted_from, refused_from, upgrade_from};
pub(crate) use hub::{Hub, from_hub, hub_beside, line};
pub(crate) use hung_thread::HungThread;
pub(crate) use server::{Finished, Launch, Server, run, run_with_input};
pub(crate) use socket::Socket;
pub(crate) use tokens::{TokenKey, upgrade_with};
pub(crate) use transport::Transport;
pub(crate) use wire::{Response, Wire, request, upgrade_request};

/// How long an event may take before its absence is a failure: far longer than on a machine whose cores others
/// keep busy, where the last of two hundred who come at once may wait for 15 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits `event`, and fails by naming it when it takes longer than [`PATIENCE`].
pub(crate) async fn within<F: Future>(name: &str, event: F) -> F::Output {
    match timeout(PATIENCE, event).await {
        Ok(output) => output,
        Err(_) => panic!("no {name} within {PATIENCE:?}"),
    }
}

/// Asks until `question` says yes: for facts of the kernel and counts that settle, which no
/// message announces.
pub(crate) async fn eventually(name: &str, mut question: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + 2 * PATIENCE;
    while !question().await {
        assert!(Instant::now() < deadline, "never true: {name}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lists the behaviours of a file; each becomes a test on one shard and a test on four, with everything in
/// memory and with a directory for what outlives the process, on four shards over TLS, and on two nodes of a cluster, between
/// which clients alternate.
macro_rules! on_one_and_four_shards {
    ($($behaviour:ident),+ $(,)?) => {
        $crate::harness::on_one_server! { $($behaviour),+ }
        $crate::harness::on_two_nodes! { $($behaviour),+ }
    };
}

/// Lists behaviours that two nodes of a cluster have, too.
macro_rules! on_two_nodes {
    ($($behaviour:ident),+ $(,)?) => {
        mod on_two_nodes {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour($crate::harness::Launch::with_shards(2).on_two_nodes()).await;
            })+
        }
    };
}

/// As [`on_one_and_four_shards`], for behaviours of one server: what is counted, limited or logged there, and what others know
/// of at once.
macro_rules! on_one_server {
    ($($behaviour:ident),+ $(,)?) => {
        $crate::harness::on_one_and_four_shards_only! { $($behaviour),+ }
        $crate::harness::on_one_and_four_shards_with_data! { $($behaviour),+ }
        mod over_tls {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour($crate::harness::Launch::with_shards(4).over_tls()).await;
            })+
        }
    };
}

/// As [`on_one_server`], for behaviours that bring such a directory themselves.
macro_rules! on_one_and_four_shards_only {
    ($($behaviour:ident),+ $(,)?) => {
        mod on_one_shard {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour($crate::harness::Launch::with_shards(1)).await;
            })+
        }
        mod on_four_shards {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour($crate::harness::Launch::with_shards(4)).await;
            })+
        }
    };
}

/// As [`on_one_server`], for behaviours that only a server with such a directory has.
macro_rules! on_one_and_four_shards_with_data {
    ($($behaviour:ident),+ $(,)?) => {
        mod on_one_shard_with_data {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour($crate::harness::Launch::with_shards(1).durable()).await;
            })+
        }
        mod on_four_shards_with_data {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour($crate::harness::Launch::with_shards(4).durable()).await;
            })+
        }
    };
}
pub(crate) use {
    on_one_and_four_shards, on_one_and_four_shards_only, on_one_and_four_shards_with_data, on_one_server,
    on_two_nodes,
};
