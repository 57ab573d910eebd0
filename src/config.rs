//! The settings: read once, from the environment or `.env`, checked, and said plainly when wrong.

mod dot_env;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use axum::http::Uri;
use ipnet::IpNet;

pub use self::dot_env::DotEnv;
use crate::auth::authority::Authority;
use crate::domain::{SignUpPolicy, characters};
use crate::mail;

/// The fewest bytes a signing key has: as many as HMAC-SHA-256 puts out (RFC 7518, 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// The settings. The same keys, in the same order, stand in `.env.example`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub bind_addr: SocketAddr,
    /// The address that people type to get here.
    pub public_url: PublicUrl,
    /// Where the embedded database and the generated key are.
    pub data_dir: PathBuf,
    /// A MongoDB connection string; the embedded database without one.
    pub mongodb_uri: Option<Secret>,
    /// How long to wait for MongoDB at the start.
    pub startup_wait: Duration,
    /// Signs tokens; generated beside the embedded database when there is none.
    pub jwt_secret: Option<Secret>,
    /// Still accepted, so that changing the key signs nobody out.
    pub jwt_secret_previous: Option<Secret>,
    /// How long a sign-in lasts.
    pub session_lifetime: Duration,
    /// The sign-up policy until an admin chooses another.
    pub sign_up: SignUpPolicy,
    /// The mail server; none is known without one.
    pub smtp_url: Option<Secret>,
    /// The address that mail comes from.
    pub smtp_from: String,
    /// The networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How many streams one user may have open.
    pub streams_per_user: usize,
    /// How many requests one user may have in flight, streams apart.
    pub requests_per_user: usize,
    /// On how many threads of their own streams are written.
    pub stream_threads: usize,
    /// Off only for load tests.
    pub rate_limits: bool,
    /// Where to serve the metrics, if anywhere.
    pub metrics_addr: Option<SocketAddr>,
    /// The log's filter, as `tracing_subscriber` reads it.
    pub rust_log: String,
}

/// Text that is never shown: its `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The address people use: a scheme, a host and a port, no path.
#[derive(Debug, Clone)]
pub struct PublicUrl {
    /// Whether people come over HTTPS: Secure cookies and HSTS are right then.
    pub is_https: bool,
    /// A name or an address, in brackets if it is an IPv6 one; lower case.
    pub host: String,
    /// The scheme's own when the address has none.
    pub port: u16,
    /// Whether it was set, and is not just where the server listens.
    pub is_set: bool,
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, own_port) = match self.is_https {
            true => ("https", 443),
            false => ("http", 80),
        };
        write!(f, "{scheme}://{}", self.host)?;
        match self.port == own_port {
            true => Ok(()),
            false => write!(f, ":{}", self.port),
        }
    }
}

/// A setting that cannot be used: one line that names it and says what it takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not usable: it takes {takes}")]
pub struct BadSetting {
    name: &'static str,
    takes: &'static str,
}

impl Config {
    /// Reads each setting through `get`; an empty one counts as not set, and blanks around one are
    /// not part of it.
    ///
    /// # Errors
    ///
    /// [`BadSetting`] for the first that cannot be used. It does not quote the value, which may
    /// be a secret.
    pub fn from_lookup(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadSetting> {
        let read = Reader(&get);
        let bind_addr = read.parse(
            "BIND_ADDR",
            "an address and a port, like 127.0.0.1:3000",
            || SocketAddr::from(([127, 0, 0, 1], 3000)),
            |raw| raw.parse().ok(),
        )?;
        let mongodb_uri = read.parse(
            "MONGODB_URI",
            "a MongoDB connection string, like mongodb://host/parlor?replicaSet=rs0",
            || None,
            |raw| {
                let is_mongo = raw.starts_with("mongodb://") || raw.starts_with("mongodb+srv://");
                is_mongo.then(|| Some(Secret(raw.to_owned())))
            },
        )?;
        if !cfg!(feature = "mongodb") && mongodb_uri.is_some() {
            return Err(BadSetting {
                name: "MONGODB_URI",
                takes: "nothing here: this parlor was built without MongoDB",
            });
        }
        let secret = |name| {
            read.parse(
                name,
                "at least 32 bytes, best from a random generator: openssl rand -hex 32",
                || None,
                |raw| (raw.len() >= SECRET_BYTES_MIN).then(|| Some(Secret(raw.to_owned()))),
            )
        };
        let jwt_secret = secret("JWT_SECRET")?;
        if mongodb_uri.is_some() && jwt_secret.is_none() {
            return Err(BadSetting {
                name: "JWT_SECRET",
                takes: "at least 32 bytes, the same on every node, and is required with \
                        MONGODB_URI: openssl rand -hex 32",
            });
        }
        let public_url = read.parse(
            "PUBLIC_URL",
            "http:// or https:// with a host, and no path, like https://chat.example.org",
            || PublicUrl {
                is_https: false,
                host: match bind_addr.ip() {
                    IpAddr::V4(ip) => ip.to_string(),
                    IpAddr::V6(ip) => format!("[{ip}]"),
                },
                port: bind_addr.port(),
                is_set: false,
            },
            PublicUrl::parse,
        )?;
        Ok(Self {
            bind_addr,
            smtp_url: read.parse(
                "SMTP_URL",
                "a mail server, like smtps://name:password@mail.example.org or \
                 smtp://name:password@mail.example.org:587?tls=required",
                || None,
                |raw| mail::is_url(raw).then(|| Some(Secret(raw.to_owned()))),
            )?,
            smtp_from: read.parse(
                "SMTP_FROM",
                "an address, like Parlor <parlor@example.org>",
                || format!("Parlor <parlor@{}>", sender_host(&public_url.host)),
                |raw| mail::is_sender(raw).then(|| raw.to_owned()),
            )?,
            public_url,
            data_dir: read.parse(
                "DATA_DIR",
                "a directory as it is written, without quotes, ~ or $, like /var/lib/parlor",
                || PathBuf::from("data"),
                |raw| is_plain_path(raw).then(|| PathBuf::from(raw)),
            )?,
            mongodb_uri,
            startup_wait: read
                .parse(
                    "STARTUP_WAIT",
                    "a whole number of seconds from 0 to 3600",
                    || 30,
                    |raw| raw.parse().ok().filter(|secs| *secs <= 3_600),
                )
                .map(Duration::from_secs)?,
            jwt_secret,
            jwt_secret_previous: secret("JWT_SECRET_PREVIOUS")?,
            session_lifetime: read
                .parse(
                    "SESSION_DAYS",
                    "a whole number of days from 1 to 3650",
                    || 30,
                    |raw| raw.parse().ok().filter(|days| (1..=3650).contains(days)),
                )
                .map(|days: u64| Duration::from_secs(days * 24 * 60 * 60))?,
            sign_up: read.parse(
                "SIGNUP",
                "open, invite or closed",
                SignUpPolicy::default,
                |raw| SignUpPolicy::parse(raw).ok(),
            )?,
            trusted_proxies: read.parse(
                "TRUSTED_PROXIES",
                "networks of your proxies, separated by commas, like 10.0.0.0/8,::1/128",
                Vec::new,
                |raw| {
                    raw.split(',')
                        .map(|net| parse_network(net.trim()))
                        .collect()
                },
            )?,
            streams_per_user: read.parse(
                "STREAMS_PER_USER",
                "a whole number from 1 to 1000000",
                || 32,
                |raw| raw.parse().ok().filter(|n| (1..=1_000_000).contains(n)),
            )?,
            requests_per_user: read.parse(
                "REQUESTS_PER_USER",
                "a whole number from 1 to 1000000",
                || 128,
                |raw| raw.parse().ok().filter(|n| (1..=1_000_000).contains(n)),
            )?,
            stream_threads: read.parse(
                "STREAM_THREADS",
                "a whole number from 0 to 256",
                || available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
                |raw| raw.parse().ok().filter(|threads| *threads <= 256),
            )?,
            rate_limits: read.parse(
                "RATE_LIMITS",
                "on or off",
                || true,
                |raw| match raw {
                    "on" => Some(true),
                    "off" => Some(false),
                    _ => None,
                },
            )?,
            metrics_addr: read.parse(
                "METRICS_ADDR",
                "an address and a port, like 127.0.0.1:9100",
                || None,
                |raw| raw.parse().ok().map(Some),
            )?,
            rust_log: read.parse(
                "RUST_LOG",
                "a level (error, warn, info, debug, trace) or filters, like info,parlor=debug",
                || "info".to_owned(),
                |raw| {
                    let filter = tracing_subscriber::EnvFilter::builder().parse(raw);
                    filter.ok().map(|_| raw.to_owned())
                },
            )?,
        })
    }
}

/// A host to send from: a numeric one has no name that mail could come from.
fn sender_host(host: &str) -> &str {
    let is_numeric = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    if is_numeric { "localhost" } else { host }
}

struct Reader<'a, G>(&'a G);

impl<G: Fn(&str) -> Option<String>> Reader<'_, G> {
    fn parse<T>(
        &self,
        name: &'static str,
        takes: &'static str,
        default: impl FnOnce() -> T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, BadSetting> {
        let refused = |takes| Err(BadSetting { name, takes });
        match self.0(name).as_deref().map(str::trim) {
            None | Some("") => Ok(default()),
            Some(raw) if is_quoted(raw) => refused("its value without quotes around it"),
            Some(raw) if raw.contains(is_unseen) => {
                refused("its value without control and other invisible characters, in UTF-8")
            }
            Some(raw) => parse(raw).map_or_else(|| refused(takes), Ok),
        }
    }
}

/// A network, or one address.
fn parse_network(raw: &str) -> Option<IpNet> {
    let address = || raw.parse::<IpAddr>().ok().map(IpNet::from);
    raw.parse().ok().or_else(address)
}

/// `docker --env-file` and others pass quotes on, which would then be part of a name or a secret.
fn is_quoted(value: &str) -> bool {
    let around = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’'), ('`', '`')];
    let is_around = |(open, close)| value.starts_with(open) && value.ends_with(close);
    value.chars().count() > 1 && around.into_iter().any(is_around)
}

/// Whether nobody means to write a character: control characters other than blanks, characters that draw
/// nothing or turn text around, and the one that stands for bytes that are no text.
fn is_unseen(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || characters::is_ignorable(c)
        || characters::is_bidi_control(c)
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffd}')
}

/// Whether a path means to us what it meant to whoever wrote it. A shell would have replaced the
/// rest; we would make a folder of that name.
fn is_plain_path(raw: &str) -> bool {
    let is_quote = |c| matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’' | '«' | '»');
    let is_at_home = raw.starts_with('~');
    let is_url = raw.contains("://") || raw.starts_with("file:");
    let has_quotes = raw.starts_with(is_quote) || raw.ends_with(is_quote);
    let has_more = raw.contains(|c: char| c == '$' || c.is_control());
    !(is_at_home || is_url || has_quotes || has_more)
}

/// Where a setting's path is, seen from the root.
pub fn absolute(path: &Path) -> PathBuf {
    let real = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    real.unwrap_or_else(|_| path.to_owned())
}

impl PublicUrl {
    /// Reads `http://host[:port]` or the same with `https`, perhaps with a `/` at its end.
    pub(crate) fn parse(raw: &str) -> Option<Self> {
        let uri: Uri = raw.parse().ok()?;
        let (is_https, own_port) = match uri.scheme_str()? {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return None,
        };
        let authority = Authority::parse(uri.authority()?.as_str())?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        is_bare.then(|| Self {
            is_https,
            host: authority.host,
            port: authority.port.unwrap_or(own_port),
            is_set: true,
        })
    }
}

#[cfg(test)]
mod tests;
