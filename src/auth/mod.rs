//! Authentication: passwords, tokens, and the headers that identify a request's sender.

pub mod authority;
pub mod headers;
mod hs256;
pub mod password;
pub mod token;
