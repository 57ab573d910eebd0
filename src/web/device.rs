//! The origin of a request: a program and a system in words, and a network address.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::client;
use crate::state::AppState;

/// The origin of a sign-in.
pub(super) struct Device {
    /// `Firefox on Linux`.
    pub(super) name: String,
    /// Empty only where the server gave none.
    pub(super) address: String,
}

impl FromRequestParts<AppState> for Device {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Infallible> {
        let agent = parts.headers.get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        let address = client::address(&parts.extensions, &parts.headers, &app.config);
        Ok(Self {
            name: named(agent.unwrap_or("")),
            address: address.map_or_else(String::new, |address| address.to_string()),
        })
    }
}

/// A `User-Agent` in words. Browsers pretend to be those before them, so the order counts.
fn named(agent: &str) -> String {
    const PROGRAMS: [(&str, &str); 6] = [
        ("Firefox/", "Firefox"),
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("Lynx/", "Lynx"),
    ];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Windows", "Windows"),
        ("Android", "Android"),
        ("iPhone", "an iPhone"),
        ("iPad", "an iPad"),
        ("Mac OS X", "a Mac"),
        ("Linux", "Linux"),
    ];
    let first = |of: &[(&str, &'static str)]| {
        let found = of.iter().find(|(part, _)| agent.contains(part));
        found.map(|(_, word)| *word)
    };
    match (first(&PROGRAMS), first(&SYSTEMS)) {
        (Some(program), Some(system)) => format!("{program} on {system}"),
        (Some(program), None) => program.to_owned(),
        // `curl/8.5.0`, or nothing.
        (None, _) => {
            let name = agent.split(['/', ' ']).next().unwrap_or("");
            let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            name.chars().take_while(is_plain).take(40).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_program_and_a_system() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
                "Safari on an iPhone",
            ),
            ("curl/8.5.0", "curl"),
            ("", ""),
            ("<script>", ""),
        ] {
            assert_eq!(named(agent), name, "{agent}");
        }
    }
}
