//! Faults, and how each is mended.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cluster::{MEMBERS, Shared};
use crate::history::History;
use crate::net::Cut;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Calm,
    PrimaryKilled,
    StepDowns,
    NodesKilled,
    NetworkCut,
    EverythingAtOnce,
}

const SINGLE: [Fault; 4] = [
    Fault::PrimaryKilled,
    Fault::StepDowns,
    Fault::NodesKilled,
    Fault::NetworkCut,
];

/// Breaks things for so long, and mends them all in the end.
pub async fn break_things(fault: Fault, longest: Duration, cluster: &Shared, history: &History) {
    let mut choices = history.choices(&format!("{fault:?}"));
    let until = Instant::now() + longest;
    while Instant::now() < until {
        let now = match fault {
            Fault::EverythingAtOnce => SINGLE[choices.usize(..SINGLE.len())],
            single => single,
        };
        let broken_for = break_one(now, &mut choices, cluster, history).await;
        sleep(broken_for.min(until - Instant::now().min(until))).await;
        // When everything breaks at once, one thing may not be mended before the next one breaks.
        if fault != Fault::EverythingAtOnce || choices.bool() {
            cluster.lock().await.heal();
            history.note("faults", json!("mended"));
            sleep(Duration::from_millis(choices.u64(300..2_500))).await;
        }
    }
    cluster.lock().await.heal();
    history.note("faults", json!("all mended"));
}

/// Breaks one thing, and says how long to leave it.
async fn break_one(
    fault: Fault,
    choices: &mut fastrand::Rng,
    cluster: &Shared,
    history: &History,
) -> Duration {
    let mut cluster = cluster.lock().await;
    let secs = |low: f64, high: f64, choices: &mut fastrand::Rng| {
        Duration::from_secs_f64(low + (high - low) * choices.f64())
    };
    match fault {
        Fault::Calm | Fault::EverythingAtOnce => Duration::from_secs(1),
        Fault::PrimaryKilled => {
            let Some(primary) = cluster.primary().await else {
                return Duration::from_millis(500);
            };
            history.note("faults", json!({ "kill member": primary }));
            cluster.kill_member(primary);
            secs(3.0, 6.0, choices)
        }
        Fault::StepDowns => {
            history.note("faults", json!("step down"));
            cluster.step_down().await;
            secs(2.0, 4.0, choices)
        }
        Fault::NodesKilled => {
            let node = choices.usize(..cluster.nodes.len());
            history.note("faults", json!({ "kill node": node }));
            cluster.nodes[node].kill();
            secs(0.2, 2.0, choices)
        }
        Fault::NetworkCut => {
            if !cluster.can_cut() {
                return Duration::from_secs(1);
            }
            let cut = [Cut::Both, Cut::Incoming, Cut::Outgoing][choices.usize(..3)];
            let primary = cluster.primary().await;
            match primary.filter(|_| choices.bool()) {
                // A primary without its majority, which the nodes still reach.
                Some(primary) => {
                    history.note(
                        "faults",
                        json!({ "cut member": primary, "how": format!("{cut:?}") }),
                    );
                    cluster.cut_member(primary, cut);
                }
                None if choices.bool() => {
                    let node = choices.usize(..cluster.nodes.len());
                    history.note(
                        "faults",
                        json!({ "cut node": node, "how": format!("{cut:?}") }),
                    );
                    cluster.cut_node(node, cut);
                }
                None => {
                    let member = choices.usize(..MEMBERS);
                    history.note(
                        "faults",
                        json!({ "cut member": member, "how": format!("{cut:?}") }),
                    );
                    cluster.cut_member(member, cut);
                }
            }
            secs(3.0, 7.0, choices)
        }
    }
}
