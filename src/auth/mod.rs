//! Who is asking: passwords, tokens, and what a request's headers say.

pub mod authority;
pub mod headers;
pub mod password;
pub mod token;
