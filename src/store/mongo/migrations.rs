//! Migrations: what brings a database to the newest schema, one step at a time.
//!
//! Nodes that start together may take a step at the same time, and one may be cut off in the midst of
//! it: each step can be repeated. Nodes of the version before may still run beside it, unless the step says that they
//! must be stopped first. The steps have the numbers of the embedded store's.

use std::pin::Pin;

use anyhow::bail;

use super::accounts;
use super::collections::{Collections, Meta};
use crate::store::ParlorVersion;

type Step = for<'a> fn(&'a Collections) -> Pin<Box<dyn Future<Output = Done> + Send + 'a>>;
type Done = anyhow::Result<()>;

/// The steps after the first schema, which was without a number.
const MIGRATIONS: [(u64, Step); 3] = [
    (3, |collections| {
        Box::pin(accounts::renew_email_keys(collections))
    }),
    // Nodes before it are stopped first. There is nothing to move. A version before this one lets everybody into every room, and takes whoever is
    // banned for a member, so it is not to start on it.
    (7, |_| Box::pin(std::future::ready(Ok(())))),
    // Nodes before it are stopped first: one lets everybody sign up, lets people sign in who may not, and shows events
    // without their authors' names, which it looks for in the events.
    (8, |collections| {
        Box::pin(async {
            accounts::claim_names(collections).await?;
            accounts::forget_author_names(collections).await
        })
    }),
];

/// The schema's version that this program writes.
const NEWEST: u64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Fails, saying which parlor wrote it, when the database has a newer schema than this program's.
///
/// # Errors
///
/// One line for the log.
pub(super) async fn refuse_newer(collections: &Collections) -> Done {
    let version = version(collections).await?;
    if version <= NEWEST {
        return Ok(());
    }
    let by = collections.get_number(Meta::Parlor).await?.unwrap_or(0);
    let by = ParlorVersion::from_number(i64::try_from(by).unwrap_or(0));
    bail!(
        "the database {} was written by a later version of parlor, {by} (its schema is {version}, this \
         program’s is {NEWEST}): start that version",
        collections.database.name()
    )
}

/// Brings the database to the newest schema.
pub(super) async fn migrate(collections: &Collections) -> Done {
    let version = version(collections).await?;
    for (number, step) in MIGRATIONS {
        if number <= version {
            continue;
        }
        step(collections).await?;
        let (own, number) = (ParlorVersion::OWN.to_number(), number.cast_signed());
        collections.raise(Meta::Parlor, own).await?;
        collections.raise(Meta::Schema, number).await?;
        tracing::info!(schema = number, "the database has a new schema");
    }
    Ok(())
}

async fn version(collections: &Collections) -> anyhow::Result<u64> {
    Ok(collections.get_number(Meta::Schema).await?.unwrap_or(1))
}
