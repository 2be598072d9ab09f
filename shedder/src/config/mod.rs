//! The configuration: a TOML file, validated into what the rest may rely on.
//!
//! A file is read in two passes over one spanned tree of it: each key by itself (its type, its range: `section`
//! with the tables of `keys`), then what holds between keys (`check`). Neither stops at the first mistake.
//! The tables of `keys` also print a configuration (`render`) and the reference of the file (`reference`), so that
//! what is accepted, what is printed and what is documented cannot drift apart.

mod address;
mod check;
pub(crate) mod duration;
mod keys;
mod kind;
mod load;
mod mistake;
mod model;
mod parse;
mod reference;
mod render;
mod scalar;
mod section;
mod suggest;

#[cfg(test)]
mod any;
#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;

pub use load::{LoadError, MAX_BYTES, load};
pub use mistake::Mistake;
pub use model::*;
pub use parse::parse;
pub use reference::reference;
