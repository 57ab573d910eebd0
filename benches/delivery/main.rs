//! What a delivery costs: `cargo bench --bench delivery`. Opens thousands of streams at a release
//! build of the server, posts, and checks that every stream gets every message once and in order;
//! then does the same with the floor, a bare epoll loop that sends the same bytes with one `send`
//! per delivery. What counts are the ratios: the load shares the machine with both.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

mod floor;
mod load;
#[path = "../support/process.rs"]
mod process;

use std::time::Duration;

use load::{Load, Outcome, Pace};
use process::Served;

/// One way of using a server.
struct Scenario {
    name: &'static str,
    rooms: usize,
    streams_per_room: usize,
    pace: Pace,
    posts: usize,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "1,000 streams, one room, one post at a time",
        rooms: 1,
        streams_per_room: 1_000,
        pace: Pace::BackToBack,
        posts: 1_000,
    },
    Scenario {
        name: "9,000 streams, one room, one post at a time",
        rooms: 1,
        streams_per_room: 9_000,
        pace: Pace::BackToBack,
        posts: 120,
    },
    Scenario {
        name: "1,000 streams, one room, 200 posts/s",
        rooms: 1,
        streams_per_room: 1_000,
        pace: Pace::Every(Duration::from_millis(5)),
        posts: 2_000,
    },
    Scenario {
        name: "1,000 rooms of 9 streams, 1,000 posts/s",
        rooms: 1_000,
        streams_per_room: 9,
        pace: Pace::Every(Duration::from_millis(1)),
        posts: 10_000,
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|argument| argument == "floor")
    {
        return floor::serve(&std::env::var("BIND_ADDR").unwrap());
    }
    println!(
        "| | server | CPU per delivery | all received, p50 / p99 | one stream, p50 / p99 / max | memory per idle stream | connecting |"
    );
    println!("|---|---|---|---|---|---|---|");
    for scenario in &SCENARIOS {
        let floor = measure(scenario, Served::bare("floor", &[]));
        print_row(scenario, "floor", &floor, None);
        let parlor = measure(scenario, Served::parlor());
        print_row(scenario, "Parlor", &parlor, Some(&floor));
    }
}

fn measure(scenario: &Scenario, mut served: Served) -> Outcome {
    let rooms: Vec<String> = (0..scenario.rooms).map(|n| format!("room-{n}")).collect();
    served.make(&rooms);
    let mut load = Load::new(&served, rooms);
    load.open(scenario.streams_per_room, &served);
    load.post(scenario.posts, scenario.pace, &served)
}

fn print_row(scenario: &Scenario, server: &str, outcome: &Outcome, floor: Option<&Outcome>) {
    let times = |of: fn(&Outcome) -> f64| match floor {
        Some(floor) => format!(" ({:.2} ×)", of(outcome) / of(floor)),
        None => String::new(),
    };
    let ms = |us: u64| format!("{:.1}", us as f64 / 1_000.0);
    println!(
        "| {} | {server} | {:.2} µs{} | {} / {} ms{} | {} / {} / {} ms | {:.1} KB | {:.1} s |",
        scenario.name,
        outcome.cpu_per_delivery_us,
        times(|outcome| outcome.cpu_per_delivery_us),
        ms(outcome.all.value_at_quantile(0.5)),
        ms(outcome.all.value_at_quantile(0.99)),
        times(|outcome| outcome.all.value_at_quantile(0.5) as f64),
        ms(outcome.each.value_at_quantile(0.5)),
        ms(outcome.each.value_at_quantile(0.99)),
        ms(outcome.each.max()),
        outcome.idle_stream_kb,
        outcome.connecting.as_secs_f64(),
    );
}
