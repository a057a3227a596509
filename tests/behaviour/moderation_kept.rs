//! Bans and mutes that outlive the server, with a directory for what does.

use rustix::process::Signal;
use serde_json::json;

use crate::bans::bans;
use crate::harness::{
    Guest, Launch, Server, TokenKey, admitted_from, eventually, on_one_and_four_shards_with_data,
    refused_from,
};
use crate::mutes::admin;

on_one_and_four_shards_with_data! {
    bans_and_mutes_outlive_a_stop_and_a_kill,
    they_take_effect_while_the_disk_fails_and_are_kept_when_it_works_again,
}

struct Kept {
    launch: Launch,
    key: TokenKey,
}

impl Kept {
    fn new(launch: Launch) -> Self {
        let key = TokenKey::new();
        let launch = launch.without_rate_limit().flag("--trusted-proxy", "127.0.0.1");
        Self { launch: launch.flag("--token-key", key.path().display()), key }
    }

    /// How many rows a table has.
    fn rows(&self, table: &str) -> usize {
        let file = rusqlite::Connection::open(self.launch.data().join("state.db")).unwrap();
        file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// Gives all kinds of orders. Returns the session of a muted guest.
    async fn moderate(&self, server: &Server) -> (u64, String) {
        let mut boss = admin(server, &self.key).await;
        let mut guest = Guest::enter(server, "192.0.2.9").await;
        let token = self.key.token("muted", &[]).await;
        let mut account = Guest::enter_at(server, "192.0.2.8", &format!("/chat?token={token}")).await;
        for order in [
            json!({"type": "ban", "account": "troll 'é", "seconds": 0, "reason": "spam"}),
            json!({"type": "ban", "address": "2001:db8::1", "seconds": 3_600}),
            json!({"type": "ban", "account": "lifted", "seconds": 0}),
            json!({"type": "unban", "account": "lifted"}),
            json!({"type": "mute", "target_id": guest.id, "seconds": 3_600}),
            json!({"type": "mute", "target_id": account.id, "seconds": 3_600}),
        ] {
            boss.say(order).await;
        }
        guest.until(&["muted"]).await;
        account.until(&["muted"]).await;
        (guest.id, guest.session)
    }

    /// Looks at everything that [`Kept::moderate`] has done.
    async fn check(&self, server: &Server, guest: &(u64, String)) {
        assert_eq!(refused_from(server, "2001:db8::2", "/echo").await, (403, "banned".to_owned()));
        let troll = self.key.token("troll 'é", &[]).await;
        let refused = refused_from(server, "192.0.2.1", &format!("/echo?token={troll}")).await;
        assert_eq!(refused, (403, "banned".to_owned()));
        let lifted = self.key.token("lifted", &[]).await;
        admitted_from(server, "192.0.2.1", &format!("/echo?token={lifted}")).await;
        let muted = self.key.token("muted", &[]).await;
        let mut account = Guest::enter_at(server, "192.0.2.1", &format!("/chat?token={muted}")).await;
        assert!(!account.is_heard().await);
        assert!(!Guest::enter(server, "192.0.2.9").await.is_heard().await, "from the address of the guest");
        let mut back = Guest::enter_at(server, "192.0.2.77", &format!("/chat?session={}", guest.1)).await;
        assert_eq!((back.id, back.is_heard().await), (guest.0, false));
        let listed = bans(&mut admin(server, &self.key).await).await;
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0], json!({"account": "troll 'é", "until": 0, "reason": "spam"}));
    }
}

async fn bans_and_mutes_outlive_a_stop_and_a_kill(launch: Launch) {
    let kept = Kept::new(launch);
    let mut server = kept.launch.clone().start();
    let guest = kept.moderate(&server).await;
    // An order waits for no disk, so a kill must.
    eventually("all is written", async || (kept.rows("ban"), kept.rows("mute")) == (2, 3)).await;
    for signal in [Signal::KILL, Signal::TERM, Signal::TERM] {
        server.signal(signal);
        server.exit().await;
        server = kept.launch.clone().start();
        kept.check(&server, &guest).await;
    }
}

async fn they_take_effect_while_the_disk_fails_and_are_kept_when_it_works_again(launch: Launch) {
    let kept = Kept::new(launch);
    let mut server = kept.launch.clone().with_small_files().start();
    server.refuse_writes();
    let guest = kept.moderate(&server).await;
    kept.check(&server, &guest).await;
    eventually("that is logged", async || server.output().contains("bans and mutes made now")).await;
    server.lift_limit_of_files();
    eventually("all is written", async || (kept.rows("ban"), kept.rows("mute")) == (2, 3)).await;
    let told = server.output().matches("bans and mutes made now").count();
    assert_eq!(told, 1, "{}", server.output());
    server.signal(Signal::KILL);
    server.exit().await;
    server = kept.launch.clone().start();
    kept.check(&server, &guest).await;
}
