//! The authority of an address: its host and port.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host and, where it is said, a port: lower case, without the root's dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// A name, an IPv4 address, or an IPv6 one in brackets.
    pub host: String,
    /// As written; its absence means the scheme's own.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` and `[v6]:port`. `None` for anything else, such as user names
    /// and paths.
    pub fn parse(raw: &str) -> Option<Self> {
        let (host, port) = match raw.rfind(':') {
            // The last colon may stand inside the brackets.
            Some(colon) if !raw.ends_with(']') => (&raw[..colon], Some(&raw[colon + 1..])),
            _ => (raw, None),
        };
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let is_host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
            None => {
                let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
                !host.is_empty() && host.bytes().all(is_part)
            }
        };
        is_host.then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Whether no name is looked up to get there, so that nobody else's name server can have sent a
    /// browser here: an address, or `localhost`.
    pub fn is_fixed(&self) -> bool {
        self.host.starts_with('[')
            || self.host.parse::<Ipv4Addr>().is_ok()
            || self.host == "localhost"
            || self.host.ends_with(".localhost")
    }

    /// The port, or the scheme's own.
    pub fn port_or_default(&self, is_https: bool) -> u16 {
        self.port.unwrap_or(if is_https { 443 } else { 80 })
    }
}
