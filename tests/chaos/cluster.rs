//! Three nodes on a replica set of three.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ReadConcern;
use reqwest::StatusCode;
use tempfile::TempDir;

use crate::net::{Cut, Net};
use crate::support::{Person, eventually, free_port, tool};

pub const MEMBERS: usize = 3;

/// Hosts of the network: the members first, then the nodes.
fn host_of_node(node: usize) -> usize {
    MEMBERS + node
}

/// All of it; stopped when dropped.
pub struct Cluster {
    net: Option<Net>,
    members: Vec<Process>,
    pub nodes: Vec<Process>,
    /// Anybody’s client of the replica set.
    pub admin: Client,
    _dir: TempDir,
}

/// A program at an address, which can be killed and started again.
pub struct Process {
    command: Vec<String>,
    settings: Vec<(String, String)>,
    log: PathBuf,
    dir: PathBuf,
    pub address: String,
    /// A shell that ends the program when our end of its input closes.
    guard: Option<Child>,
}

impl Process {
    pub fn start(&mut self) {
        let log = File::options().append(true).create(true).open(&self.log);
        let log = log.unwrap();
        let guard = Command::new("sh")
            .args(["-c", "\"$@\" & cat > /dev/null; kill -9 $!; wait", "sh"])
            .args(&self.command)
            .current_dir(&self.dir)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.guard = Some(guard.unwrap());
    }

    /// With SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }

    pub fn is_running(&self) -> bool {
        self.guard.is_some()
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    /// Members vote for another primary after `election`.
    pub async fn start(nodes: usize, election: Duration) -> Self {
        let net = Net::with_hosts(MEMBERS + nodes);
        let dir = tempfile::tempdir().unwrap();
        let mut members: Vec<Process> = (0..MEMBERS)
            .map(|number| member(net.as_ref(), dir.path(), number))
            .collect();
        members.iter_mut().for_each(Process::start);
        initiate(&members, election).await;
        let hosts: Vec<&str> = members
            .iter()
            .map(|member| member.address.as_str())
            .collect();
        let uri = format!("mongodb://{}/parlor?replicaSet=rs0", hosts.join(","));
        let admin = Client::with_uri_str(format!("{uri}&serverSelectionTimeoutMS=3000"));
        let mut cluster = Self {
            nodes: (0..nodes)
                .map(|number| node(net.as_ref(), dir.path(), number, &uri))
                .collect(),
            net,
            members,
            admin: admin.await.unwrap(),
            _dir: dir,
        };
        cluster.nodes.iter_mut().for_each(Process::start);
        cluster.is_ready().await;
        cluster
    }

    /// Waits until every node is.
    pub async fn is_ready(&self) {
        for node in &self.nodes {
            let ready = async || node_answers(node, "/readyz").await == Some(StatusCode::OK);
            eventually("every node is ready", Duration::from_secs(60), ready).await;
        }
    }

    pub fn base(&self, node: usize) -> String {
        self.nodes[node].base()
    }

    pub async fn person(&self, name: &str) -> Person {
        // The nodes listen beyond loopback, where the first account takes the link that they print.
        let log = std::fs::read_to_string(&self.nodes[0].log).unwrap_or_default();
        let link = log.split_once("?invite=").map_or("", |(_, rest)| rest);
        let invite = link.split_whitespace().next().unwrap_or("");
        Person::sign_up_by(&self.base(0), name, invite).await
    }

    /// Which member is primary, as most of them see it.
    pub async fn primary(&self) -> Option<usize> {
        let admin = self.admin.database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).await.ok()?;
        let primary = hello.get_str("primary").ok()?;
        self.members
            .iter()
            .position(|member| member.address == primary)
    }

    /// The newest events that a member has itself, committed or not.
    pub async fn local_events(&self, member: usize) -> Vec<Document> {
        let uri = format!(
            "mongodb://{}/parlor?directConnection=true",
            self.members[member].address
        );
        let client = Client::with_uri_str(uri).await.unwrap();
        let events = client.database("parlor").collection::<Document>("events");
        let newest = events.find(doc! {}).sort(doc! { "_id": -1 }).limit(100);
        newest
            .read_concern(ReadConcern::local())
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap()
    }

    pub fn kill_member(&mut self, member: usize) {
        self.members[member].kill();
    }

    /// Has the primary give up its place, at once.
    pub async fn step_down(&self) {
        let command = doc! { "replSetStepDown": 5, "force": true };
        let _ = self.admin.database("admin").run_command(command).await;
    }

    pub fn can_cut(&self) -> bool {
        self.net.is_some()
    }

    /// Cuts a node from the database.
    pub fn cut_node(&self, node: usize, cut: Cut) {
        let Some(net) = &self.net else { return };
        for member in 0..MEMBERS {
            net.cut(host_of_node(node), member, cut);
        }
    }

    /// Cuts a member from the others, but not from the nodes.
    pub fn cut_member(&self, member: usize, cut: Cut) {
        let Some(net) = &self.net else { return };
        for other in (0..MEMBERS).filter(|other| *other != member) {
            net.cut(member, other, cut);
        }
    }

    /// Lets everything through, and starts what was killed.
    pub fn heal(&mut self) {
        if let Some(net) = &self.net {
            (0..MEMBERS + self.nodes.len()).for_each(|host| net.heal(host));
        }
        let all = self.members.iter_mut().chain(&mut self.nodes);
        all.filter(|process| !process.is_running())
            .for_each(Process::start);
    }

    /// Resident memory of a node, in bytes.
    pub fn memory(&self, node: usize) -> u64 {
        let shell = self.nodes[node].guard.as_ref().unwrap().id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let children = children.unwrap();
        let of = |pid: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let name = status.lines().next()?.to_owned();
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            name.ends_with("parlor").then_some(kib * 1024)
        };
        children.split_whitespace().find_map(of).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let log = node.log();
                let tail: Vec<&str> = log.lines().rev().take(30).collect();
                eprintln!("what the node at {} wrote last:", node.address);
                tail.iter().rev().for_each(|line| eprintln!("  {line}"));
            }
        }
    }
}

pub async fn node_answers(node: &Process, path: &str) -> Option<StatusCode> {
    let nobody = Person::nobody(&node.base());
    let asked = nobody.request(reqwest::Method::GET, path).send();
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
    Some(answer.ok()?.ok()?.status())
}

fn address(net: Option<&Net>, host: usize, port: u16) -> String {
    match net {
        Some(net) => format!("{}:{port}", net.address(host)),
        None => format!("127.0.0.1:{}", free_port()),
    }
}

fn on(net: Option<&Net>, host: usize) -> Vec<String> {
    net.map(|net| net.on(host)).unwrap_or_default()
}

fn member(net: Option<&Net>, dir: &Path, number: usize) -> Process {
    let address = address(net, number, 27_017);
    let (ip, port) = address.split_once(':').unwrap();
    let data = dir.join(format!("member-{number}"));
    std::fs::create_dir(&data).unwrap();
    let mut command = on(net, number);
    command.push(tool("mongod").display().to_string());
    let options = format!(
        "--replSet rs0 --bind_ip {ip} --port {port} --nounixsocket --wiredTigerCacheSizeGB 0.25 \
         --dbpath {}",
        data.display()
    );
    command.extend(options.split_whitespace().map(str::to_owned));
    Process {
        command,
        settings: Vec::new(),
        log: dir.join(format!("member-{number}.log")),
        dir: data,
        address,
        guard: None,
    }
}

fn node(net: Option<&Net>, dir: &Path, number: usize, uri: &str) -> Process {
    let host = host_of_node(number);
    let address = address(net, host, 3_000);
    let data = dir.join(format!("node-{number}"));
    std::fs::create_dir(&data).unwrap();
    let mut command = on(net, host);
    command.push(env!("CARGO_BIN_EXE_parlor").to_owned());
    let settings = [
        ("BIND_ADDR", address.as_str()),
        ("MONGODB_URI", uri),
        ("JWT_SECRET", "chaos-chaos-chaos-chaos-chaos-chaos"),
        ("RATE_LIMITS", "off"),
        ("STREAMS_PER_USER", "1000"),
    ];
    let settings = settings
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    Process {
        command,
        settings,
        log: dir.join(format!("node-{number}.log")),
        dir: data,
        address,
        guard: None,
    }
}

async fn initiate(members: &[Process], election: Duration) {
    let first = &members[0].address;
    let uri = format!("mongodb://{first}/?directConnection=true&serverSelectionTimeoutMS=30000");
    let admin = Client::with_uri_str(uri).await.unwrap().database("admin");
    let list: Vec<Document> = members
        .iter()
        .zip(0..)
        .map(|(member, id)| doc! { "_id": id, "host": &member.address })
        .collect();
    let election = i64::try_from(election.as_millis()).unwrap();
    let config = doc! {
        "_id": "rs0",
        "members": list,
        "settings": { "electionTimeoutMillis": election },
    };
    // The others may still be starting.
    let initiated = async || {
        let initiate = doc! { "replSetInitiate": config.clone() };
        match admin.run_command(initiate).await {
            Ok(_) => true,
            // By an attempt before, whose answer did not come.
            Err(error) => error.to_string().contains("already initialized"),
        }
    };
    eventually("the set is initiated", Duration::from_secs(60), initiated).await;
    let has_primary = async || {
        let hello = admin.run_command(doc! { "hello": 1 }).await;
        hello.is_ok_and(|hello| hello.contains_key("primary"))
    };
    eventually(
        "the set has a primary",
        Duration::from_secs(60),
        has_primary,
    )
    .await;
}

/// Shared by those who break it and those who use it.
pub type Shared = Arc<tokio::sync::Mutex<Cluster>>;
