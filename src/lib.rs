//! Parlor: a self-hosted chat server made of hypermedia.
//!
//! The crate is a library with one small binary, so that tests and benches reach its parts:
//!
//! - [`domain`]: what a name, a message, an event is;
//! - [`store`]: where they are kept, SQLite or MongoDB behind one interface;
//! - [`cluster`]: what nodes tell each other, and nobody keeps;
//! - [`live`]: who follows which room, and how they are woken;
//! - [`auth`]: passwords, tokens, origins;
//! - [`markup`]: a message's text as code, links and plain text;
//! - [`json`]: JSON that is safe to print;
//! - [`views`]: what is shown;
//! - [`web`]: HTTP, a handler for each route;
//! - [`server`]: sockets and an orderly end;
//! - [`logging`]: the log, which nothing waits for;
//! - [`mail`]: letters to people, over SMTP;
//! - [`metrics`]: what can be watched from outside;
//! - [`commands`]: moving a store, copying it and putting it back;
//! - [`operator`]: the operator's command line;
//! - [`pictures`]: files told by their bytes, and pictures made safe to keep and to show;
//! - [`files`], [`fnv`], [`lasting`], [`signals`]: private files, a hash, threads that come back, asked to end.
//!
//! Arrows point one way: `web` → `auth`, `views`, `live`, `store` → `domain`. The one exception:
//! `live` reads logs through the [`store::Store`] interface and encodes events with [`views`].

pub mod assets;
pub mod auth;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod domain;
pub mod error;
pub mod files;
pub mod fnv;
pub mod in_flight;
pub mod json;
pub mod lasting;
pub mod limits;
pub mod live;
pub mod logging;
pub mod mail;
pub mod markup;
pub mod metrics;
pub mod noted_sessions;
pub mod operator;
pub mod pictures;
pub mod server;
pub mod signals;
pub mod state;
pub mod store;
pub mod views;
pub mod web;

pub use web::app;
