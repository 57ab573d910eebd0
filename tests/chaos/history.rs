//! A history: the events of a run in order, and the seed of its choices, written to a file when a run fails.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

/// Cheap to clone.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    seed: u64,
    began: Instant,
    lines: Mutex<Vec<String>>,
    broken: Mutex<Vec<String>>,
}

impl History {
    /// With the seed from `CHAOS_SEED`, or a new one.
    pub fn new() -> Self {
        let seed = match std::env::var("CHAOS_SEED") {
            Ok(seed) => seed.parse().expect("CHAOS_SEED takes a whole number"),
            Err(_) => fastrand::u64(..1_000_000),
        };
        eprintln!("CHAOS_SEED={seed}");
        Self(Arc::new(Inner {
            seed,
            began: Instant::now(),
            lines: Mutex::default(),
            broken: Mutex::default(),
        }))
    }

    /// Choices for one of those who act: the same for the same seed.
    pub fn choices(&self, actor: &str) -> fastrand::Rng {
        let mut seed = self.0.seed;
        for byte in actor.bytes() {
            seed = seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte);
        }
        fastrand::Rng::with_seed(seed)
    }

    pub fn note(&self, who: &str, what: Value) {
        let line =
            json!({ "ms": self.0.began.elapsed().as_millis() as u64, "who": who, "what": what });
        self.0.lines.lock().unwrap().push(line.to_string());
    }

    /// A promise was broken. The run goes on to the end of its phase and then fails.
    pub fn broken(&self, who: &str, how: String) {
        self.note(who, json!({ "BROKEN": how }));
        self.0.broken.lock().unwrap().push(format!("{who}: {how}"));
    }

    /// Fails if a promise was broken, having written down all that happened.
    pub fn check(&self) {
        let broken = self.0.broken.lock().unwrap().clone();
        if broken.is_empty() {
            return;
        }
        let file = self.write();
        let first: Vec<&str> = broken.iter().map(String::as_str).take(10).collect();
        panic!(
            "{} promises broken; CHAOS_SEED={}, history in {}\n{}",
            broken.len(),
            self.0.seed,
            file.display(),
            first.join("\n")
        );
    }

    fn write(&self) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chaos");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("history-{}.ndjson", self.0.seed));
        let mut file = std::fs::File::create(&path).unwrap();
        for line in self.0.lines.lock().unwrap().iter() {
            writeln!(file, "{line}").unwrap();
        }
        path
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CHAOS_SEED={}", self.seed);
        }
    }
}
