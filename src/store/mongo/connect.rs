//! Connecting: the driver's options, and waiting for a primary.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};
use tokio::time::{Instant, timeout_at};

use super::refusal;
use super::retry::{ATTEMPT_MAX, Backoff, attempt, is_transient};

/// How soon the log says that nobody answers at the start; the driver goes on looking.
const GREET_WITHIN: Duration = Duration::from_secs(2);

/// A connection.
pub(super) struct Connected {
    /// The database that the address names.
    pub(super) database: Database,
    /// The primary's answer to `hello`.
    pub(super) hello: Document,
    /// The name by which its server knows our connections.
    pub(super) app_name: String,
}

/// Connects to the database that `uri` names.
pub(super) async fn connect(uri: &str, wait: Duration) -> anyhow::Result<Connected> {
    let until = Instant::now() + wait;
    let mut backoff = Backoff::new();
    // No error is passed on with its source: it may quote the address, password and all.
    let mut options = loop {
        match ClientOptions::parse(uri).await {
            Ok(options) => break options,
            Err(error) if !matches!(*error.kind, ErrorKind::DnsResolve { .. }) => {
                bail!(
                    "MONGODB_URI is not a MongoDB connection string that the driver takes: check its \
                     options, and that the user and the password are %-encoded"
                );
            }
            Err(_) if Instant::now() >= until => {
                bail!("the DNS does not know the hosts that MONGODB_URI names");
            }
            Err(_) => backoff.pause().await,
        }
    };
    options.app_name.get_or_insert_with(|| "parlor".to_owned());
    options.server_selection_timeout = Some(ATTEMPT_MAX);
    options.connect_timeout.get_or_insert(ATTEMPT_MAX);
    // The driver's ten are too few once a fan-out of page loads meets a slow disk.
    options.max_pool_size.get_or_insert(64);
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(
        mongodb::options::ReadPreference::Primary,
    ));
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(
        WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(ATTEMPT_MAX)
            .build(),
    );
    let name = options
        .default_database
        .clone()
        .unwrap_or_else(|| "parlor".to_owned());
    let client = Client::with_options(options.clone()).context("cannot use MONGODB_URI")?;
    let database = client.database(&name);
    let hello = wait_for_primary(&database, &options, wait).await?;
    Ok(Connected {
        database,
        hello,
        app_name: options.app_name.unwrap_or_default(),
    })
}

/// Waits for a primary.
pub(super) async fn wait_for_primary(
    database: &Database,
    options: &ClientOptions,
    wait: Duration,
) -> anyhow::Result<Document> {
    let until = Instant::now() + wait.max(Duration::from_secs(1));
    let mut backoff = Backoff::new();
    loop {
        let hello = attempt("greet MongoDB", database.run_command(doc! { "hello": 1 }));
        match timeout_at(until.min(Instant::now() + GREET_WITHIN), hello).await {
            Ok(Ok(hello)) => return Ok(hello),
            Ok(Err(refused)) if !is_transient(&refused) => {
                return Err(refused).context("MongoDB at MONGODB_URI refuses us");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        let why = refusal::why_no_primary(options).await;
        ensure!(
            !left.is_zero(),
            "no MongoDB primary answered at MONGODB_URI within {} seconds (STARTUP_WAIT): {why}",
            wait.as_secs()
        );
        let seconds_left = left.as_secs();
        tracing::warn!(
            seconds_left,
            why,
            "no MongoDB primary answers; trying again"
        );
        backoff.pause().await;
    }
}

/// The router of a sharded cluster.
pub(super) fn is_router(hello: &Document) -> bool {
    hello
        .get_str("msg")
        .is_ok_and(|message| message == "isdbgrid")
}

/// A member of a replica set says so, or the router of a sharded cluster. Others have no transactions, which
/// changes to messages are written in.
///
/// # Errors
///
/// One line for the log, with what mends it.
pub(super) fn ensure_replicated(hello: &Document) -> anyhow::Result<()> {
    ensure!(
        hello.contains_key("setName") || is_router(hello),
        "the mongod at MONGODB_URI is not a member of a replica set: start it with --replSet rs0, then run \
         once: mongosh --eval 'rs.initiate()'"
    );
    Ok(())
}
