//! One frame of each kind, and of each kind of damage.

use super::*;
use std::format;
use std::string::String;
use std::sync::OnceLock;

/// A frame with a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// What is special about it.
    pub name: String,
    /// The frame; under 14 bytes where it was cut inside the Ethernet header, which the kernel's test-run refuses.
    pub bytes: Vec<u8>,
    /// What a walk must find.
    pub walk: Walk,
}

/// Every named frame: one of each kind that is well-formed, and one of each kind of damage, among them every
/// truncation of four stacks.
pub fn named() -> &'static [Named] {
    static NAMED: OnceLock<Vec<Named>> = OnceLock::new();
    NAMED.get_or_init(|| {
        let mut named = Vec::new();
        add_well_formed(&mut named);
        add_damaged(&mut named);
        add_truncated(&mut named);
        named
    })
}

/// Name and bytes of every frame of [`named`].
pub fn named_frames() -> Vec<(&'static str, Vec<u8>)> {
    named().iter().map(|named| (named.name.as_str(), named.bytes.clone())).collect()
}

fn v4() -> Network {
    Network::V4 { source: CLIENT4, destination: SERVER4, options: 0, fragment: 0 }
}

fn v4_with(options: u8, fragment: u16) -> Network {
    Network::V4 { source: CLIENT4, destination: SERVER4, options, fragment }
}

fn v6(extensions: &[Extension]) -> Network {
    Network::V6 { source: CLIENT6, destination: SERVER6, hop_limit: 64, extensions: extensions.to_vec() }
}

fn v6_link(extensions: &[Extension]) -> Network {
    Network::V6 { source: CLIENT6, destination: SERVER6, hop_limit: 255, extensions: extensions.to_vec() }
}

fn tcp(flags: u8, data: &[u8]) -> Segment {
    Segment::Tcp { source: 40_000, destination: 8080, flags, options: 0, data: data.to_vec() }
}

fn udp(destination: u16, data: &[u8]) -> Segment {
    Segment::Udp { source: 40_000, destination, data: data.to_vec() }
}

fn neighbour(kind: u8, code: u8) -> Segment {
    Segment::Icmp(kind, code, vec![0; 20])
}

fn add_well_formed(named: &mut Vec<Named>) {
    let ack = Tcp::ACK;
    let units = |protocol| Extension::Units(protocol, 0);
    let quic = |first: u8, version: u32| {
        let mut data = vec![first];
        data.extend(version.to_be_bytes());
        data.resize(1200, 0);
        udp(443, &data)
    };
    let padded = |frame: Frame, bytes: &[u8]| Frame { padding: bytes.to_vec(), ..frame };
    let frames = [
        ("arp", Frame::new(Network::Other(0x0806), Segment::Other(0, vec![0; 46]))),
        ("arp/vlan", Frame::new(Network::Other(0x0806), Segment::Other(0, vec![0; 46])).tagged(&[VLAN])),
        ("lldp", Frame::new(Network::Other(0x88cc), Segment::Other(0, vec![0; 46]))),
        ("llc", Frame::new(Network::Other(38), Segment::Other(0, vec![0x42; 46]))),
        ("ethernet/nothing-behind", Frame::new(Network::Other(0x88cc), Segment::Other(0, vec![]))),
        ("ethernet/three-tags", Frame::new(v4(), tcp(Tcp::SYN, b"")).tagged(&[QINQ, VLAN, VLAN])),
        ("ethernet/three-tags-arp", {
            Frame::new(Network::Other(0x0806), Segment::Other(0, vec![0; 46])).tagged(&[QINQ, VLAN, VLAN])
        }),
        ("tcp4/syn", Frame::new(v4(), tcp(Tcp::SYN, b""))),
        ("tcp4/syn-options", {
            let options = 5;
            let segment =
                Segment::Tcp { source: 40_000, destination: 8080, flags: Tcp::SYN, options, data: vec![] };
            Frame::new(v4(), segment)
        }),
        ("tcp4/syn-data", Frame::new(v4(), tcp(Tcp::SYN, b"fast open"))),
        ("tcp4/syn-padded", padded(Frame::new(v4(), tcp(Tcp::SYN, b"")), &[0xaa; 6])),
        ("tcp4/syn-ack", Frame::new(v4(), tcp(Tcp::SYN | ack, b""))),
        ("tcp4/ack", Frame::new(v4(), tcp(ack, b""))),
        ("tcp4/data", Frame::new(v4(), tcp(ack | 8, b"GET / HTTP/1.1\r\n\r\n"))),
        ("tcp4/full", Frame::new(v4(), tcp(ack, &[0x5a; 1460]))),
        ("tcp4/fin", Frame::new(v4(), tcp(ack | Tcp::FIN, b""))),
        ("tcp4/rst", Frame::new(v4(), tcp(Tcp::RST, b""))),
        ("tcp4/no-flags", Frame::new(v4(), tcp(0, b""))),
        ("tcp4/all-flags", Frame::new(v4(), tcp(0xff, b""))),
        ("tcp4/port-zero", {
            let segment =
                Segment::Tcp { source: 0, destination: 0, flags: Tcp::SYN, options: 0, data: vec![] };
            Frame::new(v4(), segment)
        }),
        ("tcp4/vlan", Frame::new(v4(), tcp(Tcp::SYN, b"")).tagged(&[VLAN])),
        ("tcp4/qinq", Frame::new(v4(), tcp(Tcp::SYN, b"")).tagged(&[QINQ, VLAN])),
        ("tcp4/vlan-twice", Frame::new(v4(), tcp(Tcp::SYN, b"")).tagged(&[VLAN, VLAN])),
        ("tcp4/ip-options", Frame::new(v4_with(1, 0), tcp(Tcp::SYN, b""))),
        ("tcp4/ip-options-all", Frame::new(v4_with(10, 0), tcp(Tcp::SYN, b"data"))),
        ("tcp4/dont-fragment", Frame::new(v4_with(0, 0x4000), tcp(Tcp::SYN, b""))),
        ("tcp4/first-fragment", Frame::new(v4_with(0, V4_MORE_FRAGMENTS), tcp(Tcp::SYN, &[0; 12]))),
        (
            "tcp4/later-fragment",
            Frame::new(v4_with(0, V4_MORE_FRAGMENTS | 185), tcp(Tcp::SYN, b"looks like TCP")),
        ),
        ("tcp4/last-fragment", Frame::new(v4_with(0, 185), Segment::Other(6, vec![0; 3]))),
        ("tcp4/fragment-at-8", Frame::new(v4_with(0, 1), Segment::Other(6, vec![2; 12]))),
        ("udp4/dns", Frame::new(v4(), udp(53, &[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]))),
        ("udp4/empty", Frame::new(v4(), udp(9, b""))),
        ("udp4/padded", padded(Frame::new(v4(), udp(9, b"x")), &[0; 17])),
        ("udp4/first-fragment", Frame::new(v4_with(0, V4_MORE_FRAGMENTS), udp(9, &[7; 16]))),
        ("udp4/first-fragment-without-data", Frame::new(v4_with(0, V4_MORE_FRAGMENTS), udp(443, b""))),
        ("udp4/later-fragment", Frame::new(v4_with(0, 2), Segment::Other(17, vec![7; 16]))),
        ("udp4/quic-initial", Frame::new(v4(), quic(0xc3, 1))),
        ("udp4/quic-2-initial", Frame::new(v4(), quic(0xd0, 0x6b33_43cf))),
        ("udp4/quic-handshake", Frame::new(v4(), quic(0xe0, 1))),
        ("udp4/quic-short-header", Frame::new(v4(), quic(0x40, 1))),
        ("udp4/quic-unknown-version", Frame::new(v4(), quic(0xc0, 0xff00_001d))),
        ("udp4/quic-cut-short", Frame::new(v4(), udp(443, &[0xc0, 0, 0, 0]))),
        ("udp4/quic-in-padding", {
            padded(
                Frame::new(v4(), udp(443, b"")),
                &[0xc0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            )
        }),
        ("udp4/quic-in-padding-of-fragment", {
            let frame = Frame::new(v4_with(0, V4_MORE_FRAGMENTS), udp(443, b""));
            padded(frame, &[0xc0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }),
        ("icmp4/echo", Frame::new(v4(), Segment::Icmp(8, 0, vec![0; 60]))),
        ("icmp4/shortest", Frame::new(v4(), Segment::Icmp(8, 0, vec![0; 4]))),
        ("ip4/igmp", Frame::new(v4_with(1, 0), Segment::Other(2, vec![0x16; 8]))),
        ("ip4/esp", Frame::new(v4(), Segment::Other(50, vec![3; 40]))),
        ("ip4/gre", Frame::new(v4(), Segment::Other(47, vec![0; 4]))),
        ("ip4/sctp", Frame::new(v4(), Segment::Other(132, vec![0; 12]))),
        ("ip4/nothing-behind", Frame::new(v4(), Segment::Other(253, vec![]))),
        ("tcp6/syn", Frame::new(v6(&[]), tcp(Tcp::SYN, b""))),
        ("tcp6/data", Frame::new(v6(&[]), tcp(ack, b"data"))),
        ("tcp6/vlan", Frame::new(v6(&[]), tcp(Tcp::SYN, b"")).tagged(&[VLAN])),
        ("tcp6/qinq", Frame::new(v6(&[]), tcp(Tcp::SYN, b"")).tagged(&[QINQ, QINQ])),
        ("tcp6/hop-by-hop", Frame::new(v6(&[units(HOP_BY_HOP)]), tcp(Tcp::SYN, b""))),
        ("tcp6/routing", Frame::new(v6(&[Extension::Units(ROUTING, 2)]), tcp(Tcp::SYN, b""))),
        (
            "tcp6/destination-options",
            Frame::new(v6(&[Extension::Units(DESTINATION, 31)]), tcp(Tcp::SYN, b"")),
        ),
        ("tcp6/authentication", Frame::new(v6(&[Extension::Authentication(4)]), tcp(Tcp::SYN, b""))),
        ("tcp6/mobility", Frame::new(v6(&[units(MOBILITY)]), tcp(Tcp::SYN, b""))),
        ("tcp6/hip", Frame::new(v6(&[units(HIP)]), tcp(Tcp::SYN, b""))),
        ("tcp6/shim6", Frame::new(v6(&[units(SHIM6)]), tcp(Tcp::SYN, b""))),
        ("tcp6/eight-extensions", Frame::new(v6(&[units(DESTINATION); 8]), tcp(Tcp::SYN, b""))),
        ("tcp6/nine-extensions", Frame::new(v6(&[units(DESTINATION); 9]), tcp(Tcp::SYN, b""))),
        ("tcp6/atomic-fragment", Frame::new(v6(&[Extension::Fragment(0)]), tcp(Tcp::SYN, b""))),
        ("tcp6/first-fragment", {
            Frame::new(v6(&[Extension::Fragment(V6_MORE_FRAGMENTS)]), tcp(Tcp::SYN, &[0; 12]))
        }),
        (
            "tcp6/later-fragment",
            Frame::new(v6(&[Extension::Fragment(1480)]), tcp(Tcp::SYN, b"looks like TCP")),
        ),
        ("tcp6/fragment-then-extension", {
            Frame::new(
                v6(&[Extension::Fragment(1), Extension::Units(DESTINATION, 1)]),
                tcp(Tcp::SYN, b"1234"),
            )
        }),
        ("udp6/dns", Frame::new(v6(&[]), udp(53, &[0; 12]))),
        ("udp6/quic-initial", Frame::new(v6(&[]), quic(0xc0, 1))),
        ("udp6/first-fragment", Frame::new(v6(&[Extension::Fragment(V6_MORE_FRAGMENTS)]), udp(9, &[7; 16]))),
        ("icmp6/echo", Frame::new(v6(&[]), Segment::Icmp(128, 0, vec![0; 60]))),
        ("icmp6/multicast-listener", {
            Frame::new(v6_link(&[units(HOP_BY_HOP)]), Segment::Icmp(143, 0, vec![0; 24]))
        }),
        ("icmp6/router-solicitation", Frame::new(v6_link(&[]), Segment::Icmp(133, 0, vec![0; 4]))),
        ("icmp6/router-advertisement", Frame::new(v6_link(&[]), neighbour(134, 0))),
        ("icmp6/neighbour-solicitation", Frame::new(v6_link(&[]), neighbour(135, 0))),
        ("icmp6/neighbour-advertisement", Frame::new(v6_link(&[]), neighbour(136, 0))),
        ("icmp6/redirect", Frame::new(v6_link(&[]), neighbour(137, 0))),
        ("icmp6/neighbour-solicitation-routed", Frame::new(v6(&[]), neighbour(135, 0))),
        ("icmp6/neighbour-solicitation-other-code", Frame::new(v6_link(&[]), neighbour(135, 1))),
        ("icmp6/neighbour-solicitation-behind-options", {
            Frame::new(v6_link(&[units(DESTINATION)]), neighbour(135, 0))
        }),
        ("icmp6/echo-on-link", Frame::new(v6_link(&[]), Segment::Icmp(128, 0, vec![0; 4]))),
        ("ip6/no-next-header", Frame::new(v6(&[]), Segment::Other(59, vec![]))),
        ("ip6/esp", Frame::new(v6(&[]), Segment::Other(50, vec![3; 40]))),
        ("ip6/ip4-inside", Frame::new(v6(&[]), Segment::Other(4, vec![0x45; 40]))),
    ];
    named.extend(frames.iter().map(|(name, frame)| Named {
        name: (*name).into(),
        bytes: frame.bytes(),
        walk: frame.walk(),
    }));
}

fn add_damaged(named: &mut Vec<Named>) {
    let mut add = |name: &str, frame: &Frame, damage: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = frame.bytes();
        damage(&mut bytes);
        named.push(Named { name: name.into(), bytes, walk: Walk::Malformed });
    };
    let put16 = |at: usize, value: u16| {
        move |bytes: &mut Vec<u8>| bytes[at..at + 2].copy_from_slice(&value.to_be_bytes())
    };
    let put8 = |at: usize, value: u8| move |bytes: &mut Vec<u8>| bytes[at] = value;

    let tcp4 = Frame::new(v4(), tcp(Tcp::SYN, b"data"));
    let (ip, transport) = (tcp4.network_at(), tcp4.transport_at());
    for words in 0..5 {
        add(&format!("ip4/header-of-{words}-words"), &tcp4, &put8(ip, 0x40 | words));
    }
    add("ip4/header-past-the-packet", &tcp4, &put8(ip, 0x4f));
    add("ip4/version-6", &tcp4, &put8(ip, 0x65));
    add("ip4/version-0", &tcp4, &put8(ip, 0x05));
    add("ip4/total-length-0", &tcp4, &put16(ip + 2, 0));
    add("ip4/total-length-19", &tcp4, &put16(ip + 2, 19));
    add("ip4/total-length-inside-tcp", &tcp4, &put16(ip + 2, 39));
    add("ip4/total-length-one-too-many", &tcp4, &put16(ip + 2, 45));
    add("ip4/total-length-65535", &tcp4, &put16(ip + 2, 0xffff));
    add("tcp4/offset-0", &tcp4, &put8(transport + 12, 0x00));
    add("tcp4/offset-4", &tcp4, &put8(transport + 12, 0x40));
    add("tcp4/offset-15", &tcp4, &put8(transport + 12, 0xf0));
    let tiny = Frame::new(v4_with(0, V4_MORE_FRAGMENTS), Segment::Other(6, vec![2; 8]));
    add("tcp4/tiny-first-fragment", &tiny, &|_| {});
    let options = Frame::new(v4_with(10, 0), tcp(Tcp::SYN, b""));
    add("ip4/options-past-the-packet", &options, &put16(ip + 2, 59));

    let udp4 = Frame::new(v4(), udp(9, b"data"));
    add("udp4/length-0", &udp4, &put16(transport + 4, 0));
    add("udp4/length-7", &udp4, &put16(transport + 4, 7));
    add("udp4/length-one-too-many", &udp4, &put16(transport + 4, 13));
    add("udp4/length-65535", &udp4, &put16(transport + 4, 0xffff));
    add("udp4/header-past-the-packet", &udp4, &put16(ip + 2, 27));
    let tiny = Frame::new(v4_with(0, V4_MORE_FRAGMENTS), Segment::Other(17, vec![]));
    add("udp4/tiny-first-fragment", &tiny, &|_| {});
    let icmp4 = Frame::new(v4(), Segment::Icmp(8, 0, vec![0; 3]));
    add("icmp4/seven-bytes", &icmp4, &|_| {});
    let padded = Frame { padding: vec![0; 20], ..icmp4 };
    add("icmp4/seven-bytes-padded", &padded, &|_| {});

    let tcp6 = Frame::new(v6(&[]), tcp(Tcp::SYN, b"data"));
    add("ip6/version-4", &tcp6, &put8(ip, 0x40));
    add("ip6/payload-length-0", &tcp6, &put16(ip + 4, 0));
    add("ip6/payload-length-inside-tcp", &tcp6, &put16(ip + 4, 19));
    add("ip6/payload-length-one-too-many", &tcp6, &put16(ip + 4, 25));
    add("ip6/payload-length-65535", &tcp6, &put16(ip + 4, 0xffff));
    let extended = Frame::new(v6(&[Extension::Units(DESTINATION, 0)]), tcp(Tcp::SYN, b"data"));
    add("ip6/extension-length-255", &extended, &put8(ip + 41, 255));
    add("ip6/extension-swallows-tcp", &extended, &put8(ip + 41, 2));
    let authenticated = Frame::new(v6(&[Extension::Authentication(4)]), tcp(Tcp::SYN, b"data"));
    add("ip6/authentication-length-255", &authenticated, &put8(ip + 41, 255));
    let looped =
        Frame::new(v6(&[Extension::Units(DESTINATION, 0); 12]), Segment::Other(DESTINATION, vec![0; 8]));
    add("ip6/extensions-only", &looped, &|_| {});
    let hop = Frame::new(v6(&[]), Segment::Other(HOP_BY_HOP, vec![]));
    add("ip6/extension-missing", &hop, &|_| {});
    let cut = Frame::new(v6(&[]), Segment::Other(44, vec![6, 0, 0, 0, 0, 0, 0]));
    add("ip6/fragment-header-of-seven", &cut, &|_| {});
    let cut = Frame::new(v6(&[]), Segment::Other(44, vec![6, 0, 5, 0xc8, 0, 0, 0]));
    add("ip6/later-fragment-header-of-seven", &Frame { padding: vec![0; 8], ..cut }, &|_| {});
    let tiny = Frame::new(v6(&[Extension::Fragment(V6_MORE_FRAGMENTS)]), Segment::Other(6, vec![2; 8]));
    add("tcp6/tiny-first-fragment", &tiny, &|_| {});
    let udp6 = Frame::new(v6(&[]), udp(9, b"data"));
    add("udp6/length-0", &udp6, &put16(udp6.transport_at() + 4, 0));
    let icmp6 = Frame::new(v6_link(&[]), Segment::Icmp(135, 0, vec![]));
    add("icmp6/neighbour-solicitation-of-four", &icmp6, &|_| {});
    let padding = vec![135, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let icmp6 = Frame { padding, ..Frame::new(v6_link(&[]), Segment::Other(58, vec![])) };
    add("icmp6/neighbour-solicitation-in-padding", &icmp6, &|_| {});
    let arp = Frame::new(Network::Other(VLAN), Segment::Other(0, vec![]));
    add("ethernet/tag-missing", &arp, &|_| {});
}

fn add_truncated(named: &mut Vec<Named>) {
    let stacks = [
        ("tcp4", Frame::new(v4(), tcp(Tcp::SYN, b"data"))),
        ("udp6", Frame::new(v6(&[]), udp(53, b"data"))),
        ("icmp4", Frame::new(v4_with(2, 0), Segment::Icmp(8, 0, vec![0; 8])).tagged(&[VLAN])),
        ("tcp6-extended", {
            let extensions =
                [Extension::Units(HOP_BY_HOP, 1), Extension::Fragment(1), Extension::Authentication(4)];
            Frame::new(v6(&extensions), tcp(Tcp::SYN, b"data")).tagged(&[QINQ, VLAN])
        }),
        ("neighbour6", Frame::new(v6_link(&[]), neighbour(135, 0))),
    ];
    for (name, frame) in stacks {
        let bytes = frame.bytes();
        for length in 0..bytes.len() {
            named.push(Named {
                name: format!("{name}/truncated-at-{length}"),
                bytes: bytes[..length].to_vec(),
                walk: Walk::Malformed,
            });
        }
    }
}
