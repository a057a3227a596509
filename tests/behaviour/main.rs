//! Behaviours of the running server, over real sockets, written from the protocol alone.
//!
//! Each test starts a server of its own and speaks to it as a stranger would. A file holds one
//! subject and opens with the list of its behaviours, each of which runs on one shard, where
//! everything is local, and on four, where members and rooms live apart, there over TLS too.

#![allow(clippy::unwrap_used)]

mod harness;

mod acceptors;
mod addresses;
mod counts;
mod http_heads;
mod http_paths;
mod metrics;
mod origins;
mod proxies;
mod proxy_protocol;
mod upgrades;

mod chat_connecting;
mod chat_deletion;
mod chat_format;
mod chat_history;
mod chat_images;
mod chat_leaving;
mod chat_limits;
mod chat_messages;
mod chat_moderation;
mod chat_names;
mod chat_order;
mod chat_private;
mod chat_queries;
mod chat_receipts;
mod chat_resume;
mod chat_rooms;
mod histories;
mod presence;
mod sessions;
mod sessions_kept;
mod sessions_on_demand;
mod user_ids;

mod hub_connecting;
mod hub_crowds;
mod hub_leaving;
mod hub_refusals;
mod hub_talking;
mod hub_with_chat;

mod broadcast;
mod dialects;
mod echo;
mod rooms_on_demand;
mod topics;

mod closing;
mod frames;
mod full;
mod memory;
mod pings;
mod rates;
mod readiness;
mod reconnect;
mod shutdown;
mod slow_receivers;

mod api_access;
mod api_admin_page;
mod api_bans;
mod api_batch;
mod api_broadcast;
mod api_close_room;
mod api_connections;
mod api_events;
mod api_figures;
mod api_full;
mod api_hostile;
mod api_http;
mod api_idempotency;
mod api_moderation;
mod api_publish;
mod api_rooms;
mod api_users;

mod access_log;
mod account_names;
mod accounts_command;
mod accounts_shown;
mod anonymous;
mod ban_orders;
mod bans;
mod command_line;
mod crowds;
mod durability;
mod failing_disk;
mod hanging_disk;
mod late_disk;
mod logs;
mod moderation_kept;
mod mutes;
mod restarts;
mod settings;
mod sign_in;
mod stalled_logs;
mod tls;
mod token_rights;
mod tokens;
mod vanishing;
