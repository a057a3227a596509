//! Rooms that talk faster than anybody reads.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch};
use crate::tell;

const PER_SECOND: usize = 200;

/// Lets a room talk for so many seconds, and returns the longest time between two frames in milliseconds.
async fn longest_frame_ms(seconds: usize) -> f64 {
    let _stage = stage().await;
    let server = Launch::with_shards(1).without_rate_limit().start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    let statements = "window.longest = 0;
        let last = performance.now();
        (function frame(now) {
            window.longest = Math.max(window.longest, now - last);
            last = now;
            requestAnimationFrame(frame);
        })(last);";
    ann.run(statements, "").await;
    let mut pace = interval(Duration::from_secs(1) / u32::try_from(PER_SECOND).unwrap());
    // Late by a moment, it catches up: the room says as much as it should.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let count = PER_SECOND * seconds;
    for number in 1..=count {
        pace.tick().await;
        tell(&mut bob, &format!("{number}: something to say, about as long as people write")).await;
    }
    // The last one is on the screen, below a bounded number of others.
    let is_shown = format!("all('#timeline .text').at(-1)?.textContent.startsWith('{count}: ')");
    ann.until(&is_shown).await;
    let shown = ann.said().await.len();
    assert!((100..=700).contains(&shown), "{shown} lines are on the page");
    let longest_ms = ann.see("window.longest").await.as_f64().unwrap();
    eprintln!("{PER_SECOND} messages a second for {seconds} s: no frame took longer than {longest_ms:.0} ms");
    longest_ms
}

#[tokio::test]
async fn a_fast_room_is_followed() {
    assert!(longest_frame_ms(5).await > 0.0);
}

#[tokio::test]
#[ignore = "a measurement, for a quiet machine"]
async fn a_minute_of_a_fast_room_has_no_frame_over_a_tenth_of_a_second() {
    let longest_ms = longest_frame_ms(60).await;
    assert!(longest_ms <= 100.0, "{longest_ms} ms");
}
