//! Rooms that talk faster than anybody reads.

use std::time::Duration;

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::browser::{Browser, Kind, stage};
use crate::harness::{Chat, Launch};
use crate::tell;

const PER_SECOND: usize = 200;

/// Messages, all of which fit on the page.
const BURST: usize = 280;

/// Lets a room talk for so many seconds, and returns the longest time between two frames in milliseconds.
async fn longest_frame_ms(seconds: usize) -> f64 {
    let _stage = stage().await;
    let server = Launch::with_shards(1).without_rate_limit().start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    let statements = "window.longest = 0;
        window.longestTask = 0;
        const request = requestAnimationFrame;
        window.requestAnimationFrame = (call) => request((now) => {
            const start = performance.now();
            call(now);
            longestTask = Math.max(longestTask, performance.now() - start);
        });
        let last = performance.now();
        (function frame(now) {
            window.longest = Math.max(window.longest, now - last);
            last = now;
            request(frame);
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
    let task_ms = ann.see("window.longestTask").await.as_f64().unwrap();
    eprintln!(
        "{PER_SECOND} messages a second for {seconds} s: at most {longest_ms:.0} ms between two frames, \
         of which the page's script and layout took at most {task_ms:.1} ms"
    );
    longest_ms
}

#[tokio::test]
async fn a_fast_room_is_followed() {
    assert!(longest_frame_ms(5).await > 0.0);
}

/// Frames are run by hand, so that what the page does in each can be counted and timed apart from what the
/// browser and the machine do.
#[tokio::test]
async fn a_burst_is_shown_over_many_frames_of_little_work() {
    let _stage = stage().await;
    let server = Launch::with_shards(1).without_rate_limit().start();
    let ann = Browser::enter(Kind::DESKTOP, &server).await;
    let [mut bob] = Chat::members(&server).await;
    ann.until("text('#members-count') === '2'").await;
    ann.run("window.held = []; window.requestAnimationFrame = (call) => held.push(call);", "").await;
    for number in 0..BURST {
        tell(&mut bob, &format!("{number}: something to say, about as long as people write")).await;
    }
    // What is typed is told at once, so everything before it has arrived.
    bob.say(json!({"type": "typing", "is_typing": true})).await;
    ann.until("text('#typing') !== ''").await;
    let statements = "window.frames_run = [];
        while (held.length && frames_run.length < 1000) {
            const before = all('#timeline .text').length, start = performance.now();
            held.splice(0).forEach((call) => call(start));
            const ms = performance.now() - start;
            frames_run.push({ added: all('#timeline .text').length - before, ms });
        }";
    ann.run(statements, "").await;
    assert_eq!(ann.said().await.len(), BURST);
    let added_max = ann.see("Math.max(...frames_run.map(({ added }) => added))").await.as_u64().unwrap();
    assert!((1..=50).contains(&added_max), "one frame added {added_max} lines");
    // Another process may take the processor within a frame, but not within most of the frames.
    let sorted = "frames_run.filter(({ added }) => added).map(({ ms }) => ms).sort((a, b) => a - b)";
    let longest_ms = ann.see(&format!("{sorted}.at(-1)")).await.as_f64().unwrap();
    let middle_ms = ann.see(&format!("{sorted}[Math.floor({sorted}.length / 2)]")).await.as_f64().unwrap();
    eprintln!(
        "{added_max} lines in a frame: script and layout took {middle_ms:.1} ms, at most {longest_ms:.1} ms"
    );
    assert!(middle_ms <= 100.0, "a frame of {added_max} lines took {middle_ms} ms");
}

#[tokio::test]
#[ignore = "a measurement, for a quiet machine"]
async fn a_minute_of_a_fast_room_has_no_frame_over_a_tenth_of_a_second() {
    let longest_ms = longest_frame_ms(60).await;
    assert!(longest_ms <= 100.0, "{longest_ms} ms");
}
