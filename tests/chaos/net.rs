//! A network of the test's own: a namespace for each host, on one bridge.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::tool;

/// Which packets between a host and another are thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Both,
    /// Traffic to the host.
    Incoming,
    /// Traffic from the host.
    Outgoing,
}

/// Hosts 0, 1, 2, …; gone with everything that runs on them when dropped, also if we are killed.
pub struct Net {
    name: String,
    subnet: String,
    guard: Child,
}

impl Net {
    /// `None` where we may not make namespaces: for that one has to be root.
    pub fn with_hosts(hosts: usize) -> Option<Self> {
        let id = Command::new("id").arg("-u").output().unwrap();
        if id.stdout != b"0\n" {
            eprintln!("not root: everything runs on one host, and no network is cut");
            return None;
        }
        let (_, _) = (tool("ip"), tool("iptables"));
        // An interface may linger after it was taken down, so each run has names of its own.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_mul(7) + MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pl{}", number % 100_000);
        let subnet = format!("10.{}.{}", 200 + number % 50, number / 50 % 250);
        let hosts: Vec<String> = (0..hosts).map(|host| format!("{name}-{host}")).collect();
        let end = format!(
            "cat > /dev/null; for host in {}; do ip netns pids $host | xargs -r kill -9; \
             ip link del $host; ip netns del $host; done; ip link del {name}",
            hosts.join(" ")
        );
        let guard = Command::new("sh")
            .args(["-c", &end])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        run(&format!("ip link add {name} type bridge"));
        run(&format!("ip addr add {subnet}.1/24 dev {name}"));
        run(&format!("ip link set {name} up"));
        let net = Self {
            name,
            subnet,
            guard,
        };
        for (number, host) in hosts.iter().enumerate() {
            let address = net.address(number);
            run(&format!("ip netns add {host}"));
            run(&format!(
                "ip link add {host} type veth peer name eth0 netns {host}"
            ));
            run(&format!("ip link set {host} master {}", net.name));
            run(&format!("ip link set {host} up"));
            run(&format!("ip -n {host} addr add {address}/24 dev eth0"));
            run(&format!("ip -n {host} link set eth0 up"));
            run(&format!("ip -n {host} link set lo up"));
        }
        Some(net)
    }

    pub fn address(&self, host: usize) -> String {
        format!("{}.{}", self.subnet, 10 + host)
    }

    /// The prefix of a command that runs it on a host.
    pub fn on(&self, host: usize) -> Vec<String> {
        let name = format!("{}-{host}", self.name);
        ["ip", "netns", "exec", &name].map(str::to_owned).into()
    }

    /// Throws away what goes between two hosts.
    pub fn cut(&self, host: usize, peer: usize, cut: Cut) {
        let peer = self.address(peer);
        if cut != Cut::Outgoing {
            self.iptables(host, &format!("-A INPUT -s {peer} -j DROP"));
        }
        if cut != Cut::Incoming {
            self.iptables(host, &format!("-A OUTPUT -d {peer} -j DROP"));
        }
    }

    /// Lets everything through again.
    pub fn heal(&self, host: usize) {
        self.iptables(host, "-F");
    }

    fn iptables(&self, host: usize, rule: &str) {
        run(&format!("{} iptables -w {rule}", self.on(host).join(" ")));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).output().unwrap();
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {says}");
}
