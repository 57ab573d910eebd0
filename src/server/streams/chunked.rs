//! Chunked transfer coding (RFC 9112, 7.1).

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};

/// The end of a chunked body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How many framed pieces a cache holds: events and a notice or two, in the formats in use.
const CACHED: usize = 4;

/// A cache of the pieces framed last: thousands of streams send the same one.
#[derive(Default)]
pub(super) struct ChunkCache {
    /// A piece and its chunk.
    chunks: [(Bytes, Bytes); CACHED],
    newest: usize,
}

impl ChunkCache {
    /// A piece as a chunk.
    pub(super) fn frame(&mut self, piece: &Bytes) -> &Bytes {
        // The cache holds the piece, so no other piece can be at its address.
        let is_it = |(cached, _): &(Bytes, Bytes)| {
            cached.as_ptr() == piece.as_ptr() && cached.len() == piece.len()
        };
        let found = self.chunks.iter().position(is_it).unwrap_or_else(|| {
            let mut chunk = BytesMut::with_capacity(piece.len() + 16);
            put_chunk(&mut chunk, piece);
            self.newest = (self.newest + 1) % CACHED;
            self.chunks[self.newest] = (piece.clone(), chunk.freeze());
            self.newest
        });
        &self.chunks[found].1
    }
}

/// Appends one chunk, or nothing for an empty piece: an empty chunk would end the body.
pub(super) fn put_chunk(bytes: &mut BytesMut, piece: &[u8]) {
    if !piece.is_empty() {
        let _ = write!(bytes, "{:X}\r\n", piece.len());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_its_length_in_hex_and_its_bytes() {
        let mut bytes = BytesMut::new();
        put_chunk(&mut bytes, &[b'a'; 26]);
        put_chunk(&mut bytes, b"");
        put_chunk(&mut bytes, b"b");
        assert_eq!(bytes, format!("1A\r\n{}\r\n1\r\nb\r\n", "a".repeat(26)));
    }

    #[test]
    fn the_same_piece_is_framed_once() {
        let mut cache = ChunkCache::default();
        let pieces: Vec<Bytes> = (0..=CACHED)
            .map(|n| Bytes::from(format!("piece {n}")))
            .collect();
        let first = cache.frame(&pieces[0]).clone();
        assert_eq!(&first[..], b"7\r\npiece 0\r\n");
        assert_eq!(cache.frame(&pieces[0]).as_ptr(), first.as_ptr());
        for piece in &pieces {
            let expected = format!("7\r\n{}\r\n", std::str::from_utf8(piece).unwrap());
            assert_eq!(cache.frame(piece), expected.as_bytes());
        }
        assert_ne!(
            cache.frame(&pieces[0]).as_ptr(),
            first.as_ptr(),
            "it fell out"
        );
    }
}
