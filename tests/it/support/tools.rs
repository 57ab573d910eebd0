use std::path::{Path, PathBuf};
use std::{env, fs};

/// A program or file that `tests/run` fetches into `target/test-tools`, or that is on the path.
pub fn tool(name: &str) -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/test-tools")
        .join(name);
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .chain([fetched])
        .find(|file| fs::metadata(file).is_ok_and(|found| found.is_file()))
        .unwrap_or_else(|| panic!("this test needs {name}: run tests/run, which fetches it"))
}
