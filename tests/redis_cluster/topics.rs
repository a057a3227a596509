//! Raw topics of several nodes.

use crate::harness::Socket;
use crate::nodes::start_two;
use crate::redis::Redis;

/// Messages of each sender.
const COUNT: usize = 100;

const TOPIC: &str = "/broadcast/x";

#[tokio::test]
async fn a_topic_has_one_order_on_all_nodes() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    // It is idle: nobody else is there.
    let mut first = Socket::connect(&a, TOPIC).await;
    first.send("to myself").await;
    assert_eq!(first.text().await, "to myself");
    let mut second = Socket::connect(&b, TOPIC).await;
    for (sender, content) in [(true, "from a"), (false, "from b")] {
        let from = if sender { &mut first } else { &mut second };
        from.send(content).await;
        assert_eq!((first.text().await, second.text().await), (content.to_owned(), content.to_owned()));
    }

    let say = |name: &'static str| (0..COUNT).map(move |number| format!("{name} {number}").into());
    tokio::join!(first.send_all(say("a")), second.send_all(say("b")));
    let mut orders = [Vec::new(), Vec::new()];
    for (listener, order) in [&mut first, &mut second].into_iter().zip(&mut orders) {
        for _ in 0..2 * COUNT {
            order.push(listener.text().await);
        }
    }
    assert_eq!(orders[0], orders[1]);
    for name in ["a", "b"] {
        let own = orders[0].iter().filter(|content| content.starts_with(name));
        let wanted: Vec<String> = (0..COUNT).map(|number| format!("{name} {number}")).collect();
        assert!(own.eq(&wanted), "{name}: {:?}", orders[0]);
    }
}
