//! Prepares `static/` for being served: names with a hash of the content, and compressed copies,
//! made once at build time so that no request pays for it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=static");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let mut table = String::from("[\n");
    for source in files_below(Path::new("static"))? {
        let Some(content_type) = content_type(&source) else {
            continue;
        };
        let content = fs::read(&source)?;
        let hash: String = Sha256::digest(&content)[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = source
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a plain name");
        let (stem, extension) = name
            .rsplit_once('.')
            .expect("content_type knows its ending");
        let copy = |ending: &str, bytes: &[u8]| -> std::io::Result<PathBuf> {
            let path = out.join(format!("{stem}.{hash}.{extension}{ending}"));
            fs::write(&path, bytes)?;
            Ok(path)
        };
        writeln!(
            table,
            "    Asset {{ name: {name:?}, path: \"/static/{stem}.{hash}.{extension}\", \
             etag: \"\\\"{hash}\\\"\", content_type: {content_type:?}, \
             plain: include_bytes!({:?}), br: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            copy("", &content)?,
            copy(".br", &brotli(&content)?)?,
            copy(".gz", &gzip(&content)?)?,
        )
        .expect("writing to a string");
    }
    table.push(']');
    fs::write(out.join("assets.rs"), table)
}

fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `None` for what lies there for people, such as notes on where a file is from.
fn content_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        "png" => Some("image/png"),
        _ => None,
    }
}

fn brotli(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressed = Vec::new();
    brotli::CompressorWriter::new(&mut compressed, 4096, 11, 22).write_all(content)?;
    Ok(compressed)
}

fn gzip(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}
