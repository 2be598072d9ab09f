//! The verdict: rung by rung, in the order in which a packet meets them, and against a plain model of the whole.

mod model;
mod rungs;

use proptest::prelude::ProptestConfig;
use shedder_common::abi::{Policy, PortEntry, Prefix4, Prefix6, PrefixPolicy};
use shedder_common::bucket::Rate;
use shedder_common::class::Class;
use shedder_common::hash::HashKey;
use shedder_common::host::Host;
use shedder_common::host::frames::{Frame, Network, Segment};
use shedder_common::reason::Reason;
use shedder_common::walk::{Address, Tcp};

const SECOND: u64 = 1_000_000_000;
const CLIENT: u32 = 0xc000_0201;
const OTHER: u32 = 0xcb00_7105;
const SERVER: u32 = 0xc633_6401;
const PORT: u16 = 8080;
const SLOT: u8 = 3;
const NONE: usize = 256;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A policy that limits nothing and has one service, on `PORT` of TCP and UDP.
fn host() -> Host {
    let mut policy: Policy = bytemuck::Zeroable::zeroed();
    policy.key = HashKey::new(
        [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
        [0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89],
    );
    policy.flags = Policy::SERVICES;
    policy.interface = 2;
    policy.default_class = Class::Normal as u32;
    policy.set_mask = 63;
    policy.memory_mask = 63;
    policy.offered_none = NONE as u64;
    policy.source_mask6 = [u64::MAX, 0];
    policy.horizons = [200 * SECOND; 3];
    policy.proven_ttl = 3600;
    policy.udp_flow_ttl = 30;
    policy.rotation = 3600 * SECOND;
    let mut host = Host::new(policy);
    serve(&mut host, Class::Normal, false);
    host.control.lease.store(host.now.get() + 2 * SECOND);
    host
}

fn serve(host: &mut Host, class: Class, every_packet: bool) {
    let entry = PortEntry::new(SLOT, class as u8, every_packet).0;
    host.ports.tcp[PORT as usize] = entry;
    host.ports.udp[PORT as usize] = entry;
}

/// Sets what holds for exactly one address.
fn name(host: &mut Host, address: &Address, prefix: PrefixPolicy) {
    if address.is_v6 {
        (host.policy.length_count6, host.policy.lengths6[0]) = (1, 128);
        host.prefixes6.insert(Prefix6 { high: address.high, low: address.low, length: 128 }, prefix);
    } else {
        (host.policy.length_count4, host.policy.lengths4[0]) = (1, 32);
        host.prefixes4.insert(Prefix4 { address: address.low as u32, length: 32 }, prefix);
    }
}

fn address4(address: u32) -> Address {
    Address { high: 0, low: address as u64, is_v6: false }
}

fn with_flags(flags: u32) -> PrefixPolicy {
    PrefixPolicy { flags, ..PrefixPolicy::default() }
}

fn v4(source: u32, destination: u32) -> Network {
    Network::V4 { source, destination, options: 0, fragment: 0 }
}

fn tcp_between(source: (u32, u16), destination: (u32, u16), flags: u8, data: &[u8]) -> Vec<u8> {
    let segment =
        Segment::Tcp { source: source.1, destination: destination.1, flags, options: 0, data: data.to_vec() };
    Frame::new(v4(source.0, destination.0), segment).bytes()
}

fn tcp(flags: u8, data: &[u8]) -> Vec<u8> {
    tcp_between((CLIENT, 40_000), (SERVER, PORT), flags, data)
}

fn syn() -> Vec<u8> {
    tcp(Tcp::SYN, b"")
}

fn udp(source_port: u16, data: &[u8]) -> Vec<u8> {
    let segment = Segment::Udp { source: source_port, destination: PORT, data: data.to_vec() };
    Frame::new(v4(CLIENT, SERVER), segment).bytes()
}

/// What this host answers inside a connection.
fn answer() -> Vec<u8> {
    tcp_between((SERVER, PORT), (CLIENT, 40_000), Tcp::ACK, b"200")
}

fn arp() -> Vec<u8> {
    Frame::new(Network::Other(0x0806), Segment::Other(0, vec![0; 46])).bytes()
}

fn malformed() -> Vec<u8> {
    let mut frame = syn();
    frame.truncate(50);
    frame
}

fn neighbour() -> Vec<u8> {
    let network = Network::V6 { source: 1, destination: 2, hop_limit: 255, extensions: vec![] };
    Frame::new(network, Segment::Icmp(135, 0, vec![0; 20])).bytes()
}

fn comes(host: &Host, frame: &[u8]) -> Reason {
    host.ingress(frame)
}

fn leaves(host: &Host, frame: &[u8]) -> Reason {
    host.egress(frame)
}

fn offered(host: &Host, slot: usize) -> u32 {
    host.offered.borrow()[slot].by_priority.iter().sum()
}

/// One unit in 100 seconds, and one at once.
fn one() -> Rate {
    Rate { cost: (100 * SECOND) << 16, tolerance: 0 }
}

/// A rate whose bucket is empty after one packet of any size.
fn one_byte() -> Rate {
    Rate { cost: SECOND << 16, tolerance: 0 }
}
