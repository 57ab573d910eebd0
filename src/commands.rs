//! The commands that move a store: exporting and importing it, copying it and putting it back.

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::config::{Config, absolute};
use crate::files::{Part, is_new};
use crate::store::archive::{Counts, Exporter, Importer};
#[cfg(feature = "mongodb")]
use crate::store::mongo;
use crate::store::sqlite;

/// `parlor export`: everything as lines of JSON, to a new file that only this user may read, or to
/// standard output.
///
/// # Errors
///
/// One line for whoever called: the store or the output fails.
pub async fn export(config: &Config, file: Option<&Path>) -> anyhow::Result<()> {
    let exported = match file {
        None => export_to(config, &mut BufWriter::new(io::stdout())).await?,
        Some(file) => {
            is_new(file)?;
            // It holds everybody's password hashes, and has its name once it is whole.
            let part = Part::beside(file)?;
            let exported = export_to(config, &mut BufWriter::new(&part.file)).await?;
            let named = part.becomes_new(file);
            named.with_context(|| format!("cannot write {}", file.display()))?;
            exported
        }
    };
    Progress::new("exported").end(&exported);
    Ok(())
}

async fn export_to(config: &Config, output: &mut (dyn Write + Send)) -> anyhow::Result<Counts> {
    let mut progress = Progress::new("exported");
    let mut put = |record: &_, counts: &Counts| {
        serde_json::to_writer(&mut *output, record)
            .map_err(io::Error::from)
            .and_then(|()| output.write_all(b"\n"))
            .context("cannot write the export")?;
        progress.tell(counts);
        Ok(())
    };
    let exporter = Exporter::new(&mut put);
    let exported = match &config.mongodb_uri {
        #[cfg(feature = "mongodb")]
        Some(uri) => mongo::archive::export(uri.expose(), config.startup_wait, exporter).await?,
        _ => sqlite::archive::export(&config.data_dir, exporter)?,
    };
    output.flush().context("cannot write the export")?;
    Ok(exported)
}

/// `parlor import`: the same from standard input, into an empty store.
///
/// # Errors
///
/// One line for whoever called: the store is not empty or fails, or the input is not whole.
pub async fn import(config: &Config, new_epoch: bool) -> anyhow::Result<()> {
    let mut progress = Progress::new("imported");
    let mut tell = |counts: &Counts| progress.tell(counts);
    let mut input: Box<dyn BufRead + Send> = Box::new(io::BufReader::new(io::stdin()));
    let importer = Importer::new(&mut *input, &mut tell);
    let imported = match &config.mongodb_uri {
        #[cfg(feature = "mongodb")]
        Some(uri) => {
            mongo::archive::import(uri.expose(), config.startup_wait, importer, new_epoch).await?
        }
        _ => sqlite::archive::import(&config.data_dir, importer, new_epoch)?,
    };
    progress.end(&imported);
    Ok(())
}

/// `parlor new-epoch`: makes the store one that has gone back in time.
///
/// # Errors
///
/// One line for whoever called: the store is in use or fails.
pub async fn new_epoch(config: &Config) -> anyhow::Result<()> {
    match &config.mongodb_uri {
        #[cfg(feature = "mongodb")]
        Some(uri) => mongo::archive::start_new_epoch(uri.expose(), config.startup_wait).await?,
        _ => sqlite::backup::start_new_epoch(&config.data_dir)?,
    }
    say("readers start over, and everybody has to sign in");
    Ok(())
}

/// `parlor backup FILE`: a copy of the embedded database, which may be in use.
///
/// # Errors
///
/// One line for whoever called: there is no embedded database, or the file cannot be made.
pub fn backup(config: &Config, file: &Path) -> anyhow::Result<()> {
    ensure_embedded(config)?;
    sqlite::backup::backup(&config.data_dir, file)?;
    say(&format!("copied the database to {}", file.display()));
    Ok(())
}

/// `parlor restore FILE`: puts such a copy in the place of the embedded database.
///
/// # Errors
///
/// One line for whoever called: the database is in use, or the file is no whole backup.
pub fn restore(config: &Config, file: &Path) -> anyhow::Result<()> {
    ensure_embedded(config)?;
    let replaced = sqlite::backup::restore(&config.data_dir, file)?;
    let data = absolute(&config.data_dir);
    say(&format!(
        "restored {} into {}; everybody has to sign in",
        file.display(),
        data.display()
    ));
    if let Some(replaced) = replaced {
        say(&format!("what was there before is {}", replaced.display()));
    }
    Ok(())
}

fn ensure_embedded(config: &Config) -> anyhow::Result<()> {
    ensure!(
        config.mongodb_uri.is_none(),
        "MONGODB_URI is set, and this is for the embedded database: use MongoDB’s own tools, or \
         parlor export and parlor import"
    );
    Ok(())
}

/// Prints what a command is for.
///
/// # Errors
///
/// One line for whoever called: the output is gone.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout();
    let printed = output.write_all(text.as_bytes());
    printed
        .and_then(|()| output.flush())
        .context("cannot write the output")
}

/// The most characters of one line: a file may be what is quoted.
const SAID_MAX: usize = 2_000;

/// Says something to whoever called, as one line and without what could move a terminal's cursor. A
/// terminal or pipe that is gone changes nothing of what was done.
pub fn say(text: &str) {
    let mut line = String::new();
    for c in text.chars().take(SAID_MAX) {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            // Marks that turn text around, too: a file or an export is not trusted.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                line.extend(c.escape_unicode());
            }
            c => line.push(c),
        }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
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
            let _ = write!(io::stderr(), "\r{} {counts} ", self.done);
        }
    }

    fn end(&self, counts: &Counts) {
        let start = if self.is_shown { "\r" } else { "" };
        let _ = writeln!(io::stderr(), "{start}{} {counts}", self.done);
    }
}
