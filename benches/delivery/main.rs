//! The cost of a delivery: `cargo bench --bench delivery`. Opens thousands of streams at a release
//! build of the server, posts, and checks that every stream gets every message once and in order;
//! then does the same with the floor, a bare epoll loop that sends the same bytes with one `send`
//! per delivery. The ratios count: the load shares the machine with both.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

mod burst;
mod floor;
mod load;
#[path = "../support/process.rs"]
mod process;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load::{Load, Outcome, Pace};
use process::{Served, post_latency};

/// How often each is measured; the one in the middle, by its CPU time, counts.
const ROUNDS: usize = 3;

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
        posts: 400,
    },
    Scenario {
        name: "9,000 streams, one room, one post at a time",
        rooms: 1,
        streams_per_room: 9_000,
        pace: Pace::BackToBack,
        posts: 50,
    },
    Scenario {
        name: "1,000 streams, one room, 200 posts/s",
        rooms: 1,
        streams_per_room: 1_000,
        pace: Pace::Every(Duration::from_millis(5)),
        posts: 800,
    },
    Scenario {
        name: "1,000 rooms of 9 streams, 1,000 posts/s",
        rooms: 1_000,
        streams_per_room: 9,
        pace: Pace::Every(Duration::from_millis(1)),
        posts: 4_000,
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
    // One of them alone, by a part of its name.
    let is_asked = |name: &str| {
        let asked = arguments.iter().find(|argument| !argument.starts_with('-'));
        asked.is_none_or(|asked| name.contains(asked.as_str()))
    };
    println!(
        "| | server | deliveries/s | CPU per delivery | all received, p50 / p99 | one stream, p50 / p99 / max | memory per idle stream | connecting |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for scenario in SCENARIOS.iter().filter(|scenario| is_asked(scenario.name)) {
        // In turns, so that what else the machine does meets both.
        let rounds = || {
            (0..ROUNDS).map(|_| {
                (
                    measure(scenario, Served::bare("floor", &[])),
                    measure(scenario, Served::parlor()),
                )
            })
        };
        let (floor, parlor): (Vec<_>, Vec<_>) = rounds().unzip();
        let (floor, parlor) = (Outcome::median(floor), Outcome::median(parlor));
        print_row(scenario, "floor", &floor, None);
        print_row(scenario, "Parlor", &parlor, Some(&floor));
    }
    if is_asked("beside a crowd") {
        println!();
        posts_beside_a_crowd();
    }
    if is_asked("a burst of reactions") {
        println!();
        burst::measure();
    }
}

/// The cost of posting beside a room of 9,000 that is always being sent something; and beside the same
/// room, of posting to a floor of its own, which does nothing and stores nothing: what the machine takes, on
/// which the crowd's sender and its readers never rest.
fn posts_beside_a_crowd() {
    const EVERY: Duration = Duration::from_millis(10);
    let mut served = Served::parlor();
    let bare = Served::bare("floor", &[]);
    let rooms = vec!["crowd".to_owned()];
    served.make(&rooms);
    served.make(&["elsewhere".to_owned()]);
    let alone = |served| post_latency(served, "elsewhere", EVERY, |number| number == 1_000);
    let idle = [alone(&bare), alone(&served)];
    let mut load = Load::new(&served, rooms);
    load.open(9_000, &served);
    let is_over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        let is_over = &is_over;
        let measuring = [&bare, &served].map(|served| {
            scope.spawn(move || {
                post_latency(served, "elsewhere", EVERY, |_| {
                    is_over.load(Ordering::Relaxed)
                })
            })
        });
        load.post(120, Pace::BackToBack, &served);
        is_over.store(true, Ordering::Relaxed);
        measuring.map(|measuring| measuring.join().unwrap())
    });
    let ms = |took: &hdrhistogram::Histogram<u64>, at| took.value_at_quantile(at) as f64 / 1_000.0;
    println!("| a post’s latency, p50 / p99 | on an idle server | beside a room of 9,000 | p99 |");
    println!("|---|---|---|---|");
    for (name, (idle, beside)) in ["floor", "Parlor"]
        .into_iter()
        .zip(idle.iter().zip(&beside))
    {
        println!(
            "| {name}, 100 posts/s | {:.1} / {:.1} ms | {:.1} / {:.1} ms | {:.2} × |",
            ms(idle, 0.5),
            ms(idle, 0.99),
            ms(beside, 0.5),
            ms(beside, 0.99),
            ms(beside, 0.99) / ms(idle, 0.99)
        );
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
        "| {} | {server} | {:.0} | {:.2} µs{} | {} / {} ms{} | {} / {} / {} ms | {:.1} KB | {:.1} s |",
        scenario.name,
        outcome.deliveries_per_second,
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
