//! The send buffer of a socket that must not be waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use bytes::{Buf, Bytes, BytesMut};
use mio::net::TcpStream;

/// A socket, and what the kernel did not take yet.
pub(super) struct SendBuffer {
    socket: TcpStream,
    /// Nothing else is sent before it.
    unsent: Bytes,
}

impl SendBuffer {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            unsent: Bytes::new(),
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends a piece after all before, or as much of it as the kernel takes. The caller should look
    /// first whether something is unsent: it grows by what is sent beside it.
    pub(super) fn send(&mut self, bytes: &Bytes) -> io::Result<()> {
        if self.has_unsent() {
            let mut both = BytesMut::from(&*self.unsent);
            both.extend_from_slice(bytes);
            self.unsent = both.freeze();
            return Ok(());
        }
        let sent = self.write(bytes)?;
        if sent < bytes.len() {
            self.unsent = bytes.slice(sent..);
        }
        Ok(())
    }

    /// Goes on with what the kernel did not take; says how much it took now.
    pub(super) fn flush(&mut self) -> io::Result<usize> {
        let unsent = self.unsent.clone();
        let sent = self.write(&unsent)?;
        self.unsent.advance(sent);
        if self.unsent.is_empty() {
            // Others may hold the piece for as long as this points into it.
            self.unsent = Bytes::new();
        }
        Ok(sent)
    }

    /// Sends a last piece, if the kernel takes it, and says that nothing follows.
    pub(super) fn send_last(&mut self, bytes: &[u8]) {
        let _ = self.write(bytes);
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// How much the kernel takes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(more) => sent += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// A client has nothing to say once it follows: it is read and forgotten. Says how that ended.
    pub(super) fn read_and_forget(&mut self) -> Input {
        let mut forgotten = [0; 4_096];
        // One that says a lot all the same gets no more of a thread's time than others.
        for _ in 0..16 {
            match self.socket.read(&mut forgotten) {
                Ok(0) => return Input::Ended,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Input::Open,
                Err(_) => return Input::Broken,
            }
        }
        Input::Open
    }
}

/// A client's side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// It may say more.
    Open,
    /// It says no more, and may still be listening.
    Ended,
    /// It is gone.
    Broken,
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Invariant: whatever is sent while the kernel takes nothing comes whole and in order.
    #[test]
    fn nothing_is_lost_or_overtaken_by_what_is_sent_beside_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (writer, _) = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut out = SendBuffer::new(TcpStream::from_std(writer));
        let mut expected = Vec::new();
        for round in 0..20_u8 {
            // Until the kernel is full, and then a little and a lot.
            while !out.has_unsent() {
                let piece = Bytes::from(vec![round; 50_000]);
                expected.extend_from_slice(&piece);
                out.send(&piece).unwrap();
            }
            for piece in [b"heartbeat".to_vec(), vec![b'x'; 70_000]] {
                expected.extend_from_slice(&piece);
                out.send(&piece.into()).unwrap();
            }
            let mut read = vec![0; expected.len() / 2];
            reader.read_exact(&mut read).unwrap();
            assert!(expected.starts_with(&read), "round {round}");
            expected.drain(..read.len());
            out.flush().unwrap();
        }
        let mut rest = vec![0; expected.len()];
        let (mut read, mut done) = (0, false);
        reader.set_nonblocking(true).unwrap();
        while !done {
            out.flush().unwrap();
            match reader.read(&mut rest[read..]) {
                Ok(more) => read += more,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            done = read == rest.len();
        }
        assert!(rest == expected);
        assert!(!out.has_unsent());
    }
}
