use std::time::{Duration, Instant};

use image::{Rgba, RgbaImage};

use super::*;

const KINDS: [FileKind; 4] = [FileKind::Jpeg, FileKind::Png, FileKind::Gif, FileKind::WebP];

/// A picture whose four corners have colours of their own.
fn corners(width: u32, height: u32) -> DynamicImage {
    let picture = RgbaImage::from_fn(width, height, |x, y| {
        match (x < width / 2, y < height / 2) {
            (true, true) => Rgba([255, 0, 0, 255]),
            (false, true) => Rgba([0, 255, 0, 255]),
            (true, false) => Rgba([0, 0, 255, 255]),
            (false, false) => Rgba([255, 255, 0, 255]),
        }
    });
    DynamicImage::from(DynamicImage::from(picture).to_rgb8())
}

/// The colours of its corners, each as near to the one of [`corners`] as JPEG leaves it.
fn corners_of(bytes: &[u8]) -> Vec<char> {
    let picture = image::load_from_memory(bytes).unwrap().to_rgb8();
    let (right, bottom) = (picture.width() - 3, picture.height() - 3);
    [(2, 2), (right, 2), (2, bottom), (right, bottom)]
        .map(
            |(x, y)| match picture.get_pixel(x, y).0.map(|part| part > 127) {
                [true, false, false] => 'r',
                [false, true, false] => 'g',
                [false, false, true] => 'b',
                [true, true, false] => 'y',
                _ => '?',
            },
        )
        .to_vec()
}

fn file_of(kind: FileKind, picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    match kind {
        FileKind::Gif => {
            let mut to = Cursor::new(&mut bytes);
            picture.write_to(&mut to, ImageFormat::Gif).unwrap();
        }
        kind => bytes = encode(kind, picture, None).unwrap(),
    }
    bytes
}

/// Exif as a TIFF: an orientation, and the name of a camera.
fn exif(orientation: u8) -> Vec<u8> {
    let camera = b"SECRET CAMERA\0\0\0";
    let mut tiff = b"MM\0*\0\0\0\x08\0\x02".to_vec();
    // Model, ASCII, its length and place.
    tiff.extend([1, 0x10, 0, 2, 0, 0, 0, camera.len() as u8, 0, 0, 0, 38]);
    // Orientation, SHORT, one.
    tiff.extend([1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    tiff.extend([0; 4]);
    tiff.extend(camera);
    tiff
}

/// The file with Exif in it.
fn with_exif(kind: FileKind, bytes: &[u8], exif: &[u8]) -> Vec<u8> {
    match kind {
        FileKind::Jpeg => {
            let body = [b"Exif\0\0", exif].concat();
            let length = (body.len() as u16 + 2).to_be_bytes();
            [&bytes[..2], &[0xff, 0xe1], &length, &body, &bytes[2..]].concat()
        }
        FileKind::Png => {
            let length = (exif.len() as u32).to_be_bytes();
            // After IHDR; nobody checks the sum of what is left out.
            [&bytes[..33], &length, b"eXIf", exif, &[0; 4], &bytes[33..]].concat()
        }
        FileKind::WebP => {
            let picture = image::load_from_memory(bytes).unwrap();
            let size = |pixels: u32| (pixels - 1).to_le_bytes()[..3].to_vec();
            let extended = [
                b"VP8X\x0a\0\0\0\x08\0\0\0".to_vec(),
                size(picture.width()),
                size(picture.height()),
            ];
            let length = (exif.len() as u32).to_le_bytes();
            let padding = vec![0; exif.len() % 2];
            let chunk = [&b"EXIF"[..], &length, exif, &padding].concat();
            let body = [extended.concat(), bytes[12..].to_vec(), chunk].concat();
            let length = (body.len() as u32 + 4).to_le_bytes();
            [b"RIFF".to_vec(), length.to_vec(), b"WEBP".to_vec(), body].concat()
        }
        _ => bytes.to_vec(),
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn every_orientation_is_upright_and_says_nothing_of_the_camera() {
    for kind in [FileKind::Jpeg, FileKind::Png, FileKind::WebP] {
        for orientation in 1..=8 {
            let mut stored = corners(64, 32);
            // The quarter turns undo each other, all others themselves.
            let back = match orientation {
                6 => 8,
                8 => 6,
                other => other,
            };
            stored.apply_orientation(Orientation::from_exif(back).unwrap());
            let file = with_exif(kind, &file_of(kind, &stored), &exif(orientation));
            assert!(contains(&file, "SECRET"));
            let picture = prepare(kind, &file).unwrap();
            assert_eq!(
                (picture.width, picture.height),
                (64, 32),
                "{kind:?} {orientation}"
            );
            let found = corners_of(&picture.bytes);
            assert_eq!(found, ['r', 'g', 'b', 'y'], "{kind:?} {orientation}");
            assert!(
                !contains(&picture.bytes, "SECRET"),
                "{kind:?} {orientation}"
            );
            assert_eq!(FileKind::of(&picture.bytes), kind);
        }
    }
}

#[test]
fn an_upright_picture_is_kept_byte_for_byte() {
    for kind in KINDS {
        let file = file_of(kind, &corners(40, 30));
        let followed = [&file[..], b"<script>SECRET</script>"].concat();
        let picture = prepare(kind, &followed).unwrap();
        assert_eq!((picture.width, picture.height), (40, 30));
        assert_eq!(picture.bytes, file, "{kind:?}");
        assert!(picture.smaller.is_empty() && !picture.is_animated);
    }
}

#[test]
fn smaller_copies_fit_a_row() {
    // Noise is what takes most.
    let mut random = fastrand::Rng::with_seed(7);
    let noise = RgbaImage::from_fn(2_000, 1_000, |_, _| {
        Rgba([random.u8(..), random.u8(..), random.u8(..), 255])
    });
    let noise = DynamicImage::from(noise);
    let opaque = DynamicImage::from(noise.to_rgb8());
    let picture = prepare(FileKind::Jpeg, &file_of(FileKind::Jpeg, &opaque)).unwrap();
    let sizes: Vec<(u32, u32)> = { picture.smaller.iter() }
        .map(|it| (it.width, it.height))
        .collect();
    assert_eq!(sizes, [(320, 160), (1_280, 640)]);
    assert!(picture.smaller[0].bytes.len() <= SMALL_BYTES_MAX);
    for small in &picture.smaller {
        let decoded = image::load_from_memory(&small.bytes).unwrap();
        assert_eq!(
            (decoded.width(), decoded.height()),
            (small.width, small.height)
        );
    }
    // Glass stays glass, unless its file is too large for a row.
    let glass = RgbaImage::from_fn(800, 400, |x, _| Rgba([200, 10, 10, (x % 256) as u8]));
    let picture = prepare(FileKind::Png, &file_of(FileKind::Png, &glass.into())).unwrap();
    assert_eq!(picture.smaller.len(), 1);
    assert_eq!(picture.smaller[0].kind, FileKind::WebP);
    let noisy = RgbaImage::from_fn(800, 400, |_, _| {
        Rgba([random.u8(..), random.u8(..), random.u8(..), random.u8(..)])
    });
    let picture = prepare(FileKind::Png, &file_of(FileKind::Png, &noisy.into())).unwrap();
    assert_eq!(picture.smaller[0].kind, FileKind::Jpeg);
    assert!(picture.smaller[0].bytes.len() <= SMALL_BYTES_MAX);
}

#[test]
fn what_would_take_too_much_is_refused_before_it_does() {
    let png = |width: u32, height: u32| {
        let mut file = file_of(FileKind::Png, &corners(4, 4));
        file[16..20].copy_from_slice(&width.to_be_bytes());
        file[20..24].copy_from_slice(&height.to_be_bytes());
        // IHDR's sum, which is checked.
        let sum = crc32(&file[12..29]).to_be_bytes();
        file[29..33].copy_from_slice(&sum);
        file
    };
    let mut gif = file_of(FileKind::Gif, &corners(4, 4));
    gif[6..10].copy_from_slice(&[0xff; 4]);
    let mut jpeg = file_of(FileKind::Jpeg, &corners(16, 16));
    let at = jpeg.windows(2).position(|it| it == [0xff, 0xc0]).unwrap();
    jpeg[at + 5..at + 9].copy_from_slice(&[0xff, 0x00, 0xff, 0x00]);
    let began = Instant::now();
    for (kind, file) in [
        (FileKind::Png, png(60_000, 60_000)),
        (FileKind::Png, png(1, 2_000_000_000)),
        (FileKind::Gif, gif),
        (FileKind::Jpeg, jpeg),
    ] {
        let refused = prepare(kind, &file).unwrap_err();
        assert_eq!(refused, NotAPicture::TooLarge, "{kind:?}");
    }
    let none = prepare(FileKind::Png, &png(0, 5)).unwrap_err();
    assert_eq!(none, NotAPicture::Broken);
    assert!(began.elapsed() < Duration::from_secs(10));
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn what_is_cut_off_or_of_another_kind_is_refused() {
    for kind in KINDS {
        let file = file_of(kind, &corners(40, 30));
        for cut in 0..file.len() {
            // A JPEG may end in the midst of its pixels, as decoders show what there is.
            let refused = prepare(kind, &file[..cut]);
            assert!(refused.is_err(), "{kind:?} cut at {cut}");
        }
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            assert!(prepare(other, &file).is_err(), "{kind:?} as {other:?}");
        }
        for other in [FileKind::Other, FileKind::Heic, FileKind::Mp4] {
            assert!(prepare(other, &file).is_err());
        }
    }
}

/// Invariant: a changed picture is prepared or refused, soon, and a kept one can be prepared again.
/// `PICTURES_FUZZED` says how many are tried.
#[test]
fn whatever_is_changed_in_a_picture_nothing_breaks() {
    let rounds = std::env::var("PICTURES_FUZZED").map_or(400, |rounds| {
        rounds
            .parse()
            .expect("PICTURES_FUZZED takes a whole number")
    });
    let seeds: Vec<(FileKind, Vec<u8>)> = KINDS
        .into_iter()
        .map(|kind| {
            (
                kind,
                with_exif(kind, &file_of(kind, &corners(48, 24)), &exif(6)),
            )
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..rounds {
        let (kind, seed) = &seeds[round % seeds.len()];
        let mut file = seed.clone();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(..file.len());
            match random.usize(..4) {
                0 => file[at] = random.u8(..),
                1 => file.truncate(at.max(1)),
                2 => file.insert(at, random.u8(..)),
                _ => file[at] ^= 1 << random.usize(..8),
            }
        }
        let began = Instant::now();
        let prepared = std::panic::catch_unwind(|| prepare(*kind, &file));
        let prepared = prepared.unwrap_or_else(|_| panic!("round {round} panicked"));
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "round {round} took {:?}",
            began.elapsed()
        );
        if let Ok(picture) = prepared {
            let again = prepare(*kind, &picture.bytes).unwrap();
            assert_eq!(again.bytes, picture.bytes, "round {round}");
        }
    }
}
