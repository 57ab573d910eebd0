use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A wire between a client and a server that can be cut, and can pretend that nobody is at home.
pub struct Proxy {
    pub base: String,
    cuts: watch::Sender<()>,
    is_refusing: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (cuts, _) = watch::channel(());
        let is_refusing = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(AtomicUsize::new(0));
        let proxy = Self {
            base,
            cuts: cuts.clone(),
            is_refusing: Arc::clone(&is_refusing),
            refused: Arc::clone(&refused),
        };
        let address = address.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                let address = address.clone();
                let (is_refusing, refused) = (Arc::clone(&is_refusing), Arc::clone(&refused));
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, &address, &is_refusing, &refused) => {}
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

    /// From now on, or no longer, streams are answered with 503. What is open is cut: only a
    /// connection's first request is looked at.
    pub fn refuse_streams(&self, refuse: bool) {
        self.is_refusing.store(refuse, Ordering::SeqCst);
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
    is_refusing: &AtomicBool,
    refused: &AtomicUsize,
) {
    let mut head = vec![0; 16 * 1024];
    let Ok(length) = client.read(&mut head).await else {
        return;
    };
    let is_stream = String::from_utf8_lossy(&head[..length])
        .lines()
        .next()
        .is_some_and(|line| line.contains("/events"));
    if is_stream && is_refusing.load(Ordering::SeqCst) {
        refused.fetch_add(1, Ordering::SeqCst);
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/event-stream\r\n\
                      content-length: 0\r\nconnection: close\r\n\r\n";
        let _ = client.write_all(answer.as_bytes()).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(address).await else {
        return;
    };
    head.truncate(length);
    if is_refusing.load(Ordering::SeqCst) {
        // So that a browser asks for its stream on a connection of its own, which we see.
        let once = String::from_utf8_lossy(&head).replace("keep-alive", "close");
        head = once.into_bytes();
    }
    if server.write_all(&head).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
