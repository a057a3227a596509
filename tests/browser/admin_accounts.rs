//! An account on the admin page: it is found, sent a message, moved, muted and banned.

use fantoccini::key::Key;

use crate::admin::{has_row, open, server_with_key, signed_in};
use crate::browser::{Kind, stage};

#[tokio::test]
async fn an_account_is_found_and_shown_with_its_rooms() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, "ann").await;
    let _other = signed_in(&server, &tokens, "ann").await;
    ann.move_to("team-<b>1</b>").await;
    let admin = open(Kind::DESKTOP, &server, &key, "rooms").await;
    admin.click("nav [href='#accounts']").await;
    admin.until("document.querySelector('[type=search]')").await;
    admin.write("[type=search]", " ann ").await;
    admin.press(Key::Enter).await;
    admin.until("text('h2') === 'Account ann' && text('dl').includes('Connections2')").await;
    admin.until("text('dl').includes('general') && text('dl').includes('team-<b>1</b>')").await;
    has_row(&admin, &["team-<b>1</b>", "chat"]).await;
    has_row(&admin, &["general", "chat"]).await;
    assert_eq!(admin.see("document.querySelector('nav [aria-current]').hash").await, "#accounts");
    admin.picture("admin-account").await;
    // The same account again is shown as it is now.
    drop(ann);
    admin
        .until(
            "text('dl').includes('Connections1') || (document.querySelector('.bar button').click(), false)",
        )
        .await;
    // One that nobody uses is no error.
    admin.run("document.querySelector('[type=search]').value = '';", serde_json::Value::Null).await;
    admin.write("[type=search]", "no/body ?#é").await;
    admin.press(Key::Enter).await;
    admin.until("text('h2') === 'Account no/body ?#é' && text('dl').includes('Connections0')").await;
    admin.until("text('main').includes('not connected to this node')").await;
}

#[tokio::test]
async fn an_account_gets_a_message_and_is_moved() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, "ann").await;
    let admin = open(Kind::DESKTOP, &server, &key, "accounts/ann").await;
    admin.choose("Message").await;
    admin.write("[name=content]", "please <b>call</b>").await;
    admin.write("[name=from_name]", "Support").await;
    admin.picture("admin-message").await;
    admin.press(Key::Enter).await;
    let message = ann.until("private_message").await;
    assert_eq!(
        (&message["content"], &message["from_name"]),
        (&"please <b>call</b>".into(), &"Support".into())
    );
    admin.until("text('#said').includes('1 connection reached')").await;
    // From a room in which it is not, nothing is moved.
    for (from, reached) in [("gaming", 0), ("", 1)] {
        admin.until("!at('dialog').open").await;
        admin.choose("Move").await;
        admin.write("[name=to]", "team-x").await;
        admin.write("[name=from]", from).await;
        admin.press(Key::Enter).await;
        admin.until(&format!("text('#said').startsWith('Move: {reached} ')")).await;
    }
    assert_eq!(ann.until("room_joined").await["content"]["room"], "team-x");
    admin
        .until("text('dl').includes('team-x') || (document.querySelector('.bar button').click(), false)")
        .await;
    // A room that is not there is an error in words.
    admin.choose("Move").await;
    admin.write("[name=to]", "nowhere").await;
    admin.press(Key::Enter).await;
    admin.until("text('dialog .error').length > 10").await;
}

#[tokio::test]
async fn an_account_is_muted_and_banned_from_the_page_that_found_it() {
    let _stage = stage().await;
    let (server, key, _keys, tokens) = server_with_key(&[]).await;
    let mut ann = signed_in(&server, &tokens, "ann").await;
    let admin = open(Kind::DESKTOP, &server, &key, "accounts/ann").await;
    for (order, shown) in [("Mute", "Muteuntil"), ("Unmute", "Mutenone")] {
        admin.choose(order).await;
        admin.click("dialog .primary").await;
        admin.until(&format!("!at('dialog').open && text('dl').includes('{shown}')")).await;
    }
    admin.choose("Disconnect").await;
    admin.click("dialog .primary").await;
    ann.until("kicked").await;
    admin.until("!at('dialog').open").await;
    admin.choose("Ban").await;
    admin.click("dialog .primary").await;
    admin.until("!at('dialog').open && text('dl').includes('key:console')").await;
    admin.choose("Lift ban").await;
    admin.click("dialog .primary").await;
    admin.until("!at('dialog').open && text('dl').includes('Bannone')").await;
}
