//! Preparing a picture: stripped, upright, of a known size, with smaller copies.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, ImageResult, Limits, Rgb,
    RgbImage,
};

use super::strip::{Broken, strip};
use super::{FileKind, avif};

/// The most pixels of a picture: those of a large camera. Decoded they are 200 MB.
pub const PIXELS_MAX: u64 = 50_000_000;

/// The most that a decoder may take, in bytes.
const DECODED_MAX: u64 = PIXELS_MAX * 4 + 16 * 1024 * 1024;

/// The longest sides of the smaller copies: one for a row of a conversation, one for a screen.
const SIDES: [u32; 2] = [320, 1_280];

/// The most bytes of a copy for a row: ten of them are a page's.
const SMALL_BYTES_MAX: usize = 30 * 1024;

/// The largest colour profile that a smaller copy carries along: that of usual wide colours has 600 bytes.
const PROFILE_BYTES_MAX: usize = 4 * 1024;

/// The quality of a JPEG that had to be turned.
const TURNED_QUALITY: u8 = 92;

/// A picture that may be kept and shown.
#[derive(Debug)]
pub struct Picture {
    /// Its kind.
    pub kind: FileKind,
    /// The file, without anything that is not the picture.
    pub bytes: Vec<u8>,
    /// Pixels from side to side, upright.
    pub width: u32,
    /// Pixels from top to bottom, upright.
    pub height: u32,
    /// Whether it moves.
    pub is_animated: bool,
    /// Smaller copies, the smallest first. One that would not be smaller is left out; of a moving picture each shows its
    /// first moment.
    pub smaller: Vec<SmallPicture>,
}

/// A smaller copy of a picture.
#[derive(Debug)]
pub struct SmallPicture {
    /// Its kind: JPEG, or WebP where something can be seen through.
    pub kind: FileKind,
    /// The file.
    pub bytes: Vec<u8>,
    /// Pixels from side to side.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// A file that is no picture which can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAPicture {
    /// It is not whole, or not what it begins like.
    #[error("the picture is broken")]
    Broken,
    /// It has more than [`PIXELS_MAX`], or needs more memory than such a one.
    #[error("the picture has more than 50 megapixels")]
    TooLarge,
}

impl From<Broken> for NotAPicture {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl From<image::ImageError> for NotAPicture {
    fn from(error: image::ImageError) -> Self {
        match error {
            image::ImageError::Limits(_) => Self::TooLarge,
            _ => Self::Broken,
        }
    }
}

/// Prepares a picture: JPEG, PNG, GIF or WebP, which are decoded here, or an AVIF, which is not and has no smaller
/// copies.
///
/// # Errors
///
/// [`NotAPicture`], also where the kind is another.
pub fn prepare(kind: FileKind, file: &[u8]) -> Result<Picture, NotAPicture> {
    if kind == FileKind::Avif {
        return prepare_avif(file);
    }
    let format = match kind {
        FileKind::Jpeg => ImageFormat::Jpeg,
        FileKind::Png => ImageFormat::Png,
        FileKind::Gif => ImageFormat::Gif,
        FileKind::WebP => ImageFormat::WebP,
        _ => return Err(NotAPicture::Broken),
    };
    let stripped = strip(kind, file)?;
    let (decoded, profile) = decode(format, &stripped.bytes)?;
    let orientation = stripped
        .exif
        .and_then(|exif| Orientation::from_exif_chunk(&exif));
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    let mut picture = decoded;
    let mut bytes = stripped.bytes;
    // A moving one is not turned: what shows it would have to be made anew, moment by moment.
    if orientation != Orientation::NoTransforms && !stripped.is_animated {
        picture.apply_orientation(orientation);
        bytes = encode(kind, &picture, profile.as_deref())?;
    }
    let smaller = SIDES
        .into_iter()
        .filter_map(|side| smaller(&picture, side, profile.as_deref()));
    let smaller: Vec<SmallPicture> = smaller.collect::<Result<_, _>>()?;
    Ok(Picture {
        kind,
        bytes,
        width: picture.width(),
        height: picture.height(),
        is_animated: stripped.is_animated,
        smaller,
    })
}

fn prepare_avif(file: &[u8]) -> Result<Picture, NotAPicture> {
    let avif = avif::blank(file)?;
    let pixels = u64::from(avif.width) * u64::from(avif.height);
    match pixels {
        0 => Err(NotAPicture::Broken),
        1..=PIXELS_MAX => Ok(Picture {
            kind: FileKind::Avif,
            bytes: avif.bytes,
            width: avif.width,
            height: avif.height,
            is_animated: avif.is_animated,
            smaller: Vec::new(),
        }),
        _ => Err(NotAPicture::TooLarge),
    }
}

/// A picture's pixels, and its colour profile. Its size is known before anything of it is decoded.
fn decode(
    format: ImageFormat,
    bytes: &[u8],
) -> Result<(DynamicImage, Option<Vec<u8>>), NotAPicture> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX || decoder.total_bytes() > DECODED_MAX {
        return Err(NotAPicture::TooLarge);
    }
    if width == 0 || height == 0 {
        return Err(NotAPicture::Broken);
    }
    let profile = decoder.icc_profile()?;
    Ok((DynamicImage::from_decoder(decoder)?, profile))
}

/// The picture as a file of its kind again.
fn encode(kind: FileKind, picture: &DynamicImage, profile: Option<&[u8]>) -> ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    match kind {
        FileKind::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, TURNED_QUALITY);
            write(picture, encoder, profile)?;
        }
        FileKind::WebP => write(picture, WebPEncoder::new_lossless(&mut bytes), profile)?,
        _ => write(picture, PngEncoder::new(&mut bytes), profile)?,
    }
    Ok(bytes)
}

fn write(
    picture: &DynamicImage,
    mut encoder: impl ImageEncoder,
    profile: Option<&[u8]>,
) -> ImageResult<()> {
    if let Some(profile) = profile {
        // Of a format that has none, or not of this kind: its colours are then taken for usual ones.
        let _ = encoder.set_icc_profile(profile.to_vec());
    }
    picture.write_with_encoder(encoder)
}

/// A copy whose longest side is `side`; `None` where it would not be smaller.
fn smaller(
    picture: &DynamicImage,
    side: u32,
    profile: Option<&[u8]>,
) -> Option<ImageResult<SmallPicture>> {
    if picture.width().max(picture.height()) <= side {
        return None;
    }
    Some(copy(
        &picture.thumbnail(side, side),
        side == SIDES[0],
        profile,
    ))
}

fn copy(
    small: &DynamicImage,
    is_for_rows: bool,
    profile: Option<&[u8]>,
) -> ImageResult<SmallPicture> {
    let profile = profile.filter(|profile| profile.len() <= PROFILE_BYTES_MAX);
    let (width, height) = (small.width(), small.height());
    if is_seen_through(small) {
        let rgba = DynamicImage::from(small.to_rgba8());
        let bytes = encode(FileKind::WebP, &rgba, profile)?;
        if !is_for_rows || bytes.len() <= SMALL_BYTES_MAX {
            return Ok(SmallPicture {
                kind: FileKind::WebP,
                bytes,
                width,
                height,
            });
        }
    }
    let rgb = DynamicImage::from(on_white(small));
    let mut quality = 80;
    loop {
        let mut bytes = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
        write(&rgb, encoder, profile)?;
        if !is_for_rows || bytes.len() <= SMALL_BYTES_MAX || quality <= 20 {
            return Ok(SmallPicture {
                kind: FileKind::Jpeg,
                bytes,
                width,
                height,
            });
        }
        quality -= 15;
    }
}

/// The picture where nothing can be seen through.
fn on_white(picture: &DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.to_rgb8();
    }
    let rgba = picture.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [red, green, blue, alpha] = rgba.get_pixel(x, y).0.map(u16::from);
        let blend = |colour: u16| ((colour * alpha + 255 * (255 - alpha)) / 255) as u8;
        Rgb([red, green, blue].map(blend))
    })
}

/// Whether any pixel is not of one colour alone.
fn is_seen_through(picture: &DynamicImage) -> bool {
    picture.color().has_alpha() && picture.to_rgba8().pixels().any(|pixel| pixel.0[3] < 255)
}

#[cfg(test)]
mod tests;
