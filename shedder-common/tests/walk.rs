//! The walk against descriptions of frames, against an independent parser, and against damage.

use etherparse::{
    IpNumber, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket, SlicedPacket, TcpHeaderSlice, UdpHeaderSlice,
};
use proptest::prelude::*;
use shedder_common::host::frames::{
    Extension, Frame, Network, QINQ, Segment, V6_MORE_FRAGMENTS, VLAN, named, random_frame,
    random_well_formed,
};
use shedder_common::walk::{Address, Cursor, Protocol, Walk, claimed_by_ipv4, walk};
use std::collections::HashSet;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn walked(frame: &[u8]) -> Walk {
    walk(frame, frame.len())
}

#[test]
fn named_frames_are_what_their_names_say() {
    let wrong: Vec<_> = named().iter().filter(|frame| walked(&frame.bytes) != frame.walk).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn names_are_unique_and_many() {
    let names: HashSet<_> = named().iter().map(|frame| &frame.name).collect();
    assert_eq!(names.len(), named().len());
    assert!(named().iter().filter(|frame| !frame.name.contains("truncated-at")).count() >= 60);
}

#[test]
fn about_half_of_the_random_frames_are_well_formed() {
    let mut counts = [0; 3];
    for seed in 0..20_000 {
        counts[match walked(&random_frame(seed)) {
            Walk::Ip(_) => 0,
            Walk::NotIp => 1,
            Walk::Malformed => 2,
        }] += 1;
    }
    // Some damage leaves a frame that is well-formed in another way.
    assert!((9_000..16_000).contains(&counts[0]), "{counts:?}");
    assert!((500..5_000).contains(&counts[1]), "{counts:?}");
    assert!((3_000..9_000).contains(&counts[2]), "{counts:?}");
}

/// How many bytes of the frame its packet needs: all but the padding.
fn needed(frame: &Frame, bytes: &[u8]) -> usize {
    bytes.len() - frame.padding.len()
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn a_well_formed_frame_is_walked_as_described(seed: u64) {
        let frame = random_well_formed(seed);
        prop_assert_eq!(walked(&frame.bytes()), frame.walk(), "{:?}", frame);
    }

    #[test]
    fn random_frames_are_walked_without_a_panic(seed: u64) {
        walked(&random_frame(seed));
    }

    #[test]
    fn random_bytes_are_walked_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        length in prop_oneof![Just(0usize), 0usize..300, Just(usize::MAX), Just(65_536), Just(1 << 20)],
    ) {
        walk(&bytes[..], length);
        walked(&bytes);
        for kind in [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8]] {
            let mut frame = vec![0; 12];
            frame.extend(kind);
            frame.extend(&bytes);
            walk(&frame[..], length);
            walked(&frame);
        }
    }

    #[test]
    fn bytes_behind_the_packet_change_nothing(seed: u64, padding in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut frame = random_well_formed(seed);
        frame.padding = padding;
        prop_assert_eq!(walked(&frame.bytes()), frame.walk(), "{:?}", frame);
    }

    #[test]
    fn what_lies_behind_what_was_read_changes_nothing(seed: u64) {
        // The kernel sees only the first buffer of a frame in several: what is not there must not be guessed at.
        let frame = random_well_formed(seed);
        let bytes = frame.bytes();
        let whole = walked(&bytes);
        for end in 0..bytes.len() {
            let seen = walk(&bytes[..end], bytes.len());
            let is_same = match (seen, whole) {
                // A QUIC header past the first buffer is not recognised; the datagram is still the same.
                (Walk::Ip(seen), Walk::Ip(mut whole)) => {
                    whole.transport.quic_initial &= seen.transport.quic_initial;
                    seen == whole
                }
                (seen, whole) => seen == whole,
            };
            prop_assert!(is_same || seen == Walk::Malformed, "{end}: {seen:?} {frame:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn a_truncated_packet_is_never_taken_for_a_whole_one(seed: u64) {
        let frame = random_well_formed(seed);
        let bytes = frame.bytes();
        let whole = frame.walk();
        for end in 0..needed(&frame, &bytes) {
            match walked(&bytes[..end]) {
                Walk::Malformed => {}
                // Ethernet says no more than a type, which either is there or not.
                Walk::NotIp => prop_assert!(
                    matches!(frame.network, Network::Other(_)) && end >= frame.network_at(), "{end} {frame:?}"
                ),
                Walk::Ip(packet) => prop_assert!(false, "{end} of {whole:?} is {packet:?}"),
            }
        }
    }

    #[test]
    fn a_length_field_that_lies_is_never_believed(seed: u64, lie in any::<u16>()) {
        let frame = random_well_formed(seed);
        let mut bytes = frame.bytes();
        let at = frame.network_at();
        let (field, header) = match frame.network {
            Network::V4 { .. } => (at + 2, 0),
            Network::V6 { .. } => (at + 4, 40),
            Network::Other(_) => return Ok(()),
        };
        if frame.tags.len() > 2 { return Ok(()) }
        for lie in [lie, 0, 1, 19, 20, 27, 28, 0xffff] {
            bytes[field..field + 2].copy_from_slice(&lie.to_be_bytes());
            let end = at + header + lie as usize;
            if end > bytes.len() {
                prop_assert_eq!(walked(&bytes), Walk::Malformed, "{:?}", frame);
            } else {
                // Whatever is found, it is found in the bytes that the length leaves.
                let mut cut = bytes[..end].to_vec();
                prop_assert_eq!(walked(&bytes), walked(&cut), "{:?}", frame);
                cut.extend([0xff; 64]);
                prop_assert_eq!(walked(&bytes), walked(&cut), "{:?}", frame);
            }
        }
    }

    #[test]
    fn every_header_length_is_walked_within_the_packet(
        words in 0u8..16, payload in prop::collection::vec(any::<u8>(), 0..100), protocol in 0u8..=255,
    ) {
        let mut bytes = vec![0; 12];
        bytes.extend([0x08, 0x00, 0x40 | words, 0]);
        bytes.extend((20 + payload.len() as u16).to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        bytes.extend(&payload);
        let header = words as usize * 4;
        let found = walked(&bytes);
        if header < 20 || header > 20 + payload.len() {
            prop_assert_eq!(found, Walk::Malformed);
        } else if let Walk::Ip(packet) = found
            && packet.transport.is_tcp()
        {
            let transport = &bytes[14 + header..];
            prop_assert_eq!(&packet.transport.source_port.to_be_bytes()[..], &transport[..2]);
            prop_assert!(transport.len() >= 20);
        }
    }
}

#[test]
fn a_third_tag_is_malformed_wherever_it_stands() {
    let inside = Frame::new(Network::Other(0x0806), Segment::Other(0, vec![0; 46]));
    for tags in [[VLAN; 3], [QINQ; 3], [QINQ, VLAN, QINQ], [VLAN, QINQ, VLAN]] {
        assert_eq!(walked(&inside.clone().tagged(&tags).bytes()), Walk::Malformed);
        assert_eq!(walked(&inside.clone().tagged(&tags[..2]).bytes()), Walk::NotIp);
    }
}

#[test]
fn extension_chains_are_walked_up_to_the_bound() {
    let segment = Segment::Udp { source: 1, destination: 2, data: vec![] };
    for count in 0..16 {
        for kind in [0, 43, 60, 135, 139, 140] {
            let extensions = vec![Extension::Units(kind, 1); count];
            let network = Network::V6 { source: 1, destination: 2, hop_limit: 64, extensions };
            let found = walked(&Frame::new(network, segment.clone()).bytes());
            match found {
                Walk::Ip(packet) if count <= 8 => assert_eq!(packet.transport.protocol, Protocol::Udp),
                found => assert_eq!((found, count > 8), (Walk::Malformed, true)),
            }
        }
    }
}

#[test]
fn a_first_fragment_too_short_for_its_header_is_malformed() {
    for protocol in [6, 17] {
        for length in 0..28 {
            let segment = Segment::Other(protocol, vec![0x50; length]);
            let networks = [
                Network::V4 { source: 1, destination: 2, options: 0, fragment: 0x2000 },
                Network::V6 {
                    source: 1,
                    destination: 2,
                    hop_limit: 64,
                    extensions: vec![Extension::Fragment(V6_MORE_FRAGMENTS)],
                },
            ];
            for network in networks {
                let frame = Frame { padding: vec![0x50; 40], ..Frame::new(network, segment.clone()) };
                let found = walked(&frame.bytes());
                if length < if protocol == 6 { 20 } else { 8 } {
                    assert_eq!(found, Walk::Malformed, "{protocol} {length}");
                } else {
                    assert!(
                        matches!(found, Walk::Ip(packet) if packet.transport.protocol != Protocol::Other)
                    );
                }
            }
        }
    }
}

#[test]
fn a_length_of_zero_is_only_believed_of_a_packet_past_16_bits() {
    for (extra, is_ip) in [(0, false), (65_535 - 40, false), (65_535 - 39, true), (200_000, true)] {
        let network = Network::V4 { source: 1, destination: 2, options: 0, fragment: 0 };
        let segment = Segment::Tcp { source: 1, destination: 2, flags: 16, options: 0, data: vec![] };
        let mut bytes = Frame::new(network, segment).bytes();
        bytes[16..18].fill(0);
        bytes.resize(bytes.len() + extra, 0);
        match walked(&bytes) {
            Walk::Ip(packet) => {
                assert!(is_ip && packet.transport.is_tcp() && packet.transport.payload > 0)
            }
            found => assert_eq!((found, is_ip), (Walk::Malformed, false)),
        }
    }
}

#[test]
fn plain_ipv4_claims_the_length_in_its_header() {
    for frame in named() {
        let expected = match frame.bytes.get(12..18) {
            Some([0x08, 0x00, _, _, 0, 0]) => Some(0),
            Some([0x08, 0x00, _, _, high, low]) => Some(14 + usize::from(u16::from_be_bytes([*high, *low]))),
            _ => None,
        };
        assert_eq!(claimed_by_ipv4(&frame.bytes[..]), expected, "{}", frame.name);
    }
}

#[test]
fn a_cursor_reads_nothing_past_the_end() {
    let bytes = [1u8, 2, 3, 4];
    assert_eq!(bytes[..].read::<2>(2), Some([3, 4]));
    assert_eq!(bytes[..].read::<2>(3), None);
    assert_eq!(bytes[..].read::<2>(usize::MAX), None);
    assert_eq!(bytes[..].skip(3).read::<1>(0), Some([4]));
    assert_eq!(bytes[..].skip(5).read::<1>(0), None);
    assert_eq!(bytes[..].skip(usize::MAX).skip(usize::MAX).read::<1>(0), None);
}

// ---- An independent parser ----

/// Source, destination, and the ports of both.
type Found = (Address, Address, Option<(u16, u16)>);

/// Addresses and ports, as `etherparse` finds them; none where it refuses the frame as it would be refused here.
fn independent(net: Option<LaxNetSlice>) -> Option<Found> {
    let (source, destination, payload, is_later_fragment) = match net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let is_later = header.fragments_offset().value() != 0;
            (address4(header.source()), address4(header.destination()), ip.payload().clone(), is_later)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let is_later = ip.extensions().clone().into_iter().any(|extension| match extension {
                Ipv6ExtensionSlice::Fragment(fragment) => fragment.fragment_offset().value() != 0,
                _ => false,
            });
            (address6(header.source()), address6(header.destination()), ip.payload().clone(), is_later)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let ports = match payload.ip_number {
        _ if is_later_fragment => None,
        IpNumber::TCP => TcpHeaderSlice::from_slice(payload.payload)
            .ok()
            .map(|tcp| (tcp.source_port(), tcp.destination_port())),
        IpNumber::UDP => UdpHeaderSlice::from_slice(payload.payload)
            .ok()
            .map(|udp| (udp.source_port(), udp.destination_port())),
        _ => None,
    };
    Some((source, destination, ports))
}

fn address4(bytes: [u8; 4]) -> Address {
    Address { high: 0, low: u32::from_be_bytes(bytes) as u64, is_v6: false }
}

fn address6(bytes: [u8; 16]) -> Address {
    let address = u128::from_be_bytes(bytes);
    Address { high: (address >> 64) as u64, low: address as u64, is_v6: true }
}

/// Whether `etherparse` walks the chain: it knows fewer kinds of extension headers, and each only where RFC 8200
/// recommends it.
fn is_common(frame: &Frame) -> bool {
    match &frame.network {
        Network::Other(_) => false,
        Network::V4 { .. } => true,
        Network::V6 { extensions, .. } => {
            let ranks: Vec<_> = extensions
                .iter()
                .map(|extension| match extension {
                    Extension::Units(0, _) => 0,
                    Extension::Units(60, _) => 1,
                    Extension::Units(43, _) => 2,
                    Extension::Fragment(_) => 3,
                    Extension::Authentication(1..) => 4,
                    Extension::Authentication(0) | Extension::Units(..) => 9,
                })
                .collect();
            ranks.is_sorted_by(|a, b| a < b) && !ranks.contains(&9)
        }
    }
}

proptest! {
    #![proptest_config(cases(8_000))]

    #[test]
    fn well_formed_frames_are_walked_as_an_independent_parser_does(seed: u64) {
        let frame = random_well_formed(seed);
        let bytes = frame.bytes();
        if let Walk::Ip(packet) = walked(&bytes) && is_common(&frame) {
            // It also walks IGMP, of which the generator knows only the number.
            let is_accepted = SlicedPacket::from_ethernet(&bytes).is_ok();
            prop_assert!(is_accepted || matches!(frame.segment, Segment::Other(2, _)), "{frame:?}");
            let lax = LaxSlicedPacket::from_ethernet(&bytes).expect("an Ethernet header");
            let found = (packet.source, packet.destination, packet.transport.ports());
            prop_assert_eq!(Some(found), independent(lax.net), "{:?}", frame);
        }
    }

    #[test]
    fn ports_of_damaged_frames_are_where_an_independent_parser_finds_them(seed: u64) {
        let bytes = random_frame(seed);
        if let Walk::Ip(packet) = walked(&bytes) && !has_uncommon_extension(&bytes) {
            let lax = LaxSlicedPacket::from_ethernet(&bytes).expect("an Ethernet header");
            let found = (packet.source, packet.destination, packet.transport.ports());
            prop_assert_eq!(Some(found), independent(lax.net), "{:02x?}", bytes);
        }
    }
}

/// Whether the frame has an extension header that `etherparse` does not walk, or walks elsewhere in a chain only.
fn has_uncommon_extension(frame: &[u8]) -> bool {
    match LaxSlicedPacket::from_ethernet(frame).map(|packet| packet.net) {
        Ok(Some(LaxNetSlice::Ipv6(ip))) => {
            [0, 43, 44, 51, 60, 135, 139, 140].contains(&ip.payload().ip_number.0)
        }
        _ => false,
    }
}
