//! The version of the program that wrote a store.

use std::fmt;

/// A version, as a store keeps it: one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParlorVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

impl ParlorVersion {
    /// This program's.
    pub(super) const OWN: Self = Self {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        patch: number(env!("CARGO_PKG_VERSION_PATCH")),
    };

    /// As a store keeps it.
    pub(super) fn to_number(self) -> i64 {
        i64::from(self.major) << 32 | i64::from(self.minor) << 16 | i64::from(self.patch)
    }

    /// From what a store kept; 0 where it kept none.
    pub(super) fn from_number(number: i64) -> Self {
        let part = |shift: u32| (number >> shift) as u16;
        Self {
            major: part(32),
            minor: part(16),
            patch: part(0),
        }
    }
}

const fn number(digits: &str) -> u16 {
    match u16::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("cargo gives numbers"),
    }
}

impl fmt::Display for ParlorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_number() {
            0 => f.write_str("one that does not say its number"),
            _ => write!(f, "{}.{}.{}", self.major, self.minor, self.patch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_kept_as_a_number() {
        assert_eq!(ParlorVersion::OWN.to_string(), env!("CARGO_PKG_VERSION"));
        for version in ["0.1.0", "2.13.400"] {
            let mut parts = version.split('.').map(number);
            let mut next = || parts.next().unwrap();
            let parsed = ParlorVersion {
                major: next(),
                minor: next(),
                patch: next(),
            };
            assert_eq!(parsed.to_string(), version);
            assert_eq!(ParlorVersion::from_number(parsed.to_number()), parsed);
        }
    }
}
