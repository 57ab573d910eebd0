//! One connection: HTTP by hyper, until it is a stream, which a stream thread takes over.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Version, response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use super::places::Doing;
use super::streams::{Handoff, StreamThreads};
use super::{ConnectionGuard, STUCK_AFTER};
use crate::web::{HandedOff, HandoffSupported, OpenStream, Peer};

/// How long a request's head may take to arrive, from its first byte on.
const HEAD_MAX: Duration = Duration::from_secs(15);

/// How long a connection is kept between requests: longer than proxies keep those they have pooled, the
/// most patient of which (Caddy) takes two minutes. A request on one that is being closed is lost.
const IDLE_MAX: Duration = Duration::from_secs(150);

/// How much of a body that nobody wants is read before its connection is closed, and for how long: with
/// bytes unread the kernel would reset the connection, and the answer with it.
const UNWANTED_BYTES_MAX: usize = 8 * 1024 * 1024;
const UNWANTED_MAX: Duration = Duration::from_secs(5);

/// The most bytes of a request's head; a browser's with all its cookies has two or three thousand.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Serves a connection to its end, or until the answer to one of its requests is a stream and the
/// stream threads have it.
pub(super) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    app: Router,
    stream_threads: Option<StreamThreads>,
    mut stopping: watch::Receiver<()>,
    mut guard: ConnectionGuard,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    configure(&socket)?;
    // A trusted proxy's connection counts for nobody, but its heads must arrive as well.
    let doing = guard.place.doing().cloned().unwrap_or_default();
    let socket = Heard {
        socket,
        doing: Arc::clone(&doing),
    };
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(STUCK_AFTER));
    let leaving = Leaving::default();
    let answered = leaving.clone();
    let can_hand_off = stream_threads.is_some();
    let does = Arc::clone(&doing);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        does.answers();
        // Before the client is told to send its body, nothing of it is on the way.
        let is_on_its_way = !request.headers().contains_key(EXPECT);
        let unread = Unread::default();
        let mut request = request.map(|body| unread.watch(body));
        request.extensions_mut().insert(Peer(peer));
        // Before 1.1 there are no chunks.
        if can_hand_off && request.version() == Version::HTTP_11 {
            request.extensions_mut().insert(HandoffSupported);
        }
        let (answer, leaving) = (app.clone().oneshot(request), answered.clone());
        let does = Arc::clone(&does);
        async move {
            let mut response = answer.await?;
            if let Some(body) = unread.take() {
                // Its rest is not the next request.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                if is_on_its_way {
                    tokio::spawn(timeout(UNWANTED_MAX, forget(body)));
                }
            }
            let handed_off = response.extensions_mut().remove::<HandedOff>();
            if let Some(stream) = handed_off.and_then(|handed_off| handed_off.take()) {
                leaving.set(response.into_parts().0, stream);
                // hyper waits for an answer, and is left waiting.
                return pending().await;
            }
            Ok::<_, Infallible>(response.map(|body| Answering::of(body, does)))
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It runs from the last answer on; a head that has begun has less, see below.
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Box::pin(socket)), service);
    let mut is_stopping = false;
    let head_due = sleep(HEAD_MAX);
    tokio::pin!(head_due);
    let (head, stream) = loop {
        let turn = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Turn::Ended(ended)),
            Poll::Pending => match leaving.take() {
                Some((head, stream)) => Poll::Ready(Turn::Left(head, stream)),
                None => Poll::Pending,
            },
        });
        tokio::select! {
            turn = turn => match turn {
                Turn::Ended(ended) => return Ok(ended?),
                Turn::Left(head, stream) => break (head, stream),
            },
            () = doing.evicted() => return Err("its place was needed".into()),
            () = &mut head_due => {
                let since = doing.head_since();
                let due = since.map_or_else(Instant::now, Instant::from_std) + HEAD_MAX;
                if due <= Instant::now() {
                    return Err("its head took too long".into());
                }
                head_due.as_mut().reset(due);
            }
            _ = stopping.changed(), if !is_stopping => {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    // hyper reads a request when the answer before it has been sent, so it has nothing left to send.
    // (Unless the one before had a body that nobody read, and the client asked on without waiting: it
    // spoils its own connection.)
    let timed = connection.into_parts().io.into_inner();
    // The runtime forgets its own when that is dropped.
    let socket = &timed.as_ref().get_ref().get_ref().socket;
    let socket = socket.as_fd().try_clone_to_owned()?;
    drop(timed);
    guard.place.is_a_stream();
    if let Some(stream_threads) = stream_threads {
        stream_threads.hand_off(Handoff {
            socket: socket.into(),
            head: head_bytes(&head),
            stream,
            guard,
        });
    }
    Ok(())
}

/// A socket that tells when something is received.
struct Heard {
    socket: TcpStream,
    doing: Arc<Doing>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, into);
        if into.filled().len() > before {
            self.doing.received();
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Where a request's body goes if its handler does not read it to its end.
#[derive(Clone, Default)]
struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    fn watch(&self, body: Incoming) -> Body {
        match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(Watched {
                body: Some(body),
                unread: self.clone(),
            }),
        }
    }

    fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request's body.
struct Watched {
    body: Option<Incoming>,
    unread: Unread,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            let mut unread = self.unread.0.lock().unwrap_or_else(PoisonError::into_inner);
            *unread = Some(body);
        }
    }
}

/// Reads on without looking, for as long as that is bearable.
async fn forget(mut body: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > UNWANTED_BYTES_MAX {
            return;
        }
    }
}

/// An answer's body. When it is gone the answer is complete.
struct Answering {
    body: Body,
    does: Arc<Doing>,
}

impl Answering {
    fn of(body: Body, does: Arc<Doing>) -> Self {
        Self { body, does }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.does.has_answered();
    }
}

/// How polling a connection ended.
enum Turn {
    Ended(hyper::Result<()>),
    Left(response::Parts, Box<OpenStream>),
}

/// Where a stream waits for the connection to let go of it.
#[derive(Clone, Default)]
struct Leaving(Arc<Mutex<Option<Left>>>);

/// An answer's head, and the stream that follows it.
type Left = (response::Parts, Box<OpenStream>);

impl Leaving {
    fn set(&self, head: response::Parts, stream: Box<OpenStream>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Some((head, stream));
    }

    fn take(&self) -> Option<Left> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take()
    }
}

/// The head of an answer that goes on in chunks and ends with its connection, as hyper writes it.
fn head_bytes(head: &response::Parts) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1_024);
    // Writing into memory does not fail.
    let _ = write!(bytes, "HTTP/1.1 {}\r\n", head.status);
    for (name, value) in &head.headers {
        let _ = write!(bytes, "{name}: ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let date = httpdate::HttpDate::from(SystemTime::now());
    let _ = write!(
        bytes,
        "date: {date}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    bytes
}

fn configure(socket: &TcpStream) -> io::Result<()> {
    // A message is one small packet, and must not wait for the next.
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15)),
    )?;
    // Data that is not confirmed in that time ends the connection, not 15 minutes later.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(STUCK_AFTER))?;
    Ok(())
}
