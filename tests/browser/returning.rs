//! Lines that break, and servers that start anew.

use std::time::Duration;

use serde_json::json;

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch, Server};
use crate::line::Line;
use crate::tell;

/// A browser whose connection to the server can be broken.
async fn enter_over_a_line(server: &Server) -> (Line, Browser) {
    let line = Line::to(server.address()).await;
    let browser = Browser::open(Kind::DESKTOP).await;
    browser.visit(&format!("http://{}/", line.address)).await;
    browser.is_ready().await;
    (line, browser)
}

#[tokio::test]
async fn after_a_broken_line_nothing_is_missed_and_nothing_doubled() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).start();
    let (line, ann) = enter_over_a_line(&server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "one").await;
    ann.say("two").await;
    ann.has_heard(&["one", "two"]).await;
    bob.until("message").await;
    for round in 0..3 {
        line.cut();
        ann.until("at('state').dataset.state === 'lost'").await;
        tell(&mut bob, &format!("missed {round}")).await;
        // What is written meanwhile waits.
        ann.say(&format!("waiting {round}")).await;
        ann.until("all('[data-state=waiting]').length === 1").await;
        line.mend();
        ann.reconnect().await;
        ann.until("all('[data-state=waiting], [data-state=sending]').length === 0").await;
    }
    let all = ["one", "two", "missed 0", "waiting 0", "missed 1", "waiting 1", "missed 2", "waiting 2"];
    ann.has_heard(&all).await;
    // The room has each of them once, and in the order in which she sees them.
    let mut late = Chat::connect(&server).await;
    let history = late.until("history").await;
    let kept: Vec<_> = history["content"].as_array().unwrap().iter().map(|kept| &kept["content"]).collect();
    assert_eq!(json!(kept), json!(all));
    ann.until("all('.notice').some((one) => one.textContent === 'Connected again. Nothing was missed.')")
        .await;
}

#[tokio::test]
async fn what_is_no_longer_kept_is_owned_up_to() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).flag("--history", 2).start();
    let (line, ann) = enter_over_a_line(&server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "one").await;
    ann.has_heard(&["one"]).await;
    line.cut();
    ann.until("at('state').dataset.state === 'lost'").await;
    for text in ["two", "three", "four", "five"] {
        tell(&mut bob, text).await;
    }
    line.mend();
    ann.reconnect().await;
    ann.has_heard(&["one", "four", "five"]).await;
    ann.until("all('.notice.bad').at(-1).textContent === 'Some messages in between are no longer kept.'")
        .await;
}

#[tokio::test]
async fn a_page_comes_back_to_a_server_that_started_anew() {
    let _stage = stage().await;
    let launch = Launch::with_shards(1);
    let server = launch.clone().start();
    let address = server.address();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    ann.be_called("Ann").await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "before").await;
    ann.choose_member("User2").await;
    ann.choose("Private message").await;
    ann.say("to you").await;
    bob.until("private_message").await;
    drop(server);
    ann.until("at('state').dataset.state === 'lost'").await;
    let server = launch.at(address).start();
    ann.is_ready().await;
    // She has her name and her room again, and is told that what she sees is all there is.
    ann.until("text('#me .name') === 'Ann'").await;
    let [mut other, mut bob] = Chat::members(&server).await;
    // Whoever has the id now is not the one she talked to.
    ann.until("at('text').disabled && !at('barrier').hidden").await;
    ann.choose("general").await;
    ann.until("text('.notice.bad').includes('started anew')").await;
    ann.say("after").await;
    assert_eq!(bob.until("message").await["content"], "after");
    tell(&mut other, "indeed").await;
    ann.has_heard(&["before", "after", "indeed"]).await;
}

#[tokio::test]
async fn a_line_that_fell_silent_is_noticed() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let (line, ann) = enter_over_a_line(&server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "one").await;
    ann.has_heard(&["one"]).await;
    line.silence();
    tell(&mut bob, "two").await;
    // Nothing is heard for 20 s, and no answer comes within 5.
    ann.until_within(Duration::from_secs(40), "all('#timeline .text').length === 2").await;
    ann.has_heard(&["one", "two"]).await;
}

#[tokio::test]
async fn a_page_that_wakes_up_asks_at_once_whether_its_line_holds() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let (line, ann) = enter_over_a_line(&server).await;
    let [mut bob] = Chat::members(&server).await;
    for (target, name) in [("window", "online"), ("document", "visibilitychange")] {
        line.silence();
        tell(&mut bob, name).await;
        ann.run(&format!("{target}.dispatchEvent(new Event('{name}'));"), "").await;
        ann.until(&format!("all('#timeline .text').at(-1)?.textContent === '{name}'")).await;
        // It holds, and is kept.
        ann.run(
            &format!("window.notices = all('.notice').length; {target}.dispatchEvent(new Event('{name}'));"),
            "",
        )
        .await;
        ann.run("window.asked = performance.now();", "").await;
        ann.until("performance.now() - window.asked > 4000").await;
        assert_eq!(ann.see("all('.notice').length === window.notices").await, true);
    }
}

#[tokio::test]
async fn a_message_in_doubt_is_known_by_its_author() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let (line, ann) = enter_over_a_line(&server).await;
    ann.be_called("Ann").await;
    let [mut bob] = Chat::members(&server).await;
    // Another Ann says the same while hers is lost.
    bob.say(json!({"type": "set_name", "name": "Ann"})).await;
    bob.until("name_changed").await;
    line.silence();
    ann.say("yes").await;
    tell(&mut bob, "yes").await;
    line.cut();
    ann.until("at('state').dataset.state === 'lost'").await;
    line.mend();
    ann.reconnect().await;
    ann.until("text('[data-state=failed] .mark').includes('Perhaps not sent')").await;
    ann.has_heard(&["yes", "yes"]).await;
    ann.choose("Try again").await;
    ann.until("all('[data-state=sent]').length === 1").await;
    assert_eq!(bob.until("message").await["content"], "yes");
    // Hers arrives, behind what she hears, and only the answer is lost.
    line.deafen();
    ann.say("indeed").await;
    assert_eq!(bob.until("message").await["content"], "indeed");
    line.cut();
    ann.until("at('state').dataset.state === 'lost'").await;
    line.mend();
    ann.reconnect().await;
    ann.until("all('[data-state=sent]').length === 2").await;
    assert_eq!(ann.said().await.last().unwrap(), "indeed");
    assert_eq!(ann.said().await.len(), 3);
}

#[tokio::test]
async fn a_page_below_a_prefix_finds_its_server() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let line = Line::under("/some/where", server.address()).await;
    let [mut bob] = Chat::members(&server).await;
    for page in ["/some/where/", "/some/where/chat?a=b#c"] {
        let ann = Browser::open(Kind::DESKTOP).await;
        ann.visit(&format!("http://{}{page}", line.address)).await;
        ann.is_ready().await;
        ann.say(page).await;
        assert_eq!(bob.until("message").await["content"], page);
    }
}

#[tokio::test]
async fn a_room_that_began_anew_is_not_taken_for_the_old_one() {
    let _stage = stage().await;
    // Both servers start within a second or two, which no clock tells apart.
    let ann = Browser::open(Kind::DESKTOP).await;
    let launch = Launch::with_shards(1);
    let server = launch.clone().start();
    let address = server.address();
    let line = Line::to(address).await;
    ann.visit(&format!("http://{}/", line.address)).await;
    ann.is_ready().await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "old").await;
    ann.has_heard(&["old"]).await;
    line.cut();
    ann.until("at('state').dataset.state === 'lost'").await;
    drop(server);
    let server = launch.at(address).start();
    let mut bob = Chat::connect(&server).await;
    // The new ids go beyond the old ones.
    for text in ["new", "newer", "newest"] {
        tell(&mut bob, text).await;
    }
    line.mend();
    ann.reconnect().await;
    ann.has_heard(&["old", "new", "newer", "newest"]).await;
    ann.until("all('.notice.bad').at(-1).textContent.includes('started anew')").await;
    assert_eq!(ann.see("all('.notice.bad').length").await, 1);
    // Another broken line, and it is the same room.
    line.cut();
    ann.until("at('state').dataset.state === 'lost'").await;
    tell(&mut bob, "missed").await;
    line.mend();
    ann.reconnect().await;
    ann.has_heard(&["old", "new", "newer", "newest", "missed"]).await;
    assert_eq!(ann.see("all('.notice.bad').length").await, 1);
}

#[tokio::test]
async fn a_full_server_is_named_and_tried_again() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).flag("--max-clients", 1).start();
    let [bob] = Chat::members(&server).await;
    let ann = Browser::open(Kind::DESKTOP).await;
    ann.visit(&format!("http://{}/", server.address())).await;
    ann.until("text('#state') === 'The server is full. Trying again…'").await;
    bob.leave().await;
    ann.is_ready().await;
}

#[tokio::test]
async fn over_a_restart_with_data_nothing_is_missed_and_nothing_doubled() {
    let _stage = stage().await;
    let data = tempfile::tempdir().unwrap();
    let launch = Launch::with_shards(2).flag("--data", data.path().display());
    let server = launch.clone().start();
    let address = server.address();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "one").await;
    ann.has_heard(&["one"]).await;
    ann.say("two").await;
    ann.until("all('[data-state=sent]').length === 1").await;
    // Killed, not asked to end.
    drop(server);
    ann.until("at('state').dataset.state === 'lost'").await;
    ann.say("four").await;
    let server = launch.at(address).start();
    let mut bob = Chat::connect(&server).await;
    tell(&mut bob, "a new word").await;
    ann.is_ready().await;
    ann.until("all('[data-state=sent]').length === 2").await;
    // Bob's word can be numbered after hers, and then reaches her after her own answer.
    ann.until("all('.text').length === 4").await;
    let mut said = ann.said().await;
    assert_eq!(said[..2], ["one", "two"]);
    said[2..].sort();
    assert_eq!(said[2..], ["a new word", "four"]);
    // What she sees is what the room has.
    let late = Browser::enter(Kind::DESKTOP, &server).await;
    late.until("all('.text').length === 4").await;
    assert_eq!(late.said().await, ann.said().await);
}

#[tokio::test]
async fn over_a_reload_and_a_broken_line_one_stays_who_one_was_and_where() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).start();
    let (line, ann) = enter_over_a_line(&server).await;
    ann.be_called("Ann").await;
    ann.choose("random").await;
    ann.until("text('#title') === '# random'").await;
    let own_id = "all('.member').find((one) => one.textContent.startsWith('AAnn')).id";
    let id = ann.see(own_id).await;
    ann.reload().await;
    ann.is_ready().await;
    let is_back =
        "text('#me .name') === 'Ann' && text('#title') === '# random' && all('.member').length === 1";
    ann.until(is_back).await;
    assert_eq!(ann.see(own_id).await, id);
    line.cut();
    ann.until("at('state').dataset.state === 'lost'").await;
    line.mend();
    ann.reconnect().await;
    ann.until("at('state').dataset.state === 'open'").await;
    ann.until(is_back).await;
    assert_eq!(ann.see(own_id).await, id);
}

#[tokio::test]
async fn who_goes_on_elsewhere_is_told_and_does_not_come_back_by_itself() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let session = ann.see("sessionStorage.session").await;
    let mut elsewhere =
        Chat::connect_at(&server, &format!("/chat?session={}", session.as_str().unwrap())).await;
    assert_eq!(elsewhere.until("welcome").await["content"]["user_name"], "User1");
    ann.until(
        "text('#state') === 'Closed by the server: session resumed elsewhere' && !at('reconnect').hidden",
    )
    .await;
    // Hers again, because she wants it.
    ann.choose("Connect now").await;
    ann.is_ready().await;
    assert_eq!(elsewhere.closed_in_the_end().await, (1008, "session resumed elsewhere".to_owned()));
    ann.until("text('#me .name') === 'User1' && all('.member').length === 1").await;
}

#[tokio::test]
async fn after_a_restart_the_page_comes_back_by_itself_in_its_slot() {
    let _stage = stage().await;
    let launch = Launch::with_shards(1);
    let mut server = launch.clone().start();
    let address = server.address();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let note = "window.slots = []; const wait = window.setTimeout;
        window.setTimeout = (act, ms, ...rest) => { slots.push(ms); return wait(act, ms, ...rest); };";
    ann.run(note, "").await;
    server.signal(rustix::process::Signal::TERM);
    ann.until("at('state').dataset.state === 'lost'").await;
    // She alone was let go, so her slot is at once; without it, she would wait for a quarter of a second or more.
    ann.until("slots.includes(0)").await;
    assert_eq!(server.exit().await.code(), Some(0));
    let _server = launch.at(address).start();
    ann.is_ready().await;
    ann.until("text('#me .name') === 'User1'").await;
}

#[tokio::test]
async fn a_name_that_was_chosen_without_a_connection_is_taken_with_the_next() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let (line, ann) = enter_over_a_line(&server).await;
    ann.be_called("Ann").await;
    line.cut();
    ann.until("at('state').dataset.state === 'lost'").await;
    ann.click("#me").await;
    ann.run("document.querySelector('dialog input').value = arguments[0];", "Anna").await;
    ann.choose("Save").await;
    ann.until("!at('dialog').open").await;
    line.mend();
    ann.reconnect().await;
    ann.until("text('#me .name') === 'Anna'").await;
}
