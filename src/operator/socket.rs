//! The socket by which a running server is asked: a file in its data directory, for its user alone.
//!
//! A connection carries one command as a line of JSON, and one answer.

use std::fs::{Permissions, remove_file, set_permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{Operator, OperatorCommand, Outcome};
use crate::files::give_to_folder;
use crate::lasting;
use crate::state::AppState;

/// The socket's name in the data directory.
const SOCKET: &str = "parlor.sock";

/// The longest command, in bytes.
const COMMAND_MAX: u64 = 64 * 1024;

/// The time a client has to send its command, and to take the answer: others wait.
const CLIENT_MAX: Duration = Duration::from_secs(10);

/// The pause before the next try where the system accepts no connection: it may be out of files.
const ACCEPT_AGAIN_IN: Duration = Duration::from_secs(1);

/// The longest that a command is waited for: others come after it.
const PERFORMS_MAX: Duration = Duration::from_secs(60);

/// The answer to one that takes longer.
const STILL_AT_IT: &str = "it takes long: the server goes on with it, look into its log";

/// A command that is sent.
#[derive(Serialize, Deserialize)]
struct Question {
    command: OperatorCommand,
    as_json: bool,
}

/// Its answer: an error is one line.
type Answer = Result<Outcome, String>;

/// The socket of a running server. The file goes with it.
pub struct OperatorSocket(PathBuf);

impl Drop for OperatorSocket {
    fn drop(&mut self) {
        let _ = remove_file(&self.0);
    }
}

/// Listens in a data directory that is this process's alone, and answers one command after the other.
///
/// # Errors
///
/// When the system gives no socket there: the directory's path may be too long for one.
pub fn serve(dir: &Path, app: AppState) -> io::Result<OperatorSocket> {
    let path = dir.join(SOCKET);
    // Of one that was killed.
    match remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else enters the directory, also before this.
    let listener = UnixListener::bind(&path)?;
    set_permissions(&path, Permissions::from_mode(0o600))?;
    give_to_folder(&path)?;
    let runtime = Handle::current();
    lasting::thread("operator", move || {
        for connection in listener.incoming() {
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(?error, "cannot take commands at the socket");
                    sleep(ACCEPT_AGAIN_IN);
                    continue;
                }
            };
            if let Err(error) = answer(connection, &runtime, &app) {
                tracing::debug!(?error, "a command at the socket broke off");
            }
        }
    })?;
    Ok(OperatorSocket(path))
}

fn answer(connection: UnixStream, runtime: &Handle, app: &AppState) -> io::Result<()> {
    connection.set_read_timeout(Some(CLIENT_MAX))?;
    connection.set_write_timeout(Some(CLIENT_MAX))?;
    let mut line = String::new();
    BufReader::new(&connection)
        .take(COMMAND_MAX)
        .read_line(&mut line)?;
    let answer: Answer = match serde_json::from_str::<Question>(&line) {
        Ok(Question { command, as_json }) => {
            tracing::info!(command = command.word(), "asked at the command line");
            let operator = Operator {
                store: &*app.store,
                config: &app.config,
                hasher: &app.hasher,
                as_json,
            };
            // The timer is the runtime's.
            let performing = async { timeout(PERFORMS_MAX, operator.perform(command)).await };
            match runtime.block_on(performing) {
                Ok(performed) => performed.map_err(|error| format!("{error:#}")),
                Err(_) => Err(STILL_AT_IT.to_owned()),
            }
        }
        Err(_) => Err("the running server is of another version: restart it first".to_owned()),
    };
    let answer = serde_json::to_vec(&answer)?;
    (&connection).write_all(&answer)?;
    connection.shutdown(Shutdown::Write)
}

/// Asks the server that runs with this data directory; `None` when there is none.
///
/// # Errors
///
/// One line: what the server says, or that it does not answer.
pub fn ask(
    dir: &Path,
    command: &OperatorCommand,
    as_json: bool,
) -> anyhow::Result<Option<Outcome>> {
    let connection = match UnixStream::connect(dir.join(SOCKET)) {
        Ok(connection) => connection,
        // None was there, or one that was killed.
        Err(_) => return Ok(None),
    };
    let asked = || -> io::Result<String> {
        let command = command.clone();
        let mut question = serde_json::to_vec(&Question { command, as_json })?;
        question.push(b'\n');
        (&connection).write_all(&question)?;
        let mut answer = String::new();
        (&connection).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().context("the running server does not answer")?;
    match serde_json::from_str::<Answer>(&answer) {
        Ok(Ok(outcome)) => Ok(Some(outcome)),
        Ok(Err(says)) => bail!(says),
        Err(_) => bail!("the running server broke off: look into its log"),
    }
}
