//! Screens, languages, and people who use no mouse.

use fantoccini::key::Key;
use serde_json::json;

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch};
use crate::tell;

#[tokio::test]
async fn on_a_phone_the_sides_are_drawers() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::PHONE, &server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, &"a long word and ".repeat(40)).await;
    tell(&mut bob, &"unbroken".repeat(60)).await;
    ann.until("all('#timeline .text').length === 2").await;
    assert_eq!(ann.see("document.documentElement.scrollWidth <= 390").await, true);
    assert_eq!(ann.see("at('talks').inert && at('members-panel').inert").await, true);
    ann.click("[aria-controls=talks]").await;
    ann.until("!at('talks').inert && at('talks').getBoundingClientRect().left === 0").await;
    ann.choose("random").await;
    ann.until("at('talks').inert && text('#title') === '# random'").await;
    ann.click("[aria-controls=members-panel]").await;
    ann.until("!at('members-panel').inert && at('members-panel').getBoundingClientRect().right === 390")
        .await;
    ann.press(Key::Escape).await;
    ann.until("at('members-panel').inert && document.activeElement.matches('[aria-controls=members-panel]')")
        .await;
    ann.say("from the phone").await;
    ann.until("all('[data-state=sent]').length === 1").await;
    let tall = "all('#composer button, main > header button').filter((one) => one.offsetHeight).every((one) => one.offsetHeight >= 36)";
    assert_eq!(ann.see(&format!("all('#composer button').length === 3 && {tall}")).await, true);
}

#[tokio::test]
async fn the_page_speaks_chinese_to_those_who_do() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::CHINESE, &server).await;
    assert_eq!(ann.see("document.documentElement.lang").await, "zh-CN");
    ann.until("text('#rooms-title') === '房间' && text('#subtitle') === '1 人在线'").await;
    assert_eq!(ann.see("at('text').placeholder.includes('中发言')").await, true);
    ann.say("你好，世界").await;
    ann.has_heard(&["你好，世界"]).await;
    ann.until("document.querySelector('.own .mark').title === '已发送'").await;
    let [mut bob] = Chat::members(&server).await;
    bob.say(json!({"type": "set_name", "name": "小明"})).await;
    ann.until("text('.notice:last-child') === 'User2 改名为 小明'").await;
    // Nothing was left without words.
    assert_eq!(
        ann.see(
            "all('[data-text], [data-label]').every((one) => /[一-龥]/.test(one.textContent + one.ariaLabel))"
        )
        .await,
        true
    );
}

#[tokio::test]
async fn enter_does_not_send_while_a_word_is_being_composed() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::CHINESE, &server).await;
    let statements = "at('text').value = '你';
        at('text').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }));";
    ann.run(statements, json!(null)).await;
    assert_eq!(ann.see("at('text').value").await, "你");
    assert!(ann.said().await.is_empty());
}

#[tokio::test]
async fn everything_is_reached_by_keyboard_and_has_a_name() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "one").await;
    ann.has_heard(&["one"]).await;
    let nameless = "all('button, input, textarea, [role]').filter((one) => one.checkVisibility() && !(one.innerText?.trim() || one.ariaLabel \
        || one.placeholder || one.labels?.length || one.getAttribute('aria-labelledby') || one.matches('[role=presentation], [role=status], [role=option]')))\
        .map((one) => one.outerHTML)";
    assert_eq!(ann.see(nameless).await, json!([]));
    assert_eq!(ann.see("at('timeline').getAttribute('role')").await, "log");
    // Somebody who does not see the message hears of it.
    assert_eq!(ann.see("at('timeline').ariaLive").await, "polite");
    // From the search down into the list, to a person, and into a talk.
    ann.click("#search").await;
    ann.write("#search", "user2").await;
    ann.until("all('.member').length === 1").await;
    ann.press(Key::Down).await;
    ann.press(Key::Enter).await;
    ann.until("at('dialog').open && text('.portrait .name') === 'User2'").await;
    ann.press(Key::Enter).await;
    ann.until("text('#title') === 'User2' && document.activeElement === at('text')").await;
    // Focus is visible wherever it goes.
    for _ in 0..12 {
        ann.press(Key::Tab).await;
        let is_visible = "document.activeElement === document.body || document.activeElement.matches('#text') \
            || getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        assert_eq!(ann.see(is_visible).await, true);
    }
}

#[tokio::test]
async fn a_long_history_opens_at_its_end() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let [mut bob] = Chat::members(&server).await;
    for number in 0..60 {
        tell(&mut bob, &format!("{number} {}", "many words and ".repeat(270))).await;
    }
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    ann.until("all('#timeline .text').length === 60").await;
    // The last line is on the screen, and stays there.
    ann.until("(() => { const log = at('timeline'); return log.scrollHeight - log.scrollTop - log.clientHeight < 2; })()")
        .await;
    assert_eq!(ann.see("at('to-end').hidden").await, true);
}
