//! The configuration: a TOML file, validated into what the rest may rely on.

mod model;

pub use model::*;
