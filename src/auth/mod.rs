//! Who is asking: passwords, tokens, and whether a request comes from our own pages.

pub mod origin;
pub mod password;
pub mod token;
