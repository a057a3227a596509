//! The first visit, where the page asks for a name, and later ones, where it does not.

use serde_json::{Value, json};

use crate::accounts::sign_in;
use crate::browser::{Browser, Kind, stage};
use crate::harness::{AccountFile, Chat, Launch, Server, password_of};

async fn look_at(kind: Kind, server: &Server) -> Browser {
    let browser = Browser::open(kind).await;
    browser.look_at(&format!("http://{}/", server.address())).await;
    browser.until("at('dialog').open && at('dialog').dataset.aim === 'name'").await;
    browser
}

async fn answer(browser: &Browser, name: &str) {
    browser.run("document.querySelector('dialog input').value = arguments[0];", name).await;
    browser.choose("Save").await;
}

#[tokio::test]
async fn a_first_visit_asks_for_a_name_and_later_ones_do_not() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).start();
    for (kind, name) in [(Kind::DESKTOP, "Ann & Eve"), (Kind::PHONE, "安")] {
        let [mut bob] = Chat::members(&server).await;
        let ann = look_at(kind, &server).await;
        ann.picture(&format!("first-visit-{}", name.len())).await;
        assert_eq!(ann.see("at('state').dataset.state ?? ''").await, "", "nobody is connected yet");
        answer(&ann, name).await;
        ann.is_ready().await;
        // She comes with it, and is not renamed.
        assert_eq!(bob.next().await["content"]["user_name"], name);
        ann.until(&format!("text('#me .name') === {}", json!(name))).await;
        ann.reload().await;
        ann.is_ready().await;
        ann.until(&format!("!at('dialog').open && text('#me .name') === {}", json!(name))).await;
        assert_eq!(bob.until("join").await["content"]["user_name"], name);
        drop(ann);
        bob.until("leave").await;
        bob.leave().await;
    }
}

#[tokio::test]
async fn who_closes_the_dialog_is_given_a_name() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = look_at(Kind::DESKTOP, &server).await;
    ann.run("at('dialog').close();", Value::Null).await;
    ann.is_ready().await;
    ann.until("text('#me .name') === 'User1'").await;
}

#[tokio::test]
async fn a_name_that_is_reserved_is_told_and_asked_again() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&["Boss"], &[]).await;
    let server = Launch::with_shards(1).flag("--data", accounts.path().display()).start();
    let ann = look_at(Kind::DESKTOP, &server).await;
    answer(&ann, "BOSS").await;
    ann.until("at('dialog').open && text('dialog .error') === 'Name is reserved'").await;
    assert_eq!(ann.see("document.querySelector('dialog input').value").await, "User1");
    answer(&ann, "Ann").await;
    ann.until("!at('dialog').open && text('#me .name') === 'Ann'").await;
    assert_eq!(ann.see("localStorage.name").await, "Ann");
}

#[tokio::test]
async fn who_signs_in_at_once_is_connected() {
    let _stage = stage().await;
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = Launch::with_shards(1).flag("--data", accounts.path().display()).start();
    let ann = look_at(Kind::DESKTOP, &server).await;
    ann.choose("Sign in").await;
    sign_in(&ann, "Ann", &password_of("Ann")).await;
    ann.until("!at('dialog').open && text('#me .name') === 'Ann'").await;
    ann.is_ready().await;
    assert_eq!(ann.see("text('#state')").await, "Connected");
}

#[tokio::test]
async fn where_nothing_may_be_stored_one_is_called_so_nevertheless() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = look_at(Kind::DESKTOP, &server).await;
    let statements = "for (const name of ['localStorage', 'sessionStorage']) {
            Object.defineProperty(window, name, { get() { throw new Error('blocked'); } });
        }";
    ann.run(statements, Value::Null).await;
    answer(&ann, "Ann").await;
    ann.is_ready().await;
    ann.until("!at('dialog').open && text('#me .name') === 'Ann'").await;
}
