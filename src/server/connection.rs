//! One connection: HTTP by hyper, until it is a stream, which the carriers go on with.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Request;
use axum::http::{Version, response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use super::carrier::{Carriers, Carry};
use super::{Keep, STUCK_AFTER};
use crate::web::{CarriesStreams, HandedOver, OpenStream, Peer};

/// How long a request's head may take to arrive, and how long an idle connection is kept.
const HEAD_MAX: Duration = Duration::from_secs(15);

/// The most bytes of a request's head; a browser's with all its cookies has two or three thousand.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Serves a connection to its end, or until the answer to one of its requests is a stream and the
/// carriers have it.
pub(super) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    app: Router,
    carriers: Option<Carriers>,
    mut stopping: watch::Receiver<()>,
    keep: Keep,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    configure(&socket)?;
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(STUCK_AFTER));
    let leaving = Leaving::default();
    let answered = leaving.clone();
    let are_carried = carriers.is_some();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Peer(peer));
        // Before 1.1 there are no chunks.
        if are_carried && request.version() == Version::HTTP_11 {
            request.extensions_mut().insert(CarriesStreams);
        }
        let (answer, leaving) = (app.clone().oneshot(request), answered.clone());
        async move {
            let mut response = answer.await?;
            let handed_over = response.extensions_mut().remove::<HandedOver>();
            if let Some(stream) = handed_over.and_then(|handed_over| handed_over.take()) {
                leaving.set(response.into_parts().0, stream);
                // hyper waits for an answer, and is left waiting.
                return pending().await;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Box::pin(socket)), service);
    let mut is_stopping = false;
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
    let socket = timed.as_ref().get_ref().get_ref();
    let socket = socket.as_fd().try_clone_to_owned()?;
    drop(timed);
    if let Some(carriers) = carriers {
        carriers.carry(Carry {
            socket: socket.into(),
            head: head_bytes(&head),
            stream,
            keep,
        });
    }
    Ok(())
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
    // What was sent and is not confirmed in that time ends the connection, not 15 minutes later.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(STUCK_AFTER))?;
    Ok(())
}
