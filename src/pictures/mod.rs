//! Pictures: what a file is by its bytes, and pictures that are safe to keep and to show.
//!
//! A file is never what its sender says it is ([`FileKind::of`]). A picture is read to its end before it is kept
//! ([`prepare()`]): its size is checked before it is decoded, everything in it that is no part of the picture is left out
//! (places, cameras, comments, and whatever follows its end), it is turned upright, and smaller copies are made. This
//! is work for threads of its own ([`Studio`]).

mod avif;
mod kind;
mod prepare;
mod strip;
mod studio;

pub use kind::FileKind;
pub use prepare::{NotAPicture, PIXELS_MAX, Picture, SmallPicture, prepare};
pub use studio::{Studio, StudioError};
