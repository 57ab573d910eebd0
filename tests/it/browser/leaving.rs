//! Leaving a room, on the page that lists its people.

use super::at_tea;
use super::looks::Look;

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_led_out_everywhere() {
    let (_server, ben, ana) = at_tea().await;
    // From elsewhere: the page that is open says what can be done.
    ana.evaluate("fetch('/rooms/tea/leave', { method: 'POST' }), 0")
        .await;
    ana.sees("You have not entered this room yet.").await;
    ana.clicks("main .primary").await;
    ana.is_following().await;
    ben.says("tea", "welcome back").await;
    ana.shows(&["welcome back"]).await;

    ana.clicks(".bar h1 a").await;
    ana.sees("@ben").await;
    ana.clicks(".leave summary").await;
    Look::with(&ana).at("people").await;
    ana.clicks(".leave .danger").await;
    ana.sees("You are in no room yet").await;
    let log = ben.log("tea").await;
    let kinds: Vec<&str> = log
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let expected = ["joined", "joined", "left", "joined", "message", "left"];
    assert_eq!(kinds, expected);
}
