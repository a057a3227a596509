//! The admin page, in front of a server with people on it.

use fantoccini::key::Key;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::browser::{Browser, Kind, stage};
use crate::harness::{ApiKeys, Chat, Launch, Server, TokenKey};

/// A server with the API, and a key of these scopes.
pub(crate) async fn server_with_key(scopes: &[&str]) -> (Server, String, ApiKeys, TokenKey) {
    let (keys, tokens) = (ApiKeys::new(), TokenKey::new());
    let key = keys.add("console", scopes).await;
    let launch = Launch::with_shards(2).with_api(&keys).flag("--token-key", tokens.path().display());
    let server = launch.flag("--room-pattern", "team-*").start();
    (server, key, keys, tokens)
}

/// Opens a view of the page, and gives the key.
pub(crate) async fn open(kind: Kind, server: &Server, key: &str, view: &str) -> Browser {
    let admin = Browser::open(kind).await;
    admin.look_at(&format!("http://{}/admin#{view}", server.api_address())).await;
    give(&admin, key).await;
    admin.until("!at('dialog').open").await;
    admin
}

pub(crate) async fn give(admin: &Browser, key: &str) {
    admin.until("at('dialog').open && document.querySelector('[name=key]')").await;
    admin.write("[name=key]", key).await;
    admin.press(Key::Enter).await;
}

/// A client that has signed in with a token as this account.
pub(crate) async fn signed_in(server: &Server, tokens: &TokenKey, account: &str) -> Chat {
    let token = tokens.token(account, &["--expires", "1h"]).await;
    let mut chat = Chat::with_token(server, &token).await;
    chat.until("history").await;
    chat
}

/// Waits until a row of the table says all of this.
pub(crate) async fn has_row(admin: &Browser, words: &[&str]) {
    let has_all = format!("{}.every((word) => row.innerText.includes(word))", json!(words));
    admin.until(&format!("all('tbody tr').some((row) => {has_all})")).await;
}

#[tokio::test]
async fn a_key_is_asked_for_once_and_kept_nowhere() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let admin = Browser::open(Kind::DESKTOP).await;
    admin.look_at(&format!("http://{}/admin", server.api_address())).await;
    give(&admin, "upk_wrong").await;
    admin.until("text('dialog').includes('does not know this key')").await;
    // It cannot be left without a key.
    admin.press(Key::Escape).await;
    assert_eq!(admin.see("at('dialog').open").await, true);
    // A browser closes it with the second one, whatever the page says, so it opens again.
    admin.see("void at('dialog').addEventListener('close', () => (window.wasClosed = true))").await;
    admin.press(Key::Escape).await;
    admin.until("window.wasClosed && at('dialog').open").await;
    give(&admin, &key).await;
    has_row(&admin, &["general"]).await;
    for place in ["#connections", "#accounts", "#bans", "#nodes", "#live", "#rooms"] {
        admin.click(&format!("nav [href='{place}']")).await;
        admin.until(&format!("document.querySelector('nav [aria-current]').hash === '{place}'")).await;
    }
    assert_eq!(admin.see("at('dialog').open").await, false);
    let kept = admin
        .see("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, document.documentElement.outerHTML])")
        .await;
    assert!(!kept.as_str().unwrap().contains(&key), "{kept}");
    admin.reload().await;
    admin.until("at('dialog').open && document.querySelector('[name=key]').value === ''").await;
}

#[tokio::test]
async fn behind_a_proxy_to_a_unix_socket_no_key_is_asked_for() {
    let _stage = stage().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let server = Launch::with_shards(1).flag("--api-listen", format!("unix:{}", socket.display())).start();
    let [_ann] = Chat::members(&server).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = proxy.accept().await {
            tokio::spawn(pass_on(client, UnixStream::connect(&socket).await.unwrap()));
        }
    });
    let admin = Browser::open(Kind::DESKTOP).await;
    admin.look_at(&format!("http://{address}/ops/admin#live")).await;
    admin.until("text('main [role=status]').startsWith('Watching')").await;
    admin.click("nav [href='#connections']").await;
    has_row(&admin, &["User1"]).await;
    assert_eq!(admin.see("at('dialog').open || !at('forget').hidden").await, false);
    admin.click("tbody a").await;
    admin.choose("Disconnect").await;
    admin.click("dialog .primary").await;
    admin.until("text('[role=status]').includes('kicked')").await;
}

/// Passes requests on without the prefix of their paths. A head comes in one piece.
async fn pass_on(client: TcpStream, mut server: UnixStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.split();
    let forth = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            let text = String::from_utf8_lossy(&bytes[..length]).replacen(" /ops/", " /", 1);
            if to_server.write_all(text.as_bytes()).await.is_err() {
                break;
            }
        }
    };
    let back = async { drop(tokio::io::copy(&mut from_server, &mut to_client).await) };
    tokio::select! {
        () = forth => {}
        () = back => {}
    }
}

#[tokio::test]
async fn rooms_are_found_and_deleted() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let [mut ann, mut bob] = Chat::members(&server).await;
    for member in [&mut ann, &mut bob] {
        member.move_to("team-<b>1</b>").await;
    }
    let admin = open(Kind::DESKTOP, &server, &key, "rooms").await;
    has_row(&admin, &["team-<b>1</b>", "2"]).await;
    admin.picture("admin-rooms").await;
    admin.write("[type=search]", "team").await;
    admin.until("all('tbody tr').length === 1").await;
    admin.click("tbody a").await;
    has_row(&admin, &["User1"]).await;
    has_row(&admin, &["User2"]).await;
    assert_eq!(admin.see("text('h2')").await, "Room team-<b>1</b>");
    admin.choose("Delete room").await;
    admin.picture("admin-delete").await;
    admin.until("document.activeElement.textContent === 'Cancel'").await;
    admin.click("dialog .primary").await;
    admin.until("location.hash === '#rooms' && text('#said').includes('deleted')").await;
    admin
        .until("all('tbody tr').length && !all('tbody tr').some((row) => row.innerText.includes('team-'))")
        .await;
    // Its fan-out is shown, also among the slowest.
    bob.until("room_joined").await;
    crate::tell(&mut bob, "hello").await;
    admin.run("all('select')[0].value = 'fan_out'; all('select')[0].dispatchEvent(new Event('input', { bubbles: true }));", Value::Null).await;
    // It is noted when the last send has ended, which may be behind the first look.
    admin
        .until("/ ms/.test(text('tbody tr')) || (document.querySelector('.bar button').click(), false)")
        .await;
    assert_eq!(admin.see("all('tbody tr').length").await, 1);
    // A configured room stays, and the page says why.
    admin.click("tbody a").await;
    admin.choose("Delete room").await;
    admin.click("dialog .primary").await;
    admin.until("text('dialog .error').length > 10").await;
}

#[tokio::test]
async fn the_node_is_shown_with_its_shards() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let [_ann, _bob, _cem] = Chat::members(&server).await;
    let admin = open(Kind::DESKTOP, &server, &key, "nodes").await;
    admin.until("text('dl').includes('3 of') && text('dl').includes('serving')").await;
    admin
        .until("all('tbody tr').length === 2 && all('meter').length === 2 && / %/.test(text('tbody tr'))")
        .await;
    admin.picture("admin-nodes").await;
}

#[tokio::test]
async fn a_connection_is_explained_and_disconnected() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, "ann").await;
    let [mut bob] = Chat::members(&server).await;
    bob.message("hello").await;
    let admin = open(Kind::DESKTOP, &server, &key, "connections").await;
    has_row(&admin, &["ann", "general"]).await;
    has_row(&admin, &[&bob.name.clone(), "general"]).await;
    admin.picture("admin-connections").await;
    admin.write("[type=search]", "ann").await;
    admin.until("all('tbody tr').length === 1").await;
    admin.click("tbody a").await;
    admin.until("text('dl').includes('Round trip') && text('dl').includes('ann')").await;
    admin.picture("admin-connection").await;
    admin.choose("Disconnect").await;
    admin.write("[name=reason]", "too <i>loud</i>").await;
    admin.press(Key::Enter).await;
    assert_eq!(ann.until("kicked").await["content"]["reason"], "too <i>loud</i>");
    admin.until("text('[role=status]').includes('kicked')").await;
    admin.until("!all('.orders').some((one) => one.checkVisibility())").await;
}

#[tokio::test]
async fn a_connection_is_shown_again_after_a_refresh_has_failed() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let [_ann] = Chat::members(&server).await;
    let admin = open(Kind::DESKTOP, &server, &key, "connections").await;
    has_row(&admin, &["User1"]).await;
    admin.click("tbody a").await;
    admin.until("text('main .card').includes('Longest message')").await;
    admin
        .see("void (window.kept = fetch, window.fetch = async () => { throw new TypeError('no line') })")
        .await;
    admin.until("text('main .card').includes('cannot be reached')").await;
    admin.see("void (window.fetch = window.kept)").await;
    admin.until("text('main .card').includes('Longest message')").await;
}

#[tokio::test]
async fn an_account_is_muted_and_banned_and_the_ban_is_lifted() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, "ann/../1").await;
    let admin = open(Kind::DESKTOP, &server, &key, "connections").await;
    has_row(&admin, &["ann/../1"]).await;
    admin.click("[href^='#accounts/']").await;
    admin.until("text('h2') === 'Account ann/../1'").await;
    admin.choose("Mute").await;
    admin.click("dialog .primary").await;
    admin.until("text('#said').includes('1 connection reached') && text('dl').includes('until')").await;
    ann.until("muted").await;
    admin.choose("Ban").await;
    admin.write("[name=reason]", "spam").await;
    admin.picture("admin-ban").await;
    admin.click("dialog .primary").await;
    assert_eq!(ann.until("kicked").await["content"]["reason"], "spam");
    admin.until("text('dl').includes('spam')").await;
    admin.click("nav [href='#bans']").await;
    has_row(&admin, &["ann/../1", "spam", "key:console"]).await;
    admin.picture("admin-bans").await;
    admin.choose("Lift").await;
    admin.click("dialog .primary").await;
    admin.until("text('[role=status]').includes('Nobody is banned')").await;
    signed_in(&server, &tokens, "ann/../1").await;
}

#[tokio::test]
async fn ends_and_orders_are_shown_as_they_happen() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let [mut early, mut ann, bob] = Chat::members(&server).await;
    early.send("nonsense".to_owned() + &"x".repeat(100_000)).await;
    early.closed_in_the_end().await;
    let admin = open(Kind::DESKTOP, &server, &key, "live").await;
    admin.until("text('main [role=status]').startsWith('Watching')").await;
    // What has ended before is there already.
    has_row(&admin, &["too big"]).await;
    bob.leave().await;
    let backend = crate::harness::Backend::with_key(&server, &key);
    let listed = backend.get("/api/v1/connections").await.json();
    let id = listed["connections"][0]["id"].as_str().unwrap().to_owned();
    let kicked =
        backend.post(&format!("/api/v1/connections/{id}/disconnect"), &json!({"reason": "spam"})).await;
    assert_eq!(kicked.status, 200, "{kicked:?}");
    ann.until("kicked").await;
    has_row(&admin, &["kick", &id, "by key:console", "spam"]).await;
    has_row(&admin, &["kicked", &id]).await;
    // The usual end of the other one is hidden until it is asked for.
    assert_eq!(
        admin
            .see("all('tbody tr').some((row) => row.checkVisibility() && row.innerText.includes('closed'))")
            .await,
        false
    );
    admin.click("[type=checkbox]").await;
    admin
        .until("all('tbody tr').some((row) => row.checkVisibility() && row.innerText.includes('closed'))")
        .await;
    admin.picture("admin-live").await;
    admin.run("document.documentElement.style.colorScheme = 'dark';", Value::Null).await;
    admin.picture("admin-live-dark").await;
}

#[tokio::test]
async fn a_key_that_may_only_read_is_told_so_in_words() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&["read"]).await;
    let [_ann] = Chat::members(&server).await;
    let admin = open(Kind::DESKTOP, &server, &key, "connections").await;
    admin.until("all('tbody a').length > 0").await;
    admin.click("tbody a").await;
    admin.choose("Disconnect").await;
    admin.click("dialog .primary").await;
    admin.until("text('dialog .error').includes('moderate')").await;
    assert_eq!(admin.see("at('dialog').open").await, true);
    admin.choose("Cancel").await;
    admin.until("!at('dialog').open").await;
    drop(server);
    admin.until("text('#summary') === 'The server cannot be reached.'").await;
}

#[tokio::test]
async fn it_fits_a_phone_and_fingers() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, &"ann".repeat(40)).await;
    ann.move_to(&format!("team-{}", "x".repeat(50))).await;
    let admin = open(Kind::PHONE, &server, &key, "rooms").await;
    for view in ["rooms", "connections", "accounts", "live", "bans", "nodes"] {
        admin.click(&format!("nav [href='#{view}']")).await;
        admin.until("!document.body.innerText.includes('Loading')").await;
        assert_eq!(admin.see("document.documentElement.scrollWidth <= 390").await, true, "{view}");
        let targets =
            "all('button, select, input:not([type=checkbox]), a').filter((one) => one.checkVisibility())";
        let small = admin
            .see(&format!("{targets}.filter((one) => one.offsetHeight < 44).map((one) => one.outerHTML)"))
            .await;
        assert_eq!(small, Value::Array(Vec::new()), "{view}");
        admin.picture(&format!("admin-phone-{view}")).await;
    }
    admin.run("document.documentElement.style.colorScheme = 'dark';", Value::Null).await;
    for (view, link, shown) in [
        ("connections", "connection", "Queue"),
        ("connections", "account", "Mute"),
        ("rooms", "room", "Epoch"),
    ] {
        admin.click(&format!("nav [href='#{view}']")).await;
        // In one step: the list may be drawn anew between two.
        let click = "slice(-1).map((one) => one.click()).length === 1";
        admin.until(&format!("all('tbody [href^=\"#{link}\"]').{click}")).await;
        admin.until(&format!("text('dl').includes('{shown}') && !text('main').includes('Loading')")).await;
        assert_eq!(admin.see("document.documentElement.scrollWidth <= 390").await, true, "{link}");
        admin.picture(&format!("admin-phone-{link}-dark")).await;
    }
    // A long message breaks, too.
    crate::tell(&mut ann, &"long".repeat(200)).await;
    admin.choose("Refresh").await;
    admin.until("text('td .said').length === 800").await;
    assert_eq!(admin.see("document.documentElement.scrollWidth <= 390").await, true);
    admin.run("document.querySelector('td .said').scrollIntoView();", Value::Null).await;
    admin.picture("admin-phone-history-dark").await;
}

#[tokio::test]
async fn everything_is_reached_by_keyboard_and_has_a_name() {
    let _stage = stage().await;
    let (server, key, ..) = server_with_key(&[]).await;
    let [_ann] = Chat::members(&server).await;
    let admin = open(Kind::DESKTOP, &server, &key, "connections").await;
    admin.until("all('tbody a').length > 0").await;
    let nameless = "all('button, select, input, a').filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).map((one) => one.outerHTML)";
    assert_eq!(admin.see(nameless).await, Value::Array(Vec::new()));
    // From the top, Tab comes to the list's first connection, and Enter opens it.
    admin.run("document.querySelector('nav a').focus();", Value::Null).await;
    for _ in 0..20 {
        if admin.see("document.activeElement.matches('tbody a')").await == true {
            break;
        }
        admin.press(Key::Tab).await;
    }
    admin.press(Key::Enter).await;
    admin.until("text('h2').startsWith('Connection ') && document.activeElement === at('view')").await;
}
