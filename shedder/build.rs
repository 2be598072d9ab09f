//! Builds the programs and embeds them.

fn main() {}
