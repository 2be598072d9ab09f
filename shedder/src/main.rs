//! The command line's thin binary.

fn main() {}
