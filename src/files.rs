//! Files that hold secrets: private to one user, made whole or not at all, never written through a
//! link that somebody else has put in their place.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};

/// Makes a file that was not there, which only its owner may read. A link in its place is not
/// followed.
///
/// # Errors
///
/// The system's; `AlreadyExists` when anything has the name.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// The same for a file that belongs to the folder it is in: made by root in a service's folder, it
/// is the service's.
///
/// # Errors
///
/// The system's.
pub fn create_for_folder(path: &Path) -> io::Result<File> {
    let file = create(path)?;
    give(&file, &fs::metadata(folder_of(path))?)?;
    Ok(file)
}

/// Opens a file for reading and writing, made as by [`create_for_folder`] if it is not there. A link
/// is not followed.
///
/// # Errors
///
/// The system's.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    match create_for_folder(path) {
        Err(taken) if taken.kind() == ErrorKind::AlreadyExists => File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path),
        made => made,
    }
}

/// Makes a directory that only its owner may enter, and those above it, unless they are there. They
/// belong to the owner of the nearest one that was.
///
/// # Errors
///
/// The system's.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = folder_of(dir);
    make_dir(above)?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => give(&File::open(dir)?, &fs::metadata(above)?),
        // Another process was faster.
        Err(taken) if taken.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a file to the owner of another. Only root can, and only root has to: what a service makes is
/// its own anyway.
fn give(made: &File, like: &Metadata) -> io::Result<()> {
    let ours = made.metadata()?;
    if (ours.uid(), ours.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    match fchown(made, Some(like.uid()), Some(like.gid())) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// The same for what cannot be opened, like a socket: it goes to the owner of its folder. A link is not followed.
///
/// # Errors
///
/// The system's.
pub fn give_to_folder(path: &Path) -> io::Result<()> {
    let (ours, like) = (fs::symlink_metadata(path)?, fs::metadata(folder_of(path))?);
    if (ours.uid(), ours.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    match lchown(path, Some(like.uid()), Some(like.gid())) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// The parts that are being written. `None` once the process is about to end.
static PARTS: Mutex<Option<Vec<PathBuf>>> = Mutex::new(Some(Vec::new()));

fn parts() -> MutexGuard<'static, Option<Vec<PathBuf>>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every [`Part`], and makes no more: for a process that ends while one is being written.
pub fn give_up_parts() {
    let mut parts = parts();
    for part in parts.take().unwrap_or_default() {
        remove(&part);
    }
}

/// A file that is being written beside the one it is to become; removed if it never does.
pub struct Part {
    /// Where it is until then.
    pub path: PathBuf,
    /// Locked, so that two processes don't write the same one.
    pub file: File,
}

impl Part {
    /// Makes `FILE.part`, readable by this user only.
    ///
    /// # Errors
    ///
    /// One line: the folder cannot be written, or another process is writing the same file.
    pub fn beside(file: &Path) -> anyhow::Result<Self> {
        Self::make(file, create)
    }

    /// The same for a file that belongs to the folder it is in.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn beside_for_folder(file: &Path) -> anyhow::Result<Self> {
        Self::make(file, create_for_folder)
    }

    fn make(file: &Path, create: fn(&Path) -> io::Result<File>) -> anyhow::Result<Self> {
        // SQLite takes some relative names for something else.
        let path = std::path::absolute(with_suffix(file, ".part"))?;
        let is_being_written = || format!("another parlor is writing {}", path.display());
        // A killed process's leftover is replaced. So is a link, which is never followed.
        if fs::symlink_metadata(&path).is_ok_and(|left| left.is_file()) {
            let left = File::open(&path).context("cannot look at what is there")?;
            ensure!(left.try_lock().is_ok(), is_being_written());
        }
        remove(&path);
        let mut parts = parts();
        let parts = parts.as_mut().context("parlor is being stopped")?;
        let file = create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        // Another process may have taken ours for one that was left, just before it was locked.
        let is_ours =
            file.try_lock().is_ok() && fs::symlink_metadata(&path)?.ino() == file.metadata()?.ino();
        ensure!(is_ours, is_being_written());
        parts.push(path.clone());
        Ok(Self { path, file })
    }

    /// Takes over the owner and the mode of a file that is to be replaced.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn looks_like(&self, replaced: &Path) -> io::Result<()> {
        let replaced = match fs::metadata(replaced) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        give(&self.file, &replaced)?;
        self.file.set_permissions(replaced.permissions())
    }

    /// Gives the finished file its name, durably, whatever had it before.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn becomes(self, file: &Path) -> anyhow::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, file)?;
        sync_folder_of(file)
    }

    /// Gives the finished file its name, durably, if nothing has it.
    ///
    /// # Errors
    ///
    /// One line: something has it, or one of the system.
    pub fn becomes_new(self, file: &Path) -> anyhow::Result<()> {
        self.file.sync_all()?;
        match fs::hard_link(&self.path, file) {
            Ok(()) => sync_folder_of(file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => is_new(file),
            // A file system without links, on a memory stick say.
            Err(_) => {
                is_new(file)?;
                self.becomes(file)
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(parts) = parts().as_mut() {
            parts.retain(|part| *part != self.path);
        }
        // It has another name by now, or is of no use.
        remove(&self.path);
    }
}

/// Fails when something has this name, if only a link that leads nowhere.
///
/// # Errors
///
/// One line that says so.
pub fn is_new(file: &Path) -> anyhow::Result<()> {
    ensure!(
        fs::symlink_metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound),
        "{} is there already: name another file, or remove it first",
        file.display()
    );
    Ok(())
}

/// With the files that SQLite would take for its own.
fn remove(path: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

/// Makes the names in a file's folder durable.
///
/// # Errors
///
/// The system's.
pub fn sync_folder_of(file: &Path) -> anyhow::Result<()> {
    Ok(File::open(folder_of(file))?.sync_all()?)
}

/// A path with something after its last name.
pub fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
