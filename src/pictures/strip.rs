//! Pictures without what is no part of them: places, cameras, names, comments, and whatever follows their end.
//!
//! A format is read part by part, and the parts that make the picture are copied; all others, also those that nobody
//! has heard of, are left out. What is not whole is refused.

use super::FileKind;

/// Of a file that is not whole, or not of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// A picture alone, byte for byte as it was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stripped {
    pub(super) bytes: Vec<u8>,
    /// Its Exif, from which its orientation is read: in the form of a TIFF.
    pub(super) exif: Option<Vec<u8>>,
    /// Whether it is several that follow each other.
    pub(super) is_animated: bool,
}

/// Takes the picture out of a file.
pub(super) fn strip(kind: FileKind, bytes: &[u8]) -> Result<Stripped, Broken> {
    match kind {
        FileKind::Jpeg => jpeg(bytes),
        FileKind::Png => png(bytes),
        FileKind::Gif => gif(bytes),
        FileKind::WebP => webp(bytes),
        _ => Err(Broken),
    }
}

/// Reads from the front of a slice.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Broken> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        self.take(N)?.try_into().map_err(|_| Broken)
    }

    pub(super) fn length_be(&mut self) -> Result<usize, Broken> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| Broken)
    }

    /// A whole number of so many bytes, none to eight, the first the highest.
    pub(super) fn number(&mut self, bytes: usize) -> Result<usize, Broken> {
        if bytes > 8 {
            return Err(Broken);
        }
        let number =
            { self.take(bytes)?.iter() }.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        usize::try_from(number).map_err(|_| Broken)
    }

    fn length_le(&mut self) -> Result<usize, Broken> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| Broken)
    }
}

/// The most scans of a JPEG: usual ones have ten, and each goes over all of it.
const SCANS_MAX: usize = 64;

/// Source: ITU-T T.81, annex B.
fn jpeg(bytes: &[u8]) -> Result<Stripped, Broken> {
    const SOI: u8 = 0xd8;
    const EOI: u8 = 0xd9;
    const SOS: u8 = 0xda;
    let mut from = Reader(bytes);
    if from.take(2)? != [0xff, SOI] {
        return Err(Broken);
    }
    let (mut to, mut exif, mut scans) = (vec![0xff, SOI], None, 0);
    loop {
        if from.byte()? != 0xff {
            return Err(Broken);
        }
        // Any number of fill bytes.
        let mut marker = from.byte()?;
        while marker == 0xff {
            marker = from.byte()?;
        }
        if marker == EOI {
            to.extend([0xff, EOI]);
            return Ok(Stripped {
                bytes: to,
                exif,
                is_animated: false,
            });
        }
        // The markers without a length stand within scans only.
        if matches!(marker, 0 | 1 | 0xd0..=0xd8) {
            return Err(Broken);
        }
        let length = u16::from_be_bytes(from.array()?);
        let body = from.take(usize::from(length).checked_sub(2).ok_or(Broken)?)?;
        if marker == 0xe1 && exif.is_none() {
            exif = body.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec);
        }
        let is_kept = match marker {
            0xe0 => body.starts_with(b"JFIF\0"),
            0xe2 => body.starts_with(b"ICC_PROFILE\0"),
            // Says how colours are coded.
            0xee => body.starts_with(b"Adobe"),
            // Tables, frames and scans.
            0xc0..=0xcf | 0xda..=0xdd => true,
            _ => false,
        };
        if is_kept {
            to.extend([0xff, marker]);
            to.extend(length.to_be_bytes());
            match marker {
                // A thumbnail may follow.
                0xe0 => jfif(body, &mut to)?,
                _ => to.extend(body),
            }
        }
        if marker == SOS {
            scans += 1;
            if scans > SCANS_MAX {
                return Err(Broken);
            }
            scan(&mut from, &mut to);
        }
    }
}

/// JFIF's segment without its thumbnail, whose length stands before it already.
fn jfif(body: &[u8], to: &mut Vec<u8>) -> Result<(), Broken> {
    let head = body.get(..12).ok_or(Broken)?;
    let at = to.len() - 2;
    to.splice(at.., 16_u16.to_be_bytes());
    to.extend(head);
    to.extend([0, 0]);
    Ok(())
}

/// Copies coded data up to the next marker, or to the end of what is cut off.
fn scan(from: &mut Reader<'_>, to: &mut Vec<u8>) {
    let data = from.0;
    let is_end = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7);
    let end = data.windows(2).position(is_end).unwrap_or(data.len());
    to.extend(&data[..end]);
    from.0 = &data[end..];
}

/// Source: Portable Network Graphics (third edition), 5 and 11.
fn png(bytes: &[u8]) -> Result<Stripped, Broken> {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    const KEPT: [&[u8; 4]; 18] = [
        b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT",
        b"bKGD", b"pHYs", b"cICP", b"mDCV", b"cLLI", b"acTL", b"fcTL", b"fdAT",
    ];
    let mut from = Reader(bytes);
    if from.take(SIGNATURE.len())? != SIGNATURE {
        return Err(Broken);
    }
    let (mut to, mut exif, mut is_animated) = (SIGNATURE.to_vec(), None, false);
    loop {
        let whole = from.0;
        let length = from.length_be()?;
        let name: [u8; 4] = from.array()?;
        let body = from.take(length)?;
        from.take(4)?;
        match &name {
            b"eXIf" => exif = Some(body.to_vec()),
            b"acTL" => is_animated = true,
            _ => {}
        }
        if KEPT.contains(&&name) {
            to.extend(&whole[..length + 12]);
        }
        if &name == b"IEND" {
            return Ok(Stripped {
                bytes: to,
                exif,
                is_animated,
            });
        }
    }
}

/// Source: the GIF89a specification, 15 to 27.
fn gif(bytes: &[u8]) -> Result<Stripped, Broken> {
    let mut from = Reader(bytes);
    let head = from.take(13)?;
    let mut to = head.to_vec();
    to.extend(from.take(table_bytes(head[10]))?);
    let mut pictures = 0_usize;
    loop {
        match from.byte()? {
            // The trailer.
            0x3b => {
                to.push(0x3b);
                return Ok(Stripped {
                    bytes: to,
                    exif: None,
                    is_animated: pictures > 1,
                });
            }
            // A picture.
            0x2c => {
                pictures += 1;
                let place = from.take(9)?;
                to.push(0x2c);
                to.extend(place);
                to.extend(from.take(table_bytes(place[8]))?);
                to.push(from.byte()?);
                to.extend(blocks(&mut from)?);
            }
            // An extension: how the next picture is shown, and how often all of them are.
            0x21 => {
                let label = from.byte()?;
                let body = blocks(&mut from)?;
                let is_loop =
                    body.starts_with(b"\x0bNETSCAPE2.0") || body.starts_with(b"\x0bANIMEXTS1.0");
                if label == 0xf9 || label == 0xff && is_loop {
                    to.extend([0x21, label]);
                    to.extend(body);
                }
            }
            _ => return Err(Broken),
        }
    }
}

/// The length of a table of colours, by the byte that says whether there is one.
fn table_bytes(packed: u8) -> usize {
    match packed & 0x80 {
        0 => 0,
        _ => 3 << ((packed & 7) + 1),
    }
}

/// Blocks up to an empty one, with it.
fn blocks<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Broken> {
    let all = from.0;
    loop {
        let length = from.byte()?;
        from.take(usize::from(length))?;
        if length == 0 {
            return Ok(&all[..all.len() - from.0.len()]);
        }
    }
}

/// Source: RFC 9649, 2.
fn webp(bytes: &[u8]) -> Result<Stripped, Broken> {
    // Of the flags of an extended file: XMP and Exif.
    const METADATA: u8 = 0b1100;
    let mut from = Reader(bytes);
    if from.take(4)? != b"RIFF" {
        return Err(Broken);
    }
    let length = from.length_le()?;
    let mut from = Reader(from.take(length)?);
    if from.take(4)? != b"WEBP" {
        return Err(Broken);
    }
    let mut to = b"RIFF\0\0\0\0WEBP".to_vec();
    let (mut exif, mut is_animated) = (None, false);
    while !from.0.is_empty() {
        let whole = from.0;
        let name: [u8; 4] = from.array()?;
        let length = from.length_le()?;
        // An odd one is followed by a byte of nothing, which some leave out at the end.
        let body = from.take(length)?;
        let padding = from.take(length % 2).unwrap_or_default();
        match &name {
            b"VP8X" => {
                let at = to.len();
                to.extend(&whole[..length + 8]);
                *to.get_mut(at + 8).ok_or(Broken)? &= !METADATA;
            }
            b"VP8 " | b"VP8L" | b"ALPH" | b"ANIM" | b"ANMF" | b"ICCP" => {
                to.extend(&whole[..length + 8])
            }
            // Some write it as JPEGs have it.
            b"EXIF" => {
                exif = Some(body.strip_prefix(b"Exif\0\0").unwrap_or(body).to_vec());
                continue;
            }
            _ => continue,
        }
        is_animated |= &name == b"ANIM";
        to.extend(match length % 2 {
            0 => &[][..],
            _ if padding.is_empty() => &[0],
            _ => padding,
        });
    }
    let length = u32::try_from(to.len() - 8).map_err(|_| Broken)?;
    to[4..8].copy_from_slice(&length.to_le_bytes());
    Ok(Stripped {
        bytes: to,
        exif,
        is_animated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gif_is_its_pictures_and_how_often_they_are_shown() {
        let head = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff";
        let netscape = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0";
        let control = b"\x21\xf9\x04\0\0\0\0\0";
        let picture = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
        let comment = b"\x21\xfe\x06SECRET\0";
        let xmp = b"\x21\xff\x0bXMP DataXMP\x06SECRET\0";
        let of = |parts: &[&[u8]]| [&head[..], &parts.concat(), b"\x3b"].concat();
        let whole = of(&[netscape, comment, control, picture, xmp]);
        let followed = [&whole[..], b"PK\x03\x04 SECRET"].concat();
        let expected = of(&[netscape, control, picture]);
        assert_eq!(gif(&followed).map(|it| it.bytes), Ok(expected));
        for cut in 0..whole.len() {
            assert_eq!(gif(&whole[..cut]), Err(Broken), "{cut}");
        }
    }

    #[test]
    fn a_jpeg_is_its_known_segments() {
        let segment = |marker: u8, body: &[u8]| {
            let length = (body.len() as u16 + 2).to_be_bytes();
            [&[0xff, marker][..], &length, body].concat()
        };
        let table = segment(0xdb, b"table");
        let profile = segment(0xe2, b"ICC_PROFILE\0\x01\x01profile");
        let scan = [segment(0xda, b"scan"), b"da\xff\0ta\xff\xd0more".to_vec()].concat();
        let of = |parts: &[&[u8]]| [b"\xff\xd8", &parts.concat()[..], b"\xff\xd9"].concat();
        let jfif = |thumbnail: &[u8]| {
            let size = [thumbnail.len() as u8 / 3, u8::from(!thumbnail.is_empty())];
            segment(
                0xe0,
                &[b"JFIF\0\x01\x02\x01\0\x48\0\x48", &size[..], thumbnail].concat(),
            )
        };
        let whole = of(&[
            &jfif(b"SECRET"),
            &segment(0xe1, b"Exif\0\0SECRET"),
            &segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0SECRET"),
            &segment(0xe2, b"MPF\0SECRET"),
            &segment(0xed, b"Photoshop 3.0\0SECRET"),
            &segment(0xfe, b"SECRET"),
            &profile,
            &table,
            &scan,
        ]);
        let followed = [&whole[..], b"\xff\xd8SECRET"].concat();
        let stripped = jpeg(&followed).unwrap();
        assert_eq!(stripped.bytes, of(&[&jfif(b""), &profile, &table, &scan]));
        assert_eq!(stripped.exif.as_deref(), Some(&b"SECRET"[..]));
        for cut in 0..whole.len() {
            assert_eq!(jpeg(&whole[..cut]), Err(Broken), "{cut}");
        }
        let endless = of(&vec![&scan[..]; SCANS_MAX + 1]);
        assert_eq!(jpeg(&endless), Err(Broken));
    }

    #[test]
    fn a_png_is_its_known_chunks() {
        let chunk = |name: &[u8], body: &[u8]| {
            let length = (body.len() as u32).to_be_bytes();
            [&length[..], name, body, b"\0\0\0\0"].concat()
        };
        let of = |chunks: &[Vec<u8>]| [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat()].concat();
        let (head, end) = (chunk(b"IHDR", &[0; 13]), chunk(b"IEND", b""));
        let (data, profile) = (chunk(b"IDAT", b"data"), chunk(b"iCCP", b"profile"));
        let whole = of(&[
            head.clone(),
            chunk(b"eXIf", b"SECRET"),
            chunk(b"tEXt", b"SECRET"),
            profile.clone(),
            chunk(b"zzZz", b"SECRET"),
            data.clone(),
            end.clone(),
        ]);
        let followed = [&whole[..], b"SECRET"].concat();
        let stripped = png(&followed).unwrap();
        assert_eq!(stripped.bytes, of(&[head, profile, data, end]));
        assert_eq!(stripped.exif.as_deref(), Some(&b"SECRET"[..]));
        for cut in 0..whole.len() {
            assert_eq!(png(&whole[..cut]), Err(Broken), "{cut}");
        }
        let huge = [
            b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR".to_vec(),
            vec![0; 100],
        ]
        .concat();
        assert_eq!(png(&huge), Err(Broken));
    }
}
