//! Rooms by the hundred, rooms that are not listed, and what was said in one long ago.

use serde_json::{Value, json};

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch};
use crate::tell;

/// Writes into the field below *Rooms*, as a keyboard would.
async fn find(browser: &Browser, name: &str) {
    let statements =
        "at('find-room').value = arguments[0]; at('find-room').dispatchEvent(new Event('input'));";
    browser.run(statements, name).await;
}

#[tokio::test]
async fn five_hundred_rooms_are_listed_found_and_entered() {
    let _stage = stage().await;
    let names: Vec<String> = (0..500).map(|number| format!("team-{number:03}")).collect();
    let server = Launch::with_shards(2).flag("--rooms", format!("general,{}", names.join(","))).start();
    for kind in [Kind::DESKTOP, Kind::PHONE] {
        let ann = Browser::enter(kind, &server).await;
        let [mut bob] = Chat::members(&server).await;
        ann.until("all('#rooms li').length === 500").await;
        // Somebody who comes and goes does not stop the page, though the list is painted again.
        ann.run("window.begun = performance.now(); dispatchEvent(new Event('resize'));", Value::Null).await;
        bob.move_to("team-499").await;
        tell(&mut bob, "one").await;
        find(&ann, "team-49").await;
        ann.until("all('#rooms li').filter((one) => one.innerText.includes('team-49')).length >= 10").await;
        ann.picture("rooms").await;
        find(&ann, "team-499").await;
        ann.run("at('find-room').form.requestSubmit();", Value::Null).await;
        ann.until("text('#title') === '# team-499'").await;
        ann.until("all('#timeline .text').at(-1)?.textContent === 'one'").await;
        assert_eq!(ann.see("at('find-room').value").await, "");
        drop(ann);
        bob.until("leave").await;
        bob.leave().await;
    }
}

#[tokio::test]
async fn a_room_that_there_is_not_is_said_so() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    find(&ann, "no: where").await;
    ann.run("at('find-room').form.requestSubmit();", Value::Null).await;
    ann.until("text('.notice.bad') === 'Unknown room: no: where'").await;
    // She is where she was, and can write.
    ann.say("still here").await;
    assert_eq!(bob.until("message").await["content"], "still here");
}

#[tokio::test]
async fn who_scrolls_up_sees_what_was_said_before_and_keeps_the_place() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).without_rate_limit().flag("--history", 1_010).start();
    let [mut bob] = Chat::members(&server).await;
    for number in 1..=1_000 {
        tell(&mut bob, &format!("word {number}")).await;
    }
    for kind in [Kind::DESKTOP, Kind::PHONE] {
        let ann = Browser::enter(kind, &server).await;
        ann.until("all('.text').length === 300 && at('timeline').scrollTop > 0").await;
        let mut lines = 300;
        while lines < 1_000 {
            let up = "window.reader = all('.text')[0]; at('timeline').scrollTop = 0;
                window.place = reader.getBoundingClientRect().top;";
            ann.run(up, Value::Null).await;
            ann.until(&format!("all('.text').length > {lines}")).await;
            // What was the first line has stayed where it was on the screen.
            ann.until("Math.abs(reader.getBoundingClientRect().top - place) < 40").await;
            lines = ann.see("all('.text').length").await.as_u64().unwrap();
        }
        ann.picture("history").await;
        assert_eq!(lines, 1_000);
        let said = ann.said().await;
        assert!((1..=1_000).zip(&said).all(|(number, said)| *said == format!("word {number}")), "{said:?}");
        // There is nothing before the first, and news do not move her.
        ann.run("at('timeline').scrollTop = 0; window.reader = all('.text')[0];", Value::Null).await;
        ann.run("window.place = reader.getBoundingClientRect().top;", Value::Null).await;
        let news = tell(&mut bob, "news").await;
        ann.until("text('#to-end') === '1 new messages'").await;
        assert_eq!(ann.see("reader.isConnected").await, true);
        assert_eq!(ann.see("Math.abs(reader.getBoundingClientRect().top - place) < 40").await, true);
        ann.click("#to-end").await;
        ann.until("all('.text').at(-1).textContent === 'news'").await;
        bob.say(json!({"type": "delete_message", "message_id": news})).await;
        bob.until("message_deleted").await;
        drop(ann);
        bob.until("leave").await;
    }
}

#[tokio::test]
async fn rooms_are_created_by_their_name_and_refusals_are_told() {
    let _stage = stage().await;
    let server = Launch::with_shards(2).flag("--room-pattern", "team-*").flag("--rooms-max", 1).start();
    for kind in [Kind::DESKTOP, Kind::PHONE] {
        let ann = Browser::enter(kind.clone(), &server).await;
        find(&ann, "team-tea").await;
        ann.run("at('find-room').form.requestSubmit();", Value::Null).await;
        ann.until("text('#title') === '# team-tea'").await;
        ann.until(
            "all('#rooms [aria-current]').length === 1 && text('#rooms [aria-current]') === '# team-tea1'",
        )
        .await;
        let mut bob = Chat::enter(&server).await;
        bob.move_to("team-tea").await;
        ann.until("text('#subtitle') === '2 online'").await;
        ann.say("tea?").await;
        assert_eq!(bob.until("message").await["content"], "tea?");
        find(&ann, "team-too").await;
        ann.run("at('find-room').form.requestSubmit();", Value::Null).await;
        ann.until("all('.notice.bad').at(-1)?.textContent === 'Too many rooms'").await;
        find(&ann, "club").await;
        ann.run("at('find-room').form.requestSubmit();", Value::Null).await;
        ann.until("all('.notice.bad').at(-1)?.textContent === 'Unknown room: club'").await;
        // She is where she was, and can write.
        ann.say("still here").await;
        assert_eq!(bob.until("message").await["content"], "still here");
        if ann.see("innerWidth").await == 390 {
            ann.picture("created-phone").await;
            ann.click("[aria-controls=talks]").await;
            ann.until("at('talks').getBoundingClientRect().left === 0").await;
        }
        ann.picture(if ann.see("innerWidth").await == 390 { "created-phone-rooms" } else { "created" }).await;
        drop(ann);
        bob.until("leave").await;
    }
}

#[tokio::test]
async fn marks_are_kept_while_somebody_looks_for_another_room() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).flag("--rooms", "general,tea,cake").start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    ann.until("all('#rooms li').length === 3").await;
    bob.move_to("tea").await;
    tell(&mut bob, "one").await;
    find(&ann, "ca").await;
    ann.until("document.title.startsWith('(1) ')").await;
    ann.until("all('#rooms li').map((one) => one.innerText).join().includes('cake')").await;
    assert_eq!(ann.see("text('#rooms').includes('tea')").await, false);
}
