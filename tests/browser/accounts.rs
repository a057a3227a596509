//! Signing in, and what admins may do.

use serde_json::json;

use crate::browser::{Browser, Kind, stage};
use crate::harness::{AccountFile, Chat, Launch, Server, password_of};

pub(crate) async fn sign_in(browser: &Browser, name: &str, password: &str) {
    browser.until("at('dialog').open && all('dialog input').length === 2").await;
    let statements = "const [username, password] = all('dialog input');
        [username.value, password.value] = arguments[0];
        document.querySelector('dialog .primary').click();";
    browser.run(statements, json!([name, password])).await;
}

async fn signed_in(server: &Server, name: &str) -> Browser {
    let browser = Browser::open(Kind::DESKTOP).await;
    browser.visit(&format!("http://{}/", server.address())).await;
    sign_in(&browser, name, &password_of(name)).await;
    browser.is_ready().await;
    browser
}

#[tokio::test]
async fn where_it_is_required_one_signs_in_and_stays_so() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let launch = Launch::with_shards(1).flag("--auth", "required").flag("--data", accounts.path().display());
    let server = launch.clone().start();
    let ann = Browser::open(Kind::DESKTOP).await;
    ann.visit(&format!("http://{}/", server.address())).await;
    sign_in(&ann, "Ann", "a guess").await;
    ann.until("text('dialog .error') === 'Authentication failed'").await;
    assert_eq!(ann.see("all('.speech, .member').length").await, 0);
    sign_in(&ann, "Ann", &password_of("Ann")).await;
    ann.is_ready().await;
    ann.until("!at('dialog').open && text('#me .name') === 'Ann'").await;
    ann.say("inside").await;
    ann.until("all('[data-state=sent]').length === 1").await;
    // She is not asked again when the server comes back, and what she said is still there, once.
    let address = server.address();
    drop(server);
    ann.until("at('state').dataset.state === 'lost'").await;
    let _server = launch.at(address).start();
    ann.is_ready().await;
    ann.say("again").await;
    ann.until("all('[data-state=sent]').length === 2").await;
    ann.has_heard(&["inside", "again"]).await;
}

#[tokio::test]
async fn an_admin_mutes_and_removes_people_and_they_are_told() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&["Ann"], &["Boss"]).await;
    let server =
        Launch::with_shards(1).flag("--auth", "required").flag("--data", accounts.path().display()).start();
    let ann = signed_in(&server, "Ann").await;
    let boss = signed_in(&server, "Boss").await;
    // Who is no admin has nothing to command.
    ann.choose_member("Boss").await;
    ann.until("at('dialog').open && !document.querySelector('fieldset')").await;
    ann.run("at('dialog').close();", json!(null)).await;
    boss.choose_member("Ann").await;
    boss.choose("Mute").await;
    ann.until("text('#barrier').startsWith('You are muted until')").await;
    ann.say("may I?").await;
    ann.until("text('.notice.bad') === 'You are muted' && at('text').value === 'may I?'").await;
    boss.choose_member("Ann").await;
    boss.choose("Unmute").await;
    ann.until("at('barrier').hidden").await;
    ann.run("at('composer').requestSubmit();", json!(null)).await;
    boss.has_heard(&["may I?"]).await;
    boss.choose_member("Ann").await;
    boss.run("document.querySelector('fieldset input').value = arguments[0];", "<b>enough</b>").await;
    boss.choose("Remove").await;
    ann.until("text('#state') === 'You were removed: <b>enough</b>' && !at('reconnect').hidden").await;
    boss.until("text('#members-count') === '1'").await;
    // She may come back when she wants to, and not before.
    ann.choose("Connect now").await;
    boss.until("text('#members-count') === '2'").await;
}

#[tokio::test]
async fn one_signs_in_also_where_one_need_not() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&[], &["Boss"]).await;
    let server = Launch::with_shards(1).flag("--data", accounts.path().display()).start();
    let boss = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut ann] = Chat::members(&server).await;
    boss.click("#me").await;
    boss.choose("Sign in").await;
    sign_in(&boss, "Boss", &password_of("Boss")).await;
    boss.until("!at('dialog').open && text('#me .label') === 'BossAdministrator'").await;
    boss.choose_member("User2").await;
    boss.choose("Remove").await;
    let kicked = ann.until("kicked").await;
    assert_eq!(kicked["content"]["reason"], "Kicked by admin");
}

#[tokio::test]
async fn a_private_talk_with_an_account_survives_its_reconnect() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&["Bob"], &[]).await;
    let server = Launch::with_shards(2).flag("--data", accounts.path().display()).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    for word in ["before", "after"] {
        let mut bob = Chat::enter(&server).await;
        bob.say(json!({"type": "auth", "username": "Bob", "password": password_of("Bob")})).await;
        bob.until("auth_success").await;
        // He says something, so that everybody knows by whom it is.
        bob.say(json!({"type": "private_message", "to_id": 1, "content": format!("{word}, from Bob")})).await;
        bob.until("private_message_sent").await;
        ann.choose("Bob").await;
        ann.until("all('#private li').length === 1").await;
        ann.say(&format!("{word}, to Bob")).await;
        assert_eq!(bob.until("private_message").await["content"], format!("{word}, to Bob"));
        bob.leave().await;
        ann.until("text('#members-count') === '1'").await;
    }
    ann.has_heard(&["before, from Bob", "before, to Bob", "after, from Bob", "after, to Bob"]).await;
}

#[tokio::test]
async fn who_is_banned_is_told_and_comes_back_when_the_ban_is_lifted() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&[], &["Boss"]).await;
    let server = Launch::with_shards(1).flag("--data", accounts.path().display()).start();
    let boss = Browser::enter(Kind::DESKTOP, &server).await;
    boss.click("#me").await;
    boss.choose("Sign in").await;
    sign_in(&boss, "Boss", &password_of("Boss")).await;
    boss.until("!at('dialog').open && text('#me .label') === 'BossAdministrator'").await;
    let ann = Browser::enter(Kind::PHONE, &server).await;
    boss.choose_member("User2").await;
    boss.run("document.querySelector('fieldset input').value = arguments[0];", "<b>spam</b>").await;
    boss.picture("admin").await;
    // The first term is a day.
    boss.run("all('fieldset button').find((one) => one.innerText === 'Ban').click();", json!(null)).await;
    ann.until("text('#state') === 'You were removed: <b>spam</b>'").await;
    ann.choose("Connect now").await;
    ann.until("text('#state') === 'Closed by the server: banned' && !at('reconnect').hidden").await;
    ann.until("text('#barrier') === 'You are banned from this server.'").await;
    ann.picture("banned").await;
    // Looking at the page does not try again.
    ann.run("dispatchEvent(new Event('online'));", json!(null)).await;
    assert_eq!(ann.see("at('state').dataset.state").await, "closed");
    boss.click("#me").await;
    boss.until("text('.ban .name') === '127.0.0.1' && text('.ban small').endsWith(' · <b>spam</b>')").await;
    boss.picture("bans").await;
    boss.choose("Lift the ban").await;
    boss.until("text('dialog').includes('Nobody is banned.')").await;
    ann.choose("Connect now").await;
    ann.is_ready().await;
    ann.until("at('barrier').hidden").await;
}

#[tokio::test]
async fn a_mute_that_the_server_has_forgotten_is_over_on_the_page_too() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&[], &["Boss"]).await;
    let launch = Launch::with_shards(1).flag("--data", accounts.path().display());
    let server = launch.clone().start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let mut boss = Chat::enter(&server).await;
    boss.say(json!({"type": "auth", "username": "Boss", "password": password_of("Boss")})).await;
    boss.until("auth_success").await;
    boss.say(json!({"type": "mute", "target_id": 1, "seconds": 1_000})).await;
    ann.until("text('#barrier').startsWith('You are muted until')").await;
    // Over a restart it holds.
    let address = server.address();
    drop(server);
    ann.until("at('state').dataset.state === 'lost'").await;
    let server = launch.at(address).start();
    ann.is_ready().await;
    ann.until("text('#barrier').startsWith('You are muted until')").await;
    drop(server);
    ann.until("at('state').dataset.state === 'lost'").await;
    let _server = Launch::with_shards(1).at(address).start();
    ann.is_ready().await;
    ann.until("at('barrier').hidden").await;
}
