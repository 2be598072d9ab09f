//! The verifier takes the programs of every configuration: what it has to follow grows with what is configured, and it
//! gives up at a million instructions. And the programs do not grow unseen.

use shedder_tests::kernel;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::programs::{GROWTH, RATES, RECORD, hold, largest};
use shedder_tests::shedder::Shedder;

/// Where the kernel stops (`BPF_COMPLEXITY_LIMIT_INSNS`), less a quarter: another version of it may follow more.
const BOUND: u32 = 750_000;

#[test]
fn the_largest_configurations_load() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("loads").unwrap();
    let shedder = Shedder::new(&network);
    for limits in 0..=RATES.len() {
        let rates = &RATES[..limits];
        let program = kernel::attach(&shedder, &largest(rates)).ingress().info().unwrap();
        let verified = program.verified_instruction_count().expect("the kernel tells what it followed");
        println!("{rates:?}: the verifier followed {verified} instructions");
        assert!(verified < BOUND, "{rates:?}: the verifier followed {verified} instructions");
    }
}

#[test]
fn the_programs_have_not_outgrown_the_figures_on_record() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("sizes").unwrap();
    let held = hold(&Shedder::new(&network)).unwrap();
    held.iter().for_each(|program| println!("{program}"));
    if let Some(program) = held.iter().find(|program| !program.fits()) {
        panic!("{program}: it grew by more than {GROWTH} %. Where that is worth it, change {RECORD}.");
    }
}
