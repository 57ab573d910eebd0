//! MongoDB's refusals at the start, in one line for an operator. The driver's own errors are hundreds
//! of characters of debug output, and may quote the address, password and all.

use std::time::Duration;

use anyhow::anyhow;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::ClientOptions;
use tokio::time::timeout;

/// How long one server gets to say what it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The most characters of a server's own words.
const WORDS_MAX: usize = 160;

/// Error codes of the server: it does not know the user, or does not allow what was asked.
const AUTHENTICATION_FAILED: i32 = 18;
const UNAUTHORIZED: i32 = 13;

/// The same failure with what the driver says of it put plainly.
pub(super) fn plainly(error: anyhow::Error) -> anyhow::Error {
    let mut says: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(cause) = cause.downcast_ref::<Error>() {
            says.push(words(cause));
            let says = says.join(": ");
            return match says.contains("MONGODB_URI") {
                true => anyhow!("{says}"),
                false => anyhow!("MongoDB at MONGODB_URI: {says}"),
            };
        }
        says.push(cause.to_string());
    }
    error
}

fn words(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::Authentication { .. } => not_signed_in(),
        ErrorKind::Command(refused) => match refused.code {
            AUTHENTICATION_FAILED => not_signed_in(),
            UNAUTHORIZED => "its user may not do this: grant the role readWrite on the database \
                             that MONGODB_URI names"
                .to_owned(),
            _ => first_words(&refused.message),
        },
        ErrorKind::Write(WriteFailure::WriteError(refused)) => first_words(&refused.message),
        ErrorKind::InsertMany(refused) => {
            let first = refused.write_errors.iter().flatten().next();
            first_words(first.map_or("it took some of them only", |first| &first.message))
        }
        ErrorKind::Io(error) => first_words(&error.to_string()),
        ErrorKind::IncompatibleServer { message, .. } => first_words(message),
        ErrorKind::DnsResolve { .. } => "the DNS does not know the hosts it names".to_owned(),
        ErrorKind::InvalidTlsConfig { .. } => "its TLS options cannot be used".to_owned(),
        ErrorKind::InvalidArgument { .. } => "its options cannot be used together".to_owned(),
        ErrorKind::ServerSelection { message, .. } => {
            // Of a list of all servers, each with its error, the first one's.
            match message.split_once("Error: Kind: ") {
                Some((_, first)) => first_words(first.split(", labels").next().unwrap_or_default()),
                None if message.contains("Topology") => "no server answers".to_owned(),
                None => first_words(message),
            }
        }
        _ => "the driver gives up".to_owned(),
    }
}

fn not_signed_in() -> String {
    "it does not let us in: check the user, the password (with %-encoding) and authSource in \
     MONGODB_URI"
        .to_owned()
}

/// Up to where the server quotes the whole command, or documents.
fn first_words(text: &str) -> String {
    let text = text.split(['{', '\n']).next().unwrap_or_default().trim();
    let text = text.trim_end_matches([':', ',']);
    text.chars().take(WORDS_MAX).collect()
}

/// Why there is no primary, as far as the first server that answers knows. It is asked alone: the
/// driver passes over one that is of another replica set than it should be.
pub(super) async fn why_no_primary(options: &ClientOptions) -> String {
    let mut last = "nothing answers there".to_owned();
    for host in &options.hosts {
        let mut alone = options.clone();
        alone.hosts = vec![host.clone()];
        alone.direct_connection = Some(true);
        alone.repl_set_name = None;
        alone.load_balanced = None;
        alone.srv_max_hosts = None;
        alone.server_selection_timeout = Some(ANSWER_WITHIN);
        let Ok(client) = Client::with_options(alone) else {
            continue;
        };
        let admin = client.database("admin");
        let hello = admin.run_command(doc! { "hello": 1 });
        match timeout(2 * ANSWER_WITHIN, hello).await {
            Ok(Ok(hello)) => return what_it_is(&hello, options.repl_set_name.as_deref()),
            Ok(Err(error)) => {
                last = words(&error);
            }
            Err(_) => {}
        }
    }
    last
}

fn what_it_is(hello: &Document, wanted: Option<&str>) -> String {
    match (hello.get_str("setName").ok(), wanted) {
        (Some(name), Some(wanted)) if name != wanted => format!(
            "the replica set there is called {name}, and MONGODB_URI asks for {wanted} (replicaSet)"
        ),
        (Some(name), _) => format!("the replica set {name} has no primary"),
        (None, _) if hello.get_bool("isreplicaset").unwrap_or(false) => {
            "the replica set there is not initiated: run rs.initiate()".to_owned()
        }
        (None, Some(wanted)) => format!(
            "the mongod there is not a member of a replica set: start it with --replSet {wanted} \
             and run rs.initiate()"
        ),
        (None, None) => "it answers, and is no primary".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_by_what_it_says() {
        let says = |hello, wanted| what_it_is(&hello, wanted);
        assert!(says(doc! { "setName": "rs1" }, Some("rs0")).contains("is called rs1"));
        assert!(says(doc! { "setName": "rs0" }, Some("rs0")).contains("has no primary"));
        assert!(says(doc! { "isreplicaset": true }, Some("rs0")).contains("rs.initiate()"));
        assert!(says(doc! { "ok": 1 }, Some("rs0")).contains("--replSet rs0"));
    }

    #[test]
    fn what_a_server_quotes_is_left_out() {
        let long = "not authorized on parlor to execute command { find: \"x\", lsid: {…} }";
        assert_eq!(
            first_words(long),
            "not authorized on parlor to execute command"
        );
        assert!(first_words(&"x".repeat(10_000)).len() == WORDS_MAX);
    }
}
