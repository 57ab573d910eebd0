//! The client's network address, as the connection and trusted proxies give it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;

use crate::config::Config;
use crate::error::AppError;
use crate::state::AppState;

/// The other end of the connection, put into each request by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The client's address, for rate limits.
pub(super) struct ClientAddress(pub(super) IpAddr);

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, AppError> {
        match address(&parts.extensions, &parts.headers, &app.config) {
            Some(address) => Ok(Self(address)),
            None => Err(AppError::Internal("the server gave no peer address".into())),
        }
    }
}

/// The client's address; `None` only where the server gave none.
pub(super) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    config: &Config,
) -> Option<IpAddr> {
    let Peer(peer) = extensions.get()?;
    let trusted = &config.trusted_proxies;
    if headers.contains_key("x-forwarded-for") && !is_trusted(trusted, peer.ip()) {
        warn_once(peer.ip());
    }
    Some(client_address(peer.ip(), headers, trusted))
}

/// Either somebody pretends, or the operator has forgotten a setting; then all clients count as one.
fn warn_once(peer: IpAddr) {
    static IS_SAID: AtomicBool = AtomicBool::new(false);
    if !IS_SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            %peer,
            "X-Forwarded-For from an address that is not in TRUSTED_PROXIES is not believed; if this \
             is your proxy, set TRUSTED_PROXIES, or all its clients count as one"
        );
    }
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// A hop as proxies write it: an address, perhaps with a port, which some put in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = hop.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = address.or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

/// The last hop that no proxy of ours vouches for: what stands further left in the header was
/// written by whoever wanted to.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut address = peer.to_canonical();
    let hops = headers.get_all("x-forwarded-for").iter().rev();
    let hops = hops
        .filter_map(|hops| hops.to_str().ok())
        .flat_map(|hops| hops.rsplit(','));
    for hop in hops {
        if !is_trusted(trusted, address) {
            break;
        }
        match parse_hop(hop) {
            Some(hop) => address = hop,
            None => break,
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_proxies_are_believed() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let address = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(address("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(address("10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(
            address("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2"),
            "198.51.100.7"
        );
        assert_eq!(address("::ffff:10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(address("10.0.0.1", "nonsense"), "10.0.0.1");
        for (forwarded, client) in [
            ("203.0.113.9:51234", "203.0.113.9"),
            ("[2001:db8::5]:443", "2001:db8::5"),
            ("[2001:db8::5]", "2001:db8::5"),
            ("2001:db8::5", "2001:db8::5"),
            (
                "198.51.100.7, 203.0.113.9:51234 , 10.0.0.2:80",
                "203.0.113.9",
            ),
            ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
            ("203.0.113.9:port", "10.0.0.1"),
            ("_hidden, unknown", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(address("10.0.0.1", forwarded), client, "{forwarded}");
        }
    }
}
