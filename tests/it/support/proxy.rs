use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A [`Proxy`]'s way with traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    /// Nothing.
    Honest,
    /// Answers everything with a page of its own, as a proxy does whose server is away.
    BadGateway,
    /// Answers streams with 503.
    RefusesStreams,
    /// Waits for a stream's end before it passes anything on.
    HoldsStreams,
    /// The same, but passes the head on.
    HoldsBodies,
    /// Passes on how a stream begins, and waits with the rest.
    HoldsRest,
    /// Half of this script comes, as if it were all.
    Breaks(&'static str),
    /// This script's connection ends halfway.
    Cuts(&'static str),
    /// This script is never answered.
    Hangs(&'static str),
    /// This script is answered with 404.
    Loses(&'static str),
}

/// A wire between a client and a server that can be cut, and does other things that wires do.
pub struct Proxy {
    pub base: String,
    cuts: watch::Sender<()>,
    mood: watch::Sender<Mood>,
    refused: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (cuts, _) = watch::channel(());
        let (mood, _) = watch::channel(Mood::Honest);
        let refused = Arc::new(AtomicUsize::new(0));
        let proxy = Self {
            base,
            cuts: cuts.clone(),
            mood: mood.clone(),
            refused: Arc::clone(&refused),
        };
        let address = address.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                let address = address.clone();
                let (mood, refused) = (mood.clone(), Arc::clone(&refused));
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, &address, &mood, &refused) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Sets the mood from now on. Open connections are cut: only a connection's first request is looked at.
    pub fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
        self.cut();
    }

    /// How many streams were refused.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut client: TcpStream,
    address: &str,
    mood: &watch::Sender<Mood>,
    refused: &AtomicUsize,
) {
    let mut head = vec![0; 16 * 1024];
    let Ok(length) = client.read(&mut head).await else {
        return;
    };
    head.truncate(length);
    let mood = mood.borrow().clone();
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap_or("");
    let is_stream = line.contains("/events?");
    let is_script = |name: &str| line.contains(&format!("/static/{name}."));
    let answer = match mood {
        Mood::BadGateway => {
            "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 20\r\n\
             connection: close\r\n\r\n<h1>Bad Gateway</h1>"
        }
        Mood::RefusesStreams if is_stream => {
            refused.fetch_add(1, Ordering::SeqCst);
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/event-stream\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        }
        Mood::Breaks(name) if is_script(name) => {
            "HTTP/1.1 200 OK\r\ncontent-type: text/javascript\r\ncontent-length: 25\r\n\
             connection: close\r\n\r\n'use strict'; { const a ="
        }
        Mood::Cuts(name) if is_script(name) => {
            "HTTP/1.1 200 OK\r\ncontent-type: text/javascript\r\ncontent-length: 9000\r\n\
             connection: close\r\n\r\n'use strict'; { const a ="
        }
        Mood::Loses(name) if is_script(name) => {
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
        Mood::Hangs(name) if is_script(name) => return std::future::pending().await,
        _ => "",
    };
    if !answer.is_empty() {
        let _ = client.write_all(answer.as_bytes()).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(address).await else {
        return;
    };
    if mood != Mood::Honest {
        // So that a browser asks for the next thing on a connection of its own, which we see.
        head = text
            .replace("Connection: keep-alive", "Connection: close")
            .into_bytes();
    }
    if server.write_all(&head).await.is_err() {
        return;
    }
    match mood {
        Mood::HoldsStreams if is_stream => hold_after(&mut client, &mut server, 0).await,
        Mood::HoldsBodies if is_stream => hold_after(&mut client, &mut server, 1).await,
        Mood::HoldsRest if is_stream => hold_after(&mut client, &mut server, 3).await,
        _ => drop(copy_bidirectional(&mut client, &mut server).await),
    }
}

/// Passes on so many of an answer's blocks, which end with an empty line, the head being the first. Of
/// what follows nothing is seen, for as long as the client waits.
async fn hold_after(client: &mut TcpStream, server: &mut TcpStream, blocks: usize) {
    let mut seen = Vec::new();
    let mut passed = 0;
    let mut buffer = vec![0; 16 * 1024];
    let mut ignored = [0; 1024];
    loop {
        tokio::select! {
            read = server.read(&mut buffer) => match read {
                Ok(length) if length > 0 => seen.extend_from_slice(&buffer[..length]),
                _ => return,
            },
            // The client says nothing more but that it has gone.
            read = client.read(&mut ignored) => match read {
                Ok(length) if length > 0 => {}
                _ => return,
            },
        }
        let ends: Vec<usize> = ends_of_blocks(&seen);
        let upto = ends[..ends.len().min(blocks)].last().copied().unwrap_or(0);
        if upto > passed {
            if client.write_all(&seen[passed..upto]).await.is_err() {
                return;
            }
            passed = upto;
        }
    }
}

/// Behind the head's empty line, and behind each that ends an event.
fn ends_of_blocks(answer: &[u8]) -> Vec<usize> {
    let ends = (0..answer.len()).filter_map(|at| {
        let rest = &answer[at..];
        let length = [&b"\r\n\r\n"[..], b"\n\n"]
            .into_iter()
            .find(|end| rest.starts_with(end))?;
        Some(at + length.len())
    });
    ends.collect()
}
