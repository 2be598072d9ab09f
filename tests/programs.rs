//! The verifier takes the programs of every configuration: what it has to follow grows with what is configured, and it
//! gives up at a million instructions.

use shedder_tests::kernel;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where the kernel stops (`BPF_COMPLEXITY_LIMIT_INSNS`), less a quarter: another version of it may follow more.
const BOUND: u32 = 750_000;

const PACKETS: &str = "packets_per_second = 10_000";
const BYTES: &str = "bytes_per_second = 50_000_000";
const NEW_FLOWS: &str = "new_flows_per_second = 200";

/// Rules and lifelines of as many prefix lengths as there may be, and a service.
fn names() -> String {
    const LENGTHS: u32 = 33;
    let mut text = String::from(
        "[newcomers]\npackets_per_second = 50_000\n\
         [[service]]\nname = \"web\"\nprotocol = \"tcp\"\nport = 80\n\
         [[lifeline]]\npeers = [\"10.0.0.0/8\"]\nports = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]\n",
    );
    for length in 0..LENGTHS {
        let v4 = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - length).unwrap_or(0));
        let v6 = Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - 2 * length).unwrap_or(0));
        let (rule, v6_length) = ("[[rule]]\nclass = \"low\"\nsources =", 2 * length);
        let _ = writeln!(text, "{rule} [\"{v4}/{length}\", \"{v6}/{v6_length}\"]");
    }
    text
}

#[test]
fn the_largest_configurations_load() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("loads").unwrap();
    let shedder = Shedder::new(&network);
    for rates in [&[][..], &[PACKETS], &[PACKETS, BYTES], &[PACKETS, BYTES, NEW_FLOWS]] {
        let config = format!(
            "interfaces = [\"$IF\"]\nposture = \"closed\"\n{}[source]\nipv6_prefix = 128\n{}",
            names(),
            rates.join("\n")
        );
        let program = kernel::attach(&shedder, &config).ingress().info().unwrap();
        let verified = program.verified_instruction_count().expect("the kernel tells what it followed");
        println!("{rates:?}: the verifier followed {verified} instructions");
        assert!(verified < BOUND, "{rates:?}: the verifier followed {verified} instructions");
    }
}
