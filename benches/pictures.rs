//! Measures the preparation of pictures, in time and memory: `cargo bench --bench pictures`.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run should say so and stop"
)]

use std::io::Cursor;
use std::time::Instant;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use parlor::pictures::{FileKind, prepare};

const ROUNDS: u32 = 8;

fn main() {
    println!("| a picture | its file | prepared in | peak memory above the idle process |");
    println!("|---|---|---|---|");
    let photo = photo(4_000, 3_000);
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, 90);
    photo.write_with_encoder(encoder).unwrap();
    measure("JPEG, 12 megapixels", FileKind::Jpeg, &jpeg);
    let mut png = Cursor::new(Vec::new());
    photo
        .thumbnail(1_920, 1_440)
        .write_to(&mut png, ImageFormat::Png)
        .unwrap();
    measure("PNG, a screen", FileKind::Png, &png.into_inner());
    let mut large = Cursor::new(Vec::new());
    DynamicImage::new_rgba8(7_000, 7_000)
        .write_to(&mut large, ImageFormat::Png)
        .unwrap();
    measure(
        "PNG, 49 megapixels of nothing",
        FileKind::Png,
        &large.into_inner(),
    );
}

/// Slopes with a grain, about as hard to code as what a camera sees.
fn photo(width: u32, height: u32) -> DynamicImage {
    let mut random = fastrand::Rng::with_seed(1);
    RgbImage::from_fn(width, height, |x, y| {
        let grain = random.u8(..24);
        let slope = |at: u32, of: u32| (at * 200 / of) as u8 + grain;
        Rgb([
            slope(x, width),
            slope(y, height),
            slope(x + y, width + height),
        ])
    })
    .into()
}

fn measure(name: &str, kind: FileKind, file: &[u8]) {
    // The peak is forgotten, so that it is this picture's.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let began = Instant::now();
    for _ in 0..ROUNDS {
        prepare(kind, file).unwrap();
    }
    let took = began.elapsed() / ROUNDS;
    let peak = status("VmHWM").saturating_sub(before) / 1_024;
    println!(
        "| {name} | {} KB | {} ms | {peak} MB |",
        file.len() / 1_000,
        took.as_millis()
    );
}

/// A line of the process's status, in KiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
