//! What the fuzzer found worth keeping, played again without one: `cargo xtask fuzz` makes more of it.

use shedder_common::host::any::{any_frame, any_traffic};
use std::fs;
use std::path::Path;

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let inputs: Vec<_> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() > 20, "the corpus of {target} is there");
    inputs
}

#[test]
fn every_frame_of_the_corpus_is_walked_inside_its_bounds() {
    inputs("frame").iter().for_each(|input| any_frame(input));
}

#[test]
fn all_traffic_of_the_corpus_meets_what_is_in_force() {
    inputs("traffic").iter().for_each(|input| any_traffic(input));
}
