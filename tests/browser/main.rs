//! Behaviours of the web client, in a real browser that speaks to a real server.
//!
//! A test starts a server and as many browsers as it has people in front of one; everybody else is a
//! member over a socket of its own. Browsers are large, so one test runs at a time. They are Chromium,
//! driven through chromedriver; `scripts/test` installs both.
//!
//! Two behaviours are measurements that need a quiet machine, and run only when asked for
//! (`scripts/measure-page`).

#![allow(clippy::unwrap_used)]

#[path = "../behaviour/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "browsers need a part of what the behaviours need"
)]
mod harness;

mod browser;
mod line;

mod accounts;
mod admin;
mod admin_accounts;
mod admin_history;
mod admin_silence;
mod cluster;
mod crowds;
mod dropped;
mod first_visit;
mod frames;
mod hostile;
mod layout;
mod pages;
mod people;
mod returning;
mod rooms;

/// Says something to the room, whatever else is heard meanwhile, and returns its id.
async fn tell(member: &mut harness::Chat, text: &str) -> u64 {
    member.say(serde_json::json!({"type": "message", "content": text})).await;
    member.until("message_sent").await["content"]["message_id"].as_u64().unwrap()
}
