//! Prepares `static/` for being served, once at build time so that no request pays for it: style sheets
//! and scripts joined into few, comments left out, names with a hash of the content, compressed copies.

mod bundle;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=static");
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let mut table = String::from("[\n");
    for (name, content) in assets()? {
        let (stem, extension) = name.rsplit_once('.').expect("a name with an ending");
        let hash = hash(&content);
        let copy = |ending: &str, bytes: &[u8]| -> std::io::Result<PathBuf> {
            let path = out.join(format!("{stem}.{hash}.{extension}{ending}"));
            fs::write(&path, bytes)?;
            Ok(path)
        };
        writeln!(
            table,
            "    Asset {{ name: {name:?}, path: {:?}, \
             etag: \"\\\"{hash}\\\"\", content_type: {:?}, \
             plain: include_bytes!({:?}), br: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            format!("/static/{stem}.{hash}.{extension}"),
            content_type(extension).expect("an ending we serve"),
            copy("", &content)?,
            copy(".br", &brotli(&content)?)?,
            copy(".gz", &gzip(&content)?)?,
        )
        .expect("writing to a string");
    }
    table.push(']');
    fs::write(out.join("assets.rs"), table)
}

/// The files as they are served, by name.
fn assets() -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut assets = BTreeMap::new();
    assets.insert("app.css".to_owned(), style_sheet()?.into_bytes());
    let mut modules = BTreeMap::new();
    for path in files_below(Path::new("static"))? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a plain name").to_owned();
        if path.starts_with("static/js") {
            modules.insert(name, without_comments(&fs::read_to_string(&path)?));
        } else if !path.starts_with("static/css") && content_type(ending(&name)).is_some() {
            assets.insert(name, fs::read(&path)?);
        }
    }
    for (name, bundle) in bundle::all(&modules) {
        assets.insert(name, bundle.into_bytes());
    }
    Ok(assets)
}

/// All style sheets as one, the one that orders their layers first.
fn style_sheet() -> std::io::Result<String> {
    let mut all = without_comments(&fs::read_to_string("static/css/layers.css")?);
    for path in files_below(Path::new("static/css"))? {
        if !path.ends_with("layers.css") {
            let sheet = fs::read_to_string(&path)?;
            let layer = path.file_stem().and_then(|stem| stem.to_str());
            let layer = layer.expect("a plain name");
            assert!(
                all.contains(layer) && sheet.contains(&format!("@layer {layer} {{")),
                "{layer}.css is not in a layer of its name, or that is not in layers.css"
            );
            all += &without_comments(&sheet);
        }
    }
    Ok(all)
}

/// Leaves out indentation, and comments that have lines of their own: a third of our scripts.
fn without_comments(source: &str) -> String {
    let mut kept = String::new();
    let mut is_in_comment = false;
    for line in source.lines() {
        let text = line.trim();
        is_in_comment |= text.starts_with("/*");
        if !is_in_comment && !text.is_empty() && !text.starts_with("// ") {
            kept += text;
            kept.push('\n');
        }
        is_in_comment &= !text.ends_with("*/");
    }
    kept
}

fn hash(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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

fn ending(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, ending)| ending)
}

/// `None` for files that are there for people, such as notes on where a file is from.
fn content_type(ending: &str) -> Option<&'static str> {
    match ending {
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
