//! The files of `static/`, inside the binary: named by their content, so cached for ever.

/// One file in the forms it is sent in. Made by `build/main.rs`.
pub(crate) struct Asset {
    /// Its name in `static/`.
    pub(crate) name: &'static str,
    /// Where it is served.
    pub(crate) path: &'static str,
    pub(crate) etag: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) plain: &'static [u8],
    pub(crate) br: &'static [u8],
    pub(crate) gzip: &'static [u8],
}

static ASSETS: &[Asset] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Where the file of that name in `static/` is served.
///
/// # Panics
///
/// When there is none, which the first render of any page that names it shows.
pub fn path(name: &str) -> &'static str {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    asset.expect("the templates name files that are there").path
}

/// The file that is served at `/static/{file}`.
pub(crate) fn find(file: &str) -> Option<&'static Asset> {
    let path = format!("/static/{file}");
    ASSETS.iter().find(|asset| asset.path == path)
}

/// This version's file for an address that another version's page names: while nodes are upgraded one
/// after another, a page of one asks another for its files. Files change little between
/// versions, so this one usually fits; `static/watchdog.js` sees to the rest. Nobody may keep it
/// under that address, where the other version has another.
pub(crate) fn of_another_version(file: &str) -> Option<&'static Asset> {
    let (rest, extension) = file.rsplit_once('.')?;
    let (stem, hash) = rest.rsplit_once('.')?;
    let is_hash = hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let name = format!("{stem}.{extension}");
    ASSETS.iter().find(|asset| is_hash && asset.name == name)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn vendored_scripts_are_what_their_note_says() {
        let note = include_str!("../static/vendor/README.md");
        for name in ["htmx.min.js", "hx-sse.min.js"] {
            let asset = ASSETS.iter().find(|asset| asset.name == name).unwrap();
            let digest = Sha256::digest(asset.plain);
            let hex = hex::encode(digest);
            assert!(note.contains(&hex), "{name}: {hex}");
        }
    }

    #[test]
    fn another_versions_address_leads_to_this_versions_file() {
        for asset in ASSETS {
            let (stem, extension) = asset.name.rsplit_once('.').unwrap();
            let of = |hash: &str| of_another_version(&format!("{stem}.{hash}.{extension}"));
            assert_eq!(of("0123456789abcdef").unwrap().name, asset.name);
            assert!(of("0123456789abcde").is_none());
            assert!(of("0123456789abcdeg").is_none());
        }
        assert!(of_another_version("nothing.0123456789abcdef.js").is_none());
        assert!(of_another_version("app.js").is_none());
        assert!(of_another_version("").is_none());
    }
}
