//! Names and messages that want to be more than text.

use serde_json::json;

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch};
use crate::tell;

const HOSTILE: [&str; 6] = [
    "<img src=x onerror=\"window.caught=1\">",
    "<script>window.caught=1</script>",
    "</div></li></ol><h1>Breaking news</h1>",
    "javascript:window.caught=1 data:text/html,<script>window.caught=1</script>",
    "\u{202e}desrever\u{2066} \u{200b}\u{feff}",
    "&lt;b&gt; \u{fffd} \u{1}\u{7f}",
];

#[tokio::test]
async fn what_others_write_is_text_and_nothing_else() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    let elements = "all('#timeline :is(img, script, h1, b, iframe, style)').length";
    for text in HOSTILE {
        tell(&mut bob, text).await;
    }
    ann.has_heard(&HOSTILE).await;
    let ann_id = ann.see("Number(all('.member')[0].id.slice('member-'.length))").await;
    for name in ["<b>bold</b>", "A\u{200b}nn", "\u{5d0}\u{5d1}", "\"'><i>x"] {
        bob.say(json!({"type": "set_name", "name": name})).await;
        bob.until("name_changed").await;
        tell(&mut bob, "under a name").await;
        bob.say(json!({"type": "private_message", "to_id": ann_id, "content": "<i>p</i>"})).await;
        bob.until("private_message_sent").await;
        ann.until(&format!("all('#timeline .author').at(-1).textContent === {}", json!(name))).await;
        ann.until(&format!("text('#private .name') === {}", json!(name))).await;
    }
    assert_eq!(ann.see(elements).await, 0);
    assert_eq!(ann.see("all('#private b, #private i, .member b').length").await, 0);
    assert_eq!(ann.see("all('#timeline a').length").await, 0);
    assert_eq!(ann.see("window.caught === undefined").await, true);
    // Names stand by themselves, so their direction is theirs alone.
    assert_eq!(ann.see("all('#timeline .author > :not(bdi)').length").await, 0);
}

#[tokio::test]
async fn only_web_addresses_become_links_and_they_tell_nobody_where_they_were() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    tell(&mut bob, "see https://example.org/a?b=<c>, (http://example.org). ftp://example.org JAVASCRIPT:x")
        .await;
    ann.until("all('#timeline a').length === 2").await;
    let links = ann.see("all('#timeline a').map((one) => [one.textContent, one.rel, one.target])").await;
    let rel = "noopener noreferrer nofollow";
    assert_eq!(
        links,
        json!([["https://example.org/a?b=", rel, "_blank"], ["http://example.org", rel, "_blank"]])
    );
}

#[tokio::test]
async fn an_address_ends_where_it_does_and_not_where_its_sentence_does() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    let addresses = [
        ("https://en.wikipedia.org/wiki/Rust_(language)", ""),
        ("https://en.wikipedia.org/wiki/Rust_(language)", "."),
        ("https://en.wikipedia.org/wiki/Rust_(language)", ")."),
        ("https://example.org/a_(b_(c))", "!?"),
        ("https://example.org/?list[]=1&list[]=2", "]"),
        ("https://zh.wikipedia.org/wiki/鐵鏽（語言）", "）。"),
        ("https://example.org/", "(("),
        ("https://example.org/a", ")".repeat(5_000).leak()),
    ];
    for (address, end) in addresses {
        tell(&mut bob, &format!("({address}{end}")).await;
        ann.until(&format!(
            "all('#timeline .text').at(-1)?.textContent === {}",
            json!(format!("({address}{end}"))
        ))
        .await;
        assert_eq!(ann.see("all('#timeline .text').at(-1).querySelector('a').textContent").await, address);
    }
}

#[tokio::test]
async fn the_policy_stops_what_would_slip_through() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    // As if a mistake of the page had let markup in.
    let statements = "window.stopped = [];
        document.addEventListener('securitypolicyviolation', (event) => window.stopped.push(event.effectiveDirective));
        const holder = document.createElement('div');
        holder.innerHTML = arguments[0];
        document.body.append(holder);
        const script = document.createElement('script');
        script.textContent = 'window.caught = 1';
        document.body.append(script);";
    let markup = "<img src='data:,' onerror='window.caught=1'><p style='color: red'>x</p>\
        <iframe src='https://example.org'></iframe>";
    ann.run(statements, markup).await;
    let directives = ["script-src-elem", "script-src-attr", "style-src-attr", "frame-src"];
    for directive in directives {
        ann.until(&format!("window.stopped.includes('{directive}')")).await;
    }
    assert_eq!(ann.see("window.caught === undefined").await, true);
}
