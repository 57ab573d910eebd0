//! Kinds of files, told by their first bytes.

/// A kind of file. All but [`Self::Other`] and [`Self::Heic`] are shown where they stand; others are downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A JPEG.
    Jpeg,
    /// A PNG, also an animated one.
    Png,
    /// A GIF.
    Gif,
    /// A WebP.
    WebP,
    /// An AVIF.
    Avif,
    /// A HEIC, which few browsers show.
    Heic,
    /// An MP4, as video.
    Mp4,
    /// A WebM, as video.
    WebM,
    /// An MP3.
    Mp3,
    /// An Ogg stream, as sound.
    Ogg,
    /// A WAV.
    Wav,
    /// Anything else, to be downloaded.
    Other,
}

impl FileKind {
    /// So many bytes of a file tell its kind.
    pub const BYTES: usize = 4 * 1024;

    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Jpeg,
        Self::Png,
        Self::Gif,
        Self::WebP,
        Self::Avif,
        Self::Heic,
        Self::Mp4,
        Self::WebM,
        Self::Mp3,
        Self::Ogg,
        Self::Wav,
        Self::Other,
    ];

    /// The kind of a file that begins like this: [`Self::BYTES`] of it are enough.
    /// Source: the WHATWG's MIME Sniffing Standard, 6, and ISO/IEC 14496-12, 4.3, for the brands.
    pub fn of(start: &[u8]) -> Self {
        let at = |from: usize, bytes: &[u8]| {
            start
                .get(from..from + bytes.len())
                .is_some_and(|it| it == bytes)
        };
        if at(0, b"\xff\xd8\xff") {
            Self::Jpeg
        } else if at(0, b"\x89PNG\r\n\x1a\n") {
            Self::Png
        } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
            Self::Gif
        } else if at(0, b"RIFF") && at(8, b"WEBPVP") {
            Self::WebP
        } else if at(0, b"RIFF") && at(8, b"WAVE") {
            Self::Wav
        } else if at(4, b"ftyp") {
            of_brands(start)
        } else if at(0, b"\x1a\x45\xdf\xa3") {
            match has_doc_type(start, b"webm") {
                true => Self::WebM,
                false => Self::Other,
            }
        } else if at(0, b"OggS\0") {
            Self::Ogg
        } else if at(0, b"ID3") || is_mp3_frame(start) {
            Self::Mp3
        } else {
            Self::Other
        }
    }

    /// The media type it is served with.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::WebP => "image/webp",
            Self::Avif => "image/avif",
            Self::Heic => "image/heic",
            Self::Mp4 => "video/mp4",
            Self::WebM => "video/webm",
            Self::Mp3 => "audio/mpeg",
            Self::Ogg => "audio/ogg",
            Self::Wav => "audio/wav",
            Self::Other => "application/octet-stream",
        }
    }

    /// The kind with a media type; [`Self::Other`] for one that is none of these.
    pub fn with_media_type(media_type: &str) -> Self {
        let found = Self::ALL
            .into_iter()
            .find(|kind| kind.media_type() == media_type);
        found.unwrap_or(Self::Other)
    }

    /// Whether browsers show it as a picture.
    pub fn is_picture(self) -> bool {
        matches!(
            self,
            Self::Jpeg | Self::Png | Self::Gif | Self::WebP | Self::Avif
        )
    }

    /// Whether it may be shown where it stands. Nothing of these can run anything.
    pub fn is_shown(self) -> bool {
        !matches!(self, Self::Heic | Self::Other)
    }
}

/// The kind of a file of boxes, by the brands in its first.
fn of_brands(start: &[u8]) -> FileKind {
    let length = start
        .first_chunk::<4>()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let length = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(start.len());
    let major = start.get(8..12).unwrap_or_default();
    let others = start.get(16..length).unwrap_or_default().chunks_exact(4);
    let has = |brands: &[&[u8; 4]]| {
        let mut all = std::iter::once(major).chain(others.clone());
        all.any(|brand| brands.iter().any(|one| brand == *one))
    };
    if has(&[b"avif", b"avis"]) {
        FileKind::Avif
    } else if has(&[
        b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1",
    ]) {
        FileKind::Heic
    } else if has(&[
        b"isom", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ",
        b"M4A ", b"dash", b"MSNV",
    ]) {
        FileKind::Mp4
    } else {
        FileKind::Other
    }
}

/// Whether an EBML header names a type of document.
fn has_doc_type(start: &[u8], name: &[u8]) -> bool {
    // The id of DocType, and its length in one byte.
    const DOC_TYPE: [u8; 2] = [0x42, 0x82];
    let header = &start[..start.len().min(64)];
    let found = header.windows(2).position(|bytes| bytes == DOC_TYPE);
    found.is_some_and(|at| {
        let length = header.get(at + 2).map(|byte| usize::from(byte & 0x7f));
        let text = length.and_then(|length| header.get(at + 3..at + 3 + length));
        text.is_some_and(|text| text == name)
    })
}

/// Whether there is a frame of MPEG audio, layer 3, with another after it.
/// Source: ISO/IEC 11172-3, 2.4.1.3.
fn is_mp3_frame(start: &[u8]) -> bool {
    let frame = |at: usize| {
        let header = start.get(at..at + 4)?;
        let is_synced = header[0] == 0xff && header[1] & 0xe0 == 0xe0;
        let (version, layer) = ((header[1] >> 3) & 3, (header[1] >> 1) & 3);
        let (rate, sampling) = (
            usize::from(header[2] >> 4),
            usize::from((header[2] >> 2) & 3),
        );
        if !is_synced || version == 1 || layer != 1 || sampling == 3 {
            return None;
        }
        const RATES_1: [u32; 15] = [
            0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
        ];
        const RATES_2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        let is_1 = version == 3;
        let kilobits = *(if is_1 { RATES_1 } else { RATES_2 }).get(rate)?;
        let hertz = [44_100, 48_000, 32_000][sampling] >> [2, 0, 1, 0][usize::from(version)];
        let padding = u32::from((header[2] >> 1) & 1);
        let samples = if is_1 { 144_000 } else { 72_000 };
        (kilobits > 0).then(|| (samples * kilobits / hertz + padding) as usize)
    };
    frame(0).is_some_and(|length| frame(length).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_by_the_bytes() {
        let ftyp = |brand: &str, others: &str| {
            let length = (16 + others.len()) as u32;
            [
                &length.to_be_bytes()[..],
                b"ftyp",
                brand.as_bytes(),
                &[0; 4],
                others.as_bytes(),
            ]
            .concat()
        };
        let webm = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm\x42\x87\x81\x04";
        let mp3 = [&b"\xff\xfb\x90\x00"[..], &[0; 413], b"\xff\xfb\x90\x00"].concat();
        for (start, kind) in [
            (b"\xff\xd8\xff\xe0".to_vec(), FileKind::Jpeg),
            (b"\x89PNG\r\n\x1a\n\0\0".to_vec(), FileKind::Png),
            (b"GIF89a\x01\0\x01\0".to_vec(), FileKind::Gif),
            (b"RIFF\x10\0\0\0WEBPVP8L".to_vec(), FileKind::WebP),
            (b"RIFF\x10\0\0\0WAVEfmt ".to_vec(), FileKind::Wav),
            (ftyp("avif", "mif1miaf"), FileKind::Avif),
            (ftyp("mif1", "mif1avif"), FileKind::Avif),
            (ftyp("heic", "mif1heic"), FileKind::Heic),
            (ftyp("isom", "iso2avc1mp41"), FileKind::Mp4),
            (ftyp("mp42", ""), FileKind::Mp4),
            (ftyp("qt  ", "qt  "), FileKind::Other),
            (webm.to_vec(), FileKind::WebM),
            (
                b"\x1a\x45\xdf\xa3\x42\x82\x88matroska".to_vec(),
                FileKind::Other,
            ),
            (b"OggS\0\x02".to_vec(), FileKind::Ogg),
            (b"ID3\x04\0\0".to_vec(), FileKind::Mp3),
            (mp3, FileKind::Mp3),
            (
                b"\xff\xfb\x90\x00 and no other frame".to_vec(),
                FileKind::Other,
            ),
            (
                b"<svg xmlns='http://www.w3.org/2000/svg'>".to_vec(),
                FileKind::Other,
            ),
            (b"<!doctype html><script>".to_vec(), FileKind::Other),
            (b"%PDF-1.7".to_vec(), FileKind::Other),
            (b"PK\x03\x04".to_vec(), FileKind::Other),
            (b"".to_vec(), FileKind::Other),
            (b"\xff".to_vec(), FileKind::Other),
            (b"RIFF".to_vec(), FileKind::Other),
            (b"\0\0\0\x08ftyp".to_vec(), FileKind::Other),
            (b"\xff\xff\xff\xffftypisom".to_vec(), FileKind::Mp4),
        ] {
            assert_eq!(
                FileKind::of(&start),
                kind,
                "{:?}",
                String::from_utf8_lossy(&start)
            );
        }
    }

    #[test]
    fn a_kind_has_one_media_type() {
        for kind in FileKind::ALL {
            assert_eq!(FileKind::with_media_type(kind.media_type()), kind);
        }
        assert_eq!(FileKind::with_media_type("text/html"), FileKind::Other);
        assert!(!FileKind::Other.is_shown() && !FileKind::Heic.is_shown());
    }
}
