//! Three nodes behind a load balancer: nginx, configured as the README says.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::support::{Backend, Person, Server, eventually, free_port, tool};

const README: &str = include_str!("../../README.md");

/// nginx with the README's snippet; ended when dropped, also if we are killed.
struct Nginx {
    guard: Child,
    _dir: tempfile::TempDir,
}

impl Nginx {
    fn before(nodes: &[Server], port: u16) -> Self {
        let (_, after) = README.split_once("```nginx\n").unwrap();
        let mut snippet = after.split("```").next().unwrap().to_owned();
        for (node, theirs) in nodes
            .iter()
            .zip(["10.0.0.1:3000", "10.0.0.2:3000", "10.0.0.3:3000"])
        {
            assert!(snippet.contains(theirs), "{snippet}");
            snippet = snippet.replace(theirs, node.address());
        }
        assert!(snippet.contains("listen 8080;"), "{snippet}");
        let snippet = snippet.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
        let dir = tempfile::tempdir().unwrap();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {}/{what};\n", dir.path().display()))
            .concat();
        let config = format!(
            "daemon off;\npid {0}/pid;\nerror_log {0}/error.log;\nuser root;\nevents {{}}\n\
             http {{\naccess_log off;\n{temp}{snippet}}}\n",
            dir.path().display()
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let guard = Command::new("sh")
            .args(["-c", "\"$@\" & cat > /dev/null; kill $!; wait", "sh"])
            .arg(tool("nginx"))
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { guard, _dir: dir }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_behind_nginx_are_one() {
    let port = free_port();
    let base = format!("http://127.0.0.1:{port}");
    let settings = [
        ("PUBLIC_URL", base.as_str()),
        ("TRUSTED_PROXIES", "127.0.0.0/8"),
    ];
    let one = Server::start_with(Backend::MongoDb, &settings).await;
    let (two, three) = (one.another_node().await, one.another_node().await);
    let mut nodes = vec![one, two, three];
    let _nginx = Nginx::before(&nodes, port);
    let nobody = Person::nobody(&base);
    let answers = async || {
        let asked = nobody
            .request(reqwest::Method::GET, "/healthz")
            .send()
            .await;
        asked.is_ok_and(|answer| answer.status().is_success())
    };
    eventually("nginx answers", Duration::from_secs(10), answers).await;

    // The cookie, not the connection, says who asks: no request needs the node of the one before.
    let ana = Person::sign_up(&base, "ana").await;
    ana.enters("tea").await;
    let mut read = Vec::new();
    let mut stream = ana.listens("tea", 0).await;
    for number in 0..30 {
        ana.says("tea", &format!("before {number}")).await;
    }
    read.extend(stream.numbers(31).await);

    // Each node dies once, and the stream goes on wherever it ends up.
    for (killed, node) in nodes.iter_mut().enumerate() {
        node.kill();
        for number in 0..10 {
            let (body, nonce) = (format!("{killed} {number}"), format!("{killed}-{number}"));
            loop {
                let answer = ana.tries_to_say("tea", &body, Some(&nonce)).await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
            }
        }
        let head = 31 + 10 * (killed as u64 + 1);
        while *read.last().unwrap() < head {
            match stream.next_event().await {
                Some(event) => read.push(event.seq()),
                None => {
                    let mut headers = HeaderMap::new();
                    headers.insert(
                        "last-event-id",
                        read.last().unwrap().to_string().parse().unwrap(),
                    );
                    stream = ana.listens_at("/rooms/tea/events?after=0", headers).await;
                }
            }
        }
        node.start_again().await;
    }
    assert_eq!(read, (1..=61).collect::<Vec<_>>());
    assert_eq!(ana.log("tea").await.len(), 61);
}
