//! Behind real proxies, configured as docs/behind-a-proxy.md says.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue};
use tokio::time::{sleep, timeout};

use crate::support::{Backend, Person, Server, eventually, free_port, tool};

const DOCUMENT: &str = include_str!("../../docs/behind-a-proxy.md");

/// A proxy as the document configures it, but for ports; ended when dropped, also if we are killed.
struct Proxied {
    guard: Child,
    server: Server,
    base: String,
    _dir: tempfile::TempDir,
}

/// The block of that language, for these ports.
fn block(language: &str, listen: (&str, &str), server: &Server) -> String {
    let (_, after) = DOCUMENT.split_once(&format!("```{language}\n")).unwrap();
    let block = after.split("```").next().unwrap();
    assert!(
        block.contains(listen.0) && block.contains("127.0.0.1:3000"),
        "{block}"
    );
    block
        .replace(listen.0, listen.1)
        .replace("127.0.0.1:3000", server.address())
}

impl Proxied {
    /// Starts what `command` makes of the folder it may write to.
    async fn start(
        port: u16,
        server: Server,
        command: impl FnOnce(&Path, &Server) -> Command,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let command = command(dir.path(), &server);
        let guard = Command::new("sh")
            .args(["-c", "\"$@\" & cat > /dev/null; kill $!; wait", "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .env("HOME", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let base = format!("http://127.0.0.1:{port}");
        let proxied = Self {
            guard,
            server,
            base,
            _dir: dir,
        };
        let nobody = Person::nobody(&proxied.base);
        let healthz = || nobody.request(reqwest::Method::GET, "/healthz").send();
        let is_up = async || healthz().await.is_ok_and(|answer| answer.status() == 200);
        eventually("the proxy passes things on", Duration::from_secs(20), is_up).await;
        proxied
    }

    /// A tour of what people and programs do, all of it through the proxy.
    async fn carries_everything(&self) {
        let ana = Person::sign_up(&self.base, "ana").await;
        ana.enters("tea").await;
        for number in 0..30 {
            ana.says(
                "tea",
                &format!("number {number}, and some more for a long first piece"),
            )
            .await;
        }
        // Streams that begin with missed messages arrive at once, to whoever takes gzip too.
        let gzip = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        for attempt in 0..10 {
            for path in [
                "/rooms/tea/events?after=1",
                "/rooms/tea/events?after=1&format=html",
                "/rooms/tea/live?after=1",
            ] {
                let mut stream = ana.listens_at(path, gzip.clone()).await;
                let last = stream.text_until("number 29,");
                let came = timeout(Duration::from_secs(3), last).await;
                assert!(came.is_ok(), "{path} was held back (attempt {attempt})");
            }
        }
        let mut json = ana.listens("tea", 31).await;
        let seq = ana.says("tea", "live").await;
        assert_eq!(json.numbers(1).await, [seq]);
        let again = HeaderMap::from_iter([("last-event-id", "30")].map(|(name, id)| {
            (
                reqwest::header::HeaderName::from_static(name),
                HeaderValue::from_static(id),
            )
        }));
        let mut resumed = ana.listens_at("/rooms/tea/events", again).await;
        assert_eq!(resumed.numbers(2).await, [31, seq]);
        let waiting = {
            let ana = ana.clone();
            let path = format!("/rooms/tea/messages?after={seq}&wait=20");
            tokio::spawn(async move { ana.json(&path).await })
        };
        sleep(Duration::from_millis(300)).await;
        ana.says("tea", "waited for").await;
        assert_eq!(waiting.await.unwrap()["events"][0]["body"], "waited for");
    }

    /// A form of a browser's, by the name that people type.
    async fn passes_forms_and_addresses(&self) {
        let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let client = reqwest::Client::builder()
            .local_address(elsewhere)
            .build()
            .unwrap();
        let request = client.post(format!("{}/login", self.base));
        let form = [("username", "nobody"), ("password", "a wrong password")];
        let answer = request
            .header("origin", &self.base)
            .form(&form)
            .send()
            .await;
        assert_eq!(answer.unwrap().status(), 401);
        let is_logged = async || {
            let output = self.server.output();
            let line = output.lines().find(|line| line.contains("status=401"));
            line.is_some_and(|line| line.contains("client=\"127.0.0.2\""))
        };
        eventually(
            "the client's own address is known",
            Duration::from_secs(5),
            is_logged,
        )
        .await;
    }

    /// Heartbeats keep streams of every format open, here with idle times of 17 seconds.
    async fn keeps_quiet_streams(&self) {
        let ana = Person::sign_up(&self.base, "quiet").await;
        ana.enters("quiet").await;
        let mut streams = Vec::new();
        for accept in ["text/plain", "application/x-ndjson", "text/event-stream"] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            streams.push(ana.listens_at("/rooms/quiet/events?after=1", headers).await);
        }
        sleep(Duration::from_secs(36)).await;
        ana.says("quiet", "still here").await;
        for mut stream in streams {
            stream.text_until("still here").await;
        }
    }

    async fn does_it_all(self) {
        self.carries_everything().await;
        self.passes_forms_and_addresses().await;
        self.keeps_quiet_streams().await;
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A server that is behind a proxy at this port, as its settings say.
async fn behind(port: u16) -> Server {
    let url = format!("http://127.0.0.1:{port}");
    let settings = [("PUBLIC_URL", &*url), ("TRUSTED_PROXIES", "127.0.0.1")];
    Server::start_with(Backend::Sqlite, &settings).await
}

fn write(path: std::path::PathBuf, text: &str) -> std::path::PathBuf {
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_as_documented() {
    let port = free_port();
    let proxied = Proxied::start(port, behind(port).await, |dir, server| {
        let listen = format!("listen 127.0.0.1:{port}; proxy_read_timeout 17s;");
        let block = block("nginx", ("listen 8080;", &listen), server);
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {}/{what};\n", dir.display()))
            .concat();
        let config = format!(
            "daemon off;\npid {0}/pid;\nerror_log {0}/error.log;\nuser root;\nevents {{}}\n\
             http {{\naccess_log off;\n{temp}{block}}}\n",
            dir.display()
        );
        let config = write(dir.join("nginx.conf"), &config);
        let mut nginx = Command::new(tool("nginx"));
        nginx.arg("-c").arg(config);
        nginx
    });
    proxied.await.does_it_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_as_documented() {
    let port = free_port();
    let proxied = Proxied::start(port, behind(port).await, |dir, server| {
        let listen = format!("http://127.0.0.1:{port}");
        let block = block("caddy", ("chat.example.org", &listen), server);
        let config = format!("{{\nadmin off\n}}\n{block}");
        let config = write(dir.join("Caddyfile"), &config);
        let mut caddy = Command::new(tool("caddy"));
        caddy
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(config);
        caddy
    });
    proxied.await.does_it_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_as_documented() {
    let port = free_port();
    let proxied = Proxied::start(port, behind(port).await, |dir, server| {
        let listen = format!("bind 127.0.0.1:{port}");
        let block = block("haproxy", ("bind :8080", &listen), server).replace("1m", "17s");
        let config = write(dir.join("haproxy.cfg"), &block);
        let mut haproxy = Command::new(tool("haproxy"));
        haproxy.arg("-db").arg("-f").arg(config);
        haproxy
    });
    proxied.await.does_it_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_as_documented() {
    let port = free_port();
    let proxied = Proxied::start(port, behind(port).await, |dir, server| {
        let listen = format!("*:{port}");
        let block = block("apache", ("*:8080", &listen), server);
        let modules: String = ["mpm_event", "authz_core", "proxy", "proxy_http"]
            .map(|name| {
                format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
            })
            .concat();
        let config = format!(
            "ServerRoot {0}\nServerName localhost\nPidFile {0}/pid\nErrorLog {0}/error.log\n\
             DefaultRuntimeDir {0}\nListen 127.0.0.1:{port}\n{modules}ProxyTimeout 17\n{block}",
            dir.display()
        );
        let config = write(dir.join("apache.conf"), &config);
        let mut apache = Command::new(tool("apache2"));
        apache.args(["-D", "FOREGROUND", "-f"]).arg(config);
        apache
    });
    proxied.await.does_it_all().await;
}
