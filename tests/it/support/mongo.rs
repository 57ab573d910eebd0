use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use tempfile::{NamedTempFile, TempDir};
use tokio::sync::OnceCell;

use super::{eventually, tool};

static SHARED: OnceCell<MongoDb> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A `mongod` of its own, as a replica set of one member.
pub struct MongoDb {
    pub port: u16,
    _dir: TempDir,
    /// A shell that ends `mongod` when our end of its input closes, so also when we are killed.
    _guard: Child,
}

impl MongoDb {
    /// The one that tests share, each in a database of its own.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// One of its own, for what would disturb other tests.
    pub async fn start() -> Self {
        Self::start_at(free_port()).await
    }

    /// The same, at a port where perhaps somebody is waiting for it.
    pub async fn start_at(port: u16) -> Self {
        // Test commands make it fail as it is told to, for the clients of one application name.
        let set = Self::launch("--replSet rs0 --setParameter enableTestCommands=1", port);
        set.initiate().await;
        set
    }

    /// One that is no replica set.
    pub async fn standalone() -> Self {
        let alone = Self::launch("", free_port());
        let admin = alone.admin().await;
        let answers = async || admin.run_command(doc! { "ping": 1 }).await.is_ok();
        eventually("mongod answers", Duration::from_secs(30), answers).await;
        alone
    }

    /// One that lets in nobody it does not know, with a user who may do anything and one who may only
    /// read: `root` and `reader`, both with the password `hunter2`.
    pub async fn guarded() -> Self {
        let mut key = NamedTempFile::new().unwrap();
        key.write_all(b"a key that members show each other")
            .unwrap();
        let options = format!("--replSet rs0 --auth --keyFile {}", key.path().display());
        let guarded = Self::launch(&options, free_port());
        guarded.initiate().await;
        let admin = guarded.admin().await;
        for (user, role) in [("root", "root"), ("reader", "readAnyDatabase")] {
            let create = doc! { "createUser": user, "pwd": "hunter2", "roles": [role] };
            // The first is made from this machine, the second by the first.
            let database = match user {
                "root" => admin.clone(),
                _ => {
                    let uri = format!("mongodb://root:hunter2@127.0.0.1:{}/", guarded.port);
                    Client::with_uri_str(uri).await.unwrap().database("admin")
                }
            };
            database.run_command(create).await.unwrap();
        }
        guarded
    }

    fn launch(options: &str, port: u16) -> Self {
        let mongod = tool("mongod");
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let always = format!("--bind_ip 127.0.0.1 --wiredTigerCacheSizeGB 0.5 --port {port}");
        let guard = Command::new("sh")
            .arg("-c")
            .arg("\"$@\" & cat > /dev/null; kill -9 $!")
            .arg("sh")
            .arg(mongod)
            .args(options.split_whitespace())
            .args(always.split_whitespace())
            .arg("--dbpath")
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self {
            port,
            _dir: dir,
            _guard: guard,
        }
    }

    async fn admin(&self) -> Database {
        let uri = format!(
            "mongodb://127.0.0.1:{}/?directConnection=true&serverSelectionTimeoutMS=30000",
            self.port
        );
        Client::with_uri_str(uri).await.unwrap().database("admin")
    }

    /// Has commands of clients of this application name fail as `data` says.
    pub async fn fails(&self, app: &str, mode: Bson, mut data: Document) {
        data.insert("appName", app);
        let fail = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        self.admin().await.run_command(fail).await.unwrap();
    }

    /// And no longer.
    pub async fn works(&self) {
        let work = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        self.admin().await.run_command(work).await.unwrap();
    }

    /// Writes are a majority's, but reads with majority do not show them; or again they do.
    pub async fn hides_newest_writes(&self, hides: bool) {
        let mode = if hides { "alwaysOn" } else { "off" };
        let hide = doc! { "configureFailPoint": "disableSnapshotting", "mode": mode };
        self.admin().await.run_command(hide).await.unwrap();
    }

    async fn initiate(&self) {
        let host = format!("127.0.0.1:{}", self.port);
        let admin = self.admin().await;
        let members = vec![doc! { "_id": 0, "host": host }];
        let config = doc! { "_id": "rs0", "members": members };
        admin
            .run_command(doc! { "replSetInitiate": config })
            .await
            .unwrap();
        let is_primary = async || {
            let hello = admin.run_command(doc! { "hello": 1 }).await;
            hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
        };
        eventually("mongod is primary", Duration::from_secs(30), is_primary).await;
    }

    /// The address of a database nobody else uses.
    pub fn fresh_uri(&self) -> String {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        format!(
            "mongodb://127.0.0.1:{}/test_{number}?replicaSet=rs0",
            self.port
        )
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    // Below those that the system gives to connections, and each once: another test may use one later than it
    // asks for it.
    const PORTS: Range<u32> = 10_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(7_919);
    loop {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
