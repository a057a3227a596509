//! Browsers on several servers that share their rooms.

use crate::browser::{Browser, Kind, stage};
use crate::harness::Launch;
use crate::harness::cluster::new_redis_database;
use crate::line::Line;

#[tokio::test]
async fn whoever_loses_its_server_goes_on_at_another_and_misses_nothing() {
    let _stage = stage().await;
    let redis = new_redis_database();
    let node = |name| Launch::with_shards(1).flag("--redis", &redis).flag("--node", name).start();
    let (a, b) = (node("a"), node("b"));
    let line = Line::to(a.address()).await;
    let ann = Browser::open(Kind::DESKTOP).await;
    ann.visit(&format!("http://{}/", line.address)).await;
    ann.is_ready().await;
    ann.be_called("Ann").await;
    let bob = Browser::enter(Kind::DESKTOP, &b).await;
    bob.be_called("Bob").await;
    let members = "all('.member .name').map((one) => one.textContent).join() === 'Ann,Bob'";
    ann.until(members).await;
    bob.until(members).await;
    ann.say("from a").await;
    bob.has_heard(&["from a"]).await;
    bob.say("from b").await;
    ann.has_heard(&["from a", "from b"]).await;
    ann.picture("cluster-ann").await;
    bob.picture("cluster-bob").await;
    // It is killed, and has no time to say farewell.
    line.lead_to(b.address());
    drop(a);
    ann.until("at('state').dataset.state === 'lost'").await;
    bob.say("meanwhile").await;
    ann.has_heard(&["from a", "from b", "meanwhile"]).await;
    ann.until("all('.notice').some((one) => one.textContent === 'Connected again. Nothing was missed.')")
        .await;
    // She is still herself.
    ann.until("text('#me .name') === 'Ann'").await;
    bob.until(members).await;
    ann.say("from b, too").await;
    let all = ["from a", "from b", "meanwhile", "from b, too"];
    bob.has_heard(&all).await;
    ann.has_heard(&all).await;
    ann.picture("cluster-ann-moved").await;
}
