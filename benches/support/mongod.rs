use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process::{cpu_of, free_port};

/// A replica set of one member, in a process of its own. It ends with this.
pub struct Mongod {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Mongod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[allow(dead_code, reason = "each bench uses some of it")]
impl Mongod {
    /// Starts one, if there is a `mongod`.
    pub fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/mongod");
        let program = Some(program)
            .filter(|program| program.exists())
            .or_else(on_the_path)?;
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let process = Command::new(program)
            .args([
                "--replSet",
                "rs0",
                "--bind_ip",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .arg("--dbpath")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        initiate(port);
        Some(Self {
            process,
            port,
            _dir: dir,
        })
    }

    /// The address of a database in it.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/bench?replicaSet=rs0", self.port)
    }

    /// CPU time spent so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.process.id())
    }
}

/// The settings of a server on it.
pub fn settings(uri: &str) -> Vec<(&str, &str)> {
    vec![
        ("MONGODB_URI", uri),
        ("JWT_SECRET", "bench-bench-bench-bench-bench-bench"),
    ]
}

fn on_the_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("mongod"));
    programs.find(|program| program.exists())
}

fn initiate(port: u16) {
    use mongodb::bson::doc;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let client = mongodb::Client::with_uri_str(uri).await.unwrap();
        let members = vec![doc! { "_id": 0, "host": format!("127.0.0.1:{port}") }];
        let config = doc! { "_id": "rs0", "members": members };
        let admin = client.database("admin");
        admin
            .run_command(doc! { "replSetInitiate": config })
            .await
            .unwrap();
        loop {
            let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
            if hello.get_bool("isWritablePrimary").unwrap_or(false) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}
