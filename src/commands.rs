//! What `parlor` does besides serving: moving the store, copying it and putting it back.

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::config::Config;
use crate::store::archive::{Counts, Exporter, Importer};
use crate::store::{mongo, sqlite};

/// `parlor export`: everything as lines of JSON, to standard output.
///
/// # Errors
///
/// One line for whoever called: the store or the output fails.
pub async fn export(config: &Config) -> anyhow::Result<()> {
    let mut progress = Progress::new("exported");
    let mut output = BufWriter::new(io::stdout());
    let mut put = |record: &_, counts: &Counts| {
        serde_json::to_writer(&mut output, record)
            .map_err(io::Error::from)
            .and_then(|()| output.write_all(b"\n"))
            .context("cannot write the export")?;
        progress.tell(counts);
        Ok(())
    };
    let exporter = Exporter::new(&mut put);
    let exported = match &config.mongodb_uri {
        Some(uri) => mongo::archive::export(uri.expose(), config.startup_wait, exporter).await?,
        None => sqlite::archive::export(&config.data_dir, exporter)?,
    };
    output.flush().context("cannot write the export")?;
    progress.end(&exported);
    Ok(())
}

/// `parlor import`: the same from standard input, into an empty store.
///
/// # Errors
///
/// One line for whoever called: the store is not empty or fails, or the input is not whole.
pub async fn import(config: &Config, is_older: bool) -> anyhow::Result<()> {
    let mut progress = Progress::new("imported");
    let mut tell = |counts: &Counts| progress.tell(counts);
    let mut input: Box<dyn BufRead + Send> = Box::new(io::BufReader::new(io::stdin()));
    let importer = Importer::new(&mut *input, &mut tell);
    let imported = match &config.mongodb_uri {
        Some(uri) => {
            mongo::archive::import(uri.expose(), config.startup_wait, importer, is_older).await?
        }
        None => sqlite::archive::import(&config.data_dir, importer, is_older)?,
    };
    progress.end(&imported);
    Ok(())
}

/// `parlor went-back`: makes the store one that has gone back in time.
///
/// # Errors
///
/// One line for whoever called: the store is in use or fails.
pub async fn went_back(config: &Config) -> anyhow::Result<()> {
    match &config.mongodb_uri {
        Some(uri) => mongo::archive::has_gone_back(uri.expose(), config.startup_wait).await?,
        None => sqlite::archive::has_gone_back(&config.data_dir)?,
    }
    eprintln!("readers start over, and everybody has to sign in");
    Ok(())
}

/// `parlor backup FILE`: a copy of the embedded database, which may be in use.
///
/// # Errors
///
/// One line for whoever called: there is no embedded database, or the file cannot be made.
pub fn backup(config: &Config, file: &Path) -> anyhow::Result<()> {
    is_embedded(config)?;
    sqlite::archive::backup(&config.data_dir, file)?;
    eprintln!("copied the database to {}", file.display());
    Ok(())
}

/// `parlor restore FILE`: puts such a copy in the place of the embedded database.
///
/// # Errors
///
/// One line for whoever called: the database is in use, or the file is no whole backup.
pub fn restore(config: &Config, file: &Path) -> anyhow::Result<()> {
    is_embedded(config)?;
    let replaced = sqlite::archive::restore(&config.data_dir, file)?;
    eprintln!("restored {}; everybody has to sign in", file.display());
    if let Some(replaced) = replaced {
        eprintln!("what was there before is {}", replaced.display());
    }
    Ok(())
}

fn is_embedded(config: &Config) -> anyhow::Result<()> {
    ensure!(
        config.mongodb_uri.is_none(),
        "MONGODB_URI is set, and this is for the embedded database: use MongoDB’s own tools, or \
         parlor export and parlor import"
    );
    Ok(())
}

/// A line on the terminal that says how far it is; nothing elsewhere.
struct Progress {
    done: &'static str,
    is_shown: bool,
    told_at: Instant,
}

impl Progress {
    /// Often enough to be seen moving.
    const EVERY: Duration = Duration::from_millis(200);

    fn new(done: &'static str) -> Self {
        Self {
            done,
            is_shown: io::stderr().is_terminal(),
            told_at: Instant::now(),
        }
    }

    fn tell(&mut self, counts: &Counts) {
        if self.is_shown && self.told_at.elapsed() > Self::EVERY {
            self.told_at = Instant::now();
            eprint!("\r{} {counts} ", self.done);
        }
    }

    fn end(&self, counts: &Counts) {
        let start = if self.is_shown { "\r" } else { "" };
        eprintln!("{start}{} {counts}", self.done);
    }
}
