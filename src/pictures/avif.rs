//! AVIF, which is kept as it is: nothing here decodes it. What it says beside the picture is blanked where it stands, so
//! that no place in the file moves.
//!
//! Source: ISO/IEC 14496-12, 4.2 and 8.11, and 23008-12, 6.5.

use super::strip::{Broken, Reader};

/// An AVIF whose metadata are blank.
#[derive(Debug)]
pub(super) struct Avif {
    pub(super) bytes: Vec<u8>,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) is_animated: bool,
}

/// A box: its type, and where its content stands in the file.
struct Part {
    kind: [u8; 4],
    from: usize,
    to: usize,
}

/// The boxes between two places.
fn parts(bytes: &[u8], from: usize, to: usize) -> Result<Vec<Part>, Broken> {
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let mut head = Reader(bytes.get(at..to).ok_or(Broken)?);
        let short = head.length_be()?;
        let kind = head.array()?;
        let (length, head) = match short {
            // To the end.
            0 => (to - at, 8),
            1 => {
                let long = u64::from_be_bytes(head.array()?);
                (usize::try_from(long).map_err(|_| Broken)?, 16)
            }
            short => (short, 8),
        };
        let end = at
            .checked_add(length)
            .filter(|end| *end <= to)
            .ok_or(Broken)?;
        let from = at
            .checked_add(head)
            .filter(|from| *from <= end)
            .ok_or(Broken)?;
        parts.push(Part {
            kind,
            from,
            to: end,
        });
        at = end;
    }
    Ok(parts)
}

fn find<'a>(parts: &'a [Part], kind: &[u8; 4]) -> Result<&'a Part, Broken> {
    parts.iter().find(|part| part.kind == *kind).ok_or(Broken)
}

/// Blanks what is not the picture, and reads how large that is.
pub(super) fn blank(file: &[u8]) -> Result<Avif, Broken> {
    let top = parts(file, 0, file.len())?;
    let brands = find(&top, b"ftyp")?;
    let is_animated = file[brands.from..brands.to]
        .chunks(4)
        .any(|brand| brand == b"avis");
    let meta = find(&top, b"meta")?;
    // Its version and flags come first.
    let inner = parts(file, meta.from + 4, meta.to)?;
    let (width, height) = size(file, find(&inner, b"iprp")?)?;
    let data = inner.iter().find(|part| part.kind == *b"idat");
    let hidden = hidden_items(file, find(&inner, b"iinf")?)?;
    let mut bytes = file.to_vec();
    for (from, to) in extents(file, find(&inner, b"iloc")?, &hidden, data)? {
        bytes.get_mut(from..to).ok_or(Broken)?.fill(0);
    }
    for part in &top {
        if matches!(&part.kind, b"free" | b"skip" | b"uuid" | b"udta") {
            bytes[part.from..part.to].fill(0);
        }
    }
    Ok(Avif {
        bytes,
        width,
        height,
        is_animated,
    })
}

/// The size of the largest item, as it is shown: the others are its tiles and its transparency.
fn size(file: &[u8], properties: &Part) -> Result<(u32, u32), Broken> {
    let containers = parts(file, properties.from, properties.to)?;
    let container = find(&containers, b"ipco")?;
    let mut size = (0, 0);
    let mut is_turned = false;
    for property in parts(file, container.from, container.to)? {
        let mut content = Reader(&file[property.from..property.to]);
        match &property.kind {
            b"ispe" => {
                content.take(4)?;
                let side = |content: &mut Reader<'_>| Ok(u32::from_be_bytes(content.array()?));
                let found: (u32, u32) = (side(&mut content)?, side(&mut content)?);
                let area = |(width, height)| u64::from(width) * u64::from(height);
                if area(found) > area(size) {
                    size = found;
                }
            }
            b"irot" => is_turned |= content.byte()? & 1 == 1,
            _ => {}
        }
    }
    match is_turned {
        true => Ok((size.1, size.0)),
        false => Ok(size),
    }
}

/// The ids of items that are not part of the picture: Exif, and XMP among texts.
fn hidden_items(file: &[u8], infos: &Part) -> Result<Vec<u32>, Broken> {
    let mut content = Reader(&file[infos.from..infos.to]);
    let version = content.take(4)?[0];
    let head = if version == 0 { 2 } else { 4 };
    let mut hidden = Vec::new();
    for info in parts(file, infos.from + 4 + head, infos.to)? {
        let mut content = Reader(&file[info.from..info.to]);
        let version = content.take(4)?[0];
        let id = match version {
            2 => u32::from(u16::from_be_bytes(content.array()?)),
            3 => u32::from_be_bytes(content.array()?),
            _ => return Err(Broken),
        };
        content.take(2)?;
        if matches!(content.take(4)?, b"Exif" | b"mime" | b"uri ") {
            hidden.push(id);
        }
    }
    Ok(hidden)
}

/// The places of some items in the file.
fn extents(
    file: &[u8],
    places: &Part,
    of: &[u32],
    data: Option<&Part>,
) -> Result<Vec<(usize, usize)>, Broken> {
    let mut content = Reader(&file[places.from..places.to]);
    let version = content.take(4)?[0];
    let [sizes, more] = content.array()?;
    let (offset_size, length_size) = (usize::from(sizes >> 4), usize::from(sizes & 15));
    let (base_size, index_size) = (usize::from(more >> 4), usize::from(more & 15));
    let id_size = if version < 2 { 2 } else { 4 };
    let count = content.number(id_size)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let id = content.number(id_size)?;
        let method = if version > 0 {
            content.number(2)? & 15
        } else {
            0
        };
        content.take(2)?;
        let base = content.number(base_size)?;
        for _ in 0..content.number(2)? {
            if version > 0 {
                content.take(index_size)?;
            }
            let from = base
                .checked_add(content.number(offset_size)?)
                .ok_or(Broken)?;
            let length = content.number(length_size)?;
            if !of.iter().any(|hidden| *hidden as usize == id) {
                continue;
            }
            // In the file, or among the small data of the list itself.
            let (start, end) = match (method, data) {
                (0, _) => (0, file.len()),
                (1, Some(data)) => (data.from, data.to),
                _ => return Err(Broken),
            };
            let from = start.checked_add(from).ok_or(Broken)?;
            // No length is all of it.
            let to = match length {
                0 => end,
                length => from.checked_add(length).ok_or(Broken)?,
            };
            if from > to || to > end {
                return Err(Broken);
            }
            found.push((from, to));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32 + 8).to_be_bytes();
        [&length[..], kind, content].concat()
    }

    fn file(secret: &[u8]) -> Vec<u8> {
        let info = |id: u8, kind: &[u8; 4]| {
            part(
                b"infe",
                &[&[2, 0, 0, 0, 0, id, 0, 0][..], kind, b"\0"].concat(),
            )
        };
        let infos = [
            &[0, 0, 0, 0, 0, 2][..],
            &info(1, b"av01"),
            &info(2, b"Exif"),
        ]
        .concat();
        let ispe = |width: u32, height: u32| {
            part(
                b"ispe",
                &[&[0; 4][..], &width.to_be_bytes(), &height.to_be_bytes()].concat(),
            )
        };
        let properties = part(
            b"ipco",
            &[ispe(64, 64), ispe(300, 200), part(b"irot", &[1])].concat(),
        );
        let ftyp = part(b"ftyp", b"avif\0\0\0\0mif1avif");
        let at = |offset: u32| {
            let item = |id: u8, offset: u32, length: u32| {
                [
                    &[0, id, 0, 0, 0, 1][..],
                    &offset.to_be_bytes(),
                    &length.to_be_bytes(),
                ]
                .concat()
            };
            let places = [
                &[0, 0, 0, 0, 0x44, 0, 0, 2][..],
                &item(1, offset, 7),
                &item(2, offset + 7, secret.len() as u32),
            ]
            .concat();
            let meta = [
                &[0; 4][..],
                &part(b"iinf", &infos),
                &part(b"iloc", &places),
                &part(b"iprp", &properties),
            ]
            .concat();
            [ftyp.clone(), part(b"meta", &meta)].concat()
        };
        let offset = at(0).len() as u32 + 8;
        let content = [b"picture", secret].concat();
        [
            at(offset),
            part(b"mdat", &content),
            part(b"free", b"SECRET"),
        ]
        .concat()
    }

    #[test]
    fn what_it_says_is_blank_and_nothing_moves() {
        let whole = file(b"SECRET camera");
        let avif = blank(&whole).unwrap();
        assert_eq!((avif.width, avif.height), (200, 300));
        assert_eq!(avif.bytes.len(), whole.len());
        assert!(!avif.bytes.windows(6).any(|bytes| bytes == b"SECRET"));
        assert!(avif.bytes.windows(7).any(|bytes| bytes == b"picture"));
        assert!(!avif.is_animated);
    }

    #[test]
    fn whatever_is_cut_off_or_changed_nothing_panics() {
        let whole = file(b"SECRET camera");
        for cut in 0..whole.len() {
            let _ = blank(&whole[..cut]);
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = blank(&changed);
            }
        }
    }
}
