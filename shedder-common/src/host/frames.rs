//! Frames to judge: well-formed ones together with what a walk must find in them, damaged ones by name, and random
//! ones by seed.
//!
//! What a walk must find is derived from the description of a frame, never from its bytes, so that a walk is held
//! against something other than itself.

use crate::walk::{Address, Packet, Tcp, Transport, Udp, Walk};
use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;
use std::{format, vec};

/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad tag.
pub const QINQ: u16 = 0x88a8;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// The bit of an IPv4 header's fragment field that says that more follow.
pub const V4_MORE_FRAGMENTS: u16 = 0x2000;
/// The bit of an IPv6 fragment header's field that says that more follow.
pub const V6_MORE_FRAGMENTS: u16 = 1;

/// A frame, described.
#[derive(Clone, Debug)]
pub struct Frame {
    /// EtherTypes of the tags, [`VLAN`] or [`QINQ`], the outermost first.
    pub tags: Vec<u16>,
    /// What the frame carries.
    pub network: Network,
    /// What the packet carries; in a frame that is not IP only its data counts.
    pub segment: Segment,
    /// Bytes behind the packet, as in a frame that was padded to Ethernet's minimum.
    pub padding: Vec<u8>,
}

/// The network header.
#[derive(Clone, Debug)]
pub enum Network {
    /// None that is IP: an EtherType.
    Other(u16),
    /// IPv4.
    V4 {
        /// Source address, in host order.
        source: u32,
        /// Destination address, in host order.
        destination: u32,
        /// Words of options, four bytes each: 0 to 10.
        options: u8,
        /// The flags and the offset in units of eight bytes, as in the header.
        fragment: u16,
    },
    /// IPv6.
    V6 {
        /// Source address.
        source: u128,
        /// Destination address.
        destination: u128,
        /// Hop limit; 255 makes ICMPv6 of the right type neighbour discovery.
        hop_limit: u8,
        /// Extension headers, in order.
        extensions: Vec<Extension>,
    },
}

/// An IPv6 extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// One that gives its length in units of eight bytes beyond the first eight: its protocol number, and the length.
    Units(u8, u8),
    /// The authentication header (51): its length in words of four bytes beyond the first two.
    Authentication(u8),
    /// The fragment header (44): the offset in bytes, a multiple of eight, and [`V6_MORE_FRAGMENTS`].
    Fragment(u16),
}

/// What an IP packet carries.
#[derive(Clone, Debug)]
pub enum Segment {
    /// A TCP segment.
    Tcp {
        /// Port at the source.
        source: u16,
        /// Port at the destination.
        destination: u16,
        /// From FIN (1) to CWR (128).
        flags: u8,
        /// Words of options, four bytes each: 0 to 10.
        options: u8,
        /// What the segment carries.
        data: Vec<u8>,
    },
    /// A UDP datagram, or its first fragment: then its length says more than is there.
    Udp {
        /// Port at the source.
        source: u16,
        /// Port at the destination.
        destination: u16,
        /// What the datagram carries.
        data: Vec<u8>,
    },
    /// ICMP or ICMPv6, as the network header has it: type, code, and what follows the checksum, four bytes or more.
    Icmp(u8, u8, Vec<u8>),
    /// Another protocol, by its number.
    Other(u8, Vec<u8>),
}

const ROUTER_SOLICITATION: u8 = 133;
const REDIRECT: u8 = 137;

impl Frame {
    /// A frame without tags or padding.
    pub fn new(network: Network, segment: Segment) -> Frame {
        Frame { tags: Vec::new(), network, segment, padding: Vec::new() }
    }

    /// The same frame behind these tags.
    pub fn tagged(mut self, tags: &[u16]) -> Frame {
        self.tags = tags.to_vec();
        self
    }

    /// Where the network header begins.
    pub fn network_at(&self) -> usize {
        ETHERNET + 4 * self.tags.len()
    }

    /// Where the transport header begins.
    pub fn transport_at(&self) -> usize {
        self.network_at()
            + match &self.network {
                Network::Other(_) => 0,
                Network::V4 { options, .. } => 20 + 4 * *options as usize,
                Network::V6 { extensions, .. } => {
                    40 + extensions.iter().map(Extension::length).sum::<usize>()
                }
            }
    }

    /// Whether it is a fragment, and not the last one.
    fn is_cut(&self) -> bool {
        match &self.network {
            Network::Other(_) => false,
            Network::V4 { fragment, .. } => fragment & V4_MORE_FRAGMENTS != 0,
            Network::V6 { extensions, .. } => extensions.iter().any(
                |extension| matches!(extension, Extension::Fragment(field) if field & V6_MORE_FRAGMENTS != 0),
            ),
        }
    }

    /// Whether it is a fragment, and not the first one.
    fn is_later_fragment(&self) -> bool {
        match &self.network {
            Network::Other(_) => false,
            Network::V4 { fragment, .. } => fragment & 0x1fff != 0,
            Network::V6 { extensions, .. } => extensions
                .iter()
                .any(|extension| matches!(extension, Extension::Fragment(field) if field & !7 != 0)),
        }
    }

    /// What a walk must find.
    pub fn walk(&self) -> Walk {
        if self.tags.len() > 2 {
            return Walk::Malformed;
        }
        let address6 =
            |address: u128| Address { high: (address >> 64) as u64, low: address as u64, is_v6: true };
        let address4 = |address: u32| Address { high: 0, low: address as u64, is_v6: false };
        let (source, destination) = match &self.network {
            Network::Other(_) => return Walk::NotIp,
            Network::V4 { source, destination, .. } => (address4(*source), address4(*destination)),
            Network::V6 { source, destination, hop_limit, extensions } => {
                let walked = extensions.iter().take_while(|extension| !extension.is_later_fragment()).count();
                if walked > 8 || (walked == 8 && extensions.len() > 8) {
                    return Walk::Malformed;
                }
                if let Segment::Icmp(ROUTER_SOLICITATION..=REDIRECT, 0, _) = self.segment
                    && *hop_limit == 255
                    && extensions.is_empty()
                {
                    return Walk::NotIp;
                }
                (address6(*source), address6(*destination))
            }
        };
        let transport = if self.is_later_fragment() { Transport::Other } else { self.segment.transport() };
        Walk::Ip(Packet { source, destination, transport })
    }

    /// The frame's bytes, with every length and checksum as it should be.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 42]);
        }
        let mut segment = self.segment.bytes(self.is_cut());
        match &self.network {
            Network::Other(kind) => bytes.extend(kind.to_be_bytes()),
            Network::V4 { source, destination, options, fragment } => {
                let header_length = 20 + 4 * *options as usize;
                let mut header = vec![0x45 + options, 0];
                header.extend(((header_length + segment.len()) as u16).to_be_bytes());
                header.extend([0x12, 0x34]);
                header.extend(fragment.to_be_bytes());
                header.extend([64, self.segment.protocol(false), 0, 0]);
                header.extend(source.to_be_bytes());
                header.extend(destination.to_be_bytes());
                // No-operations.
                header.resize(header_length, 1);
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                let pseudo = [&source.to_be_bytes()[..], &destination.to_be_bytes()].concat();
                self.fill_checksum(&mut segment, &pseudo, false);
                bytes.extend(0x0800u16.to_be_bytes());
                bytes.extend(header);
            }
            Network::V6 { source, destination, hop_limit, extensions } => {
                let mut chain = Vec::new();
                let mut protocols =
                    extensions.iter().map(Extension::protocol).chain([self.segment.protocol(true)]);
                let first = protocols.next().expect("the segment's is there");
                for (extension, next) in extensions.iter().zip(protocols) {
                    let begin = chain.len();
                    match extension {
                        Extension::Units(_, length) | Extension::Authentication(length) => {
                            chain.extend([next, *length, 0, 0]);
                        }
                        Extension::Fragment(field) => {
                            chain.extend([next, 0]);
                            chain.extend(field.to_be_bytes());
                        }
                    }
                    chain.resize(begin + extension.length(), 0);
                }
                bytes.extend(0x86ddu16.to_be_bytes());
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(((chain.len() + segment.len()) as u16).to_be_bytes());
                bytes.extend([first, *hop_limit]);
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                bytes.extend(chain);
                let pseudo = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                self.fill_checksum(&mut segment, &pseudo, true);
            }
        }
        bytes.extend(segment);
        bytes.extend(&self.padding);
        bytes
    }

    /// Writes the transport's checksum, except into fragments: theirs is of the whole, which is not there.
    fn fill_checksum(&self, segment: &mut [u8], addresses: &[u8], is_v6: bool) {
        let at = match self.segment {
            Segment::Tcp { .. } => 16,
            Segment::Udp { .. } => 6,
            Segment::Icmp(..) => 2,
            Segment::Other(..) => return,
        };
        if self.is_cut() || self.is_later_fragment() {
            return;
        }
        let length = (segment.len() as u32).to_be_bytes();
        let protocol = [0, 0, 0, self.segment.protocol(is_v6)];
        let sum = match self.segment {
            Segment::Icmp(..) if !is_v6 => checksum(&[segment]),
            _ => checksum(&[addresses, &length, &protocol, segment]),
        };
        // For UDP zero means that there is none; its other form is all ones.
        let sum = if sum == 0 { 0xffff } else { sum };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

impl Extension {
    /// Bytes of the header.
    pub fn length(&self) -> usize {
        match self {
            Extension::Units(_, length) => (*length as usize + 1) * 8,
            Extension::Authentication(length) => (*length as usize + 2) * 4,
            Extension::Fragment(_) => 8,
        }
    }

    fn protocol(&self) -> u8 {
        match self {
            Extension::Units(protocol, _) => *protocol,
            Extension::Authentication(_) => 51,
            Extension::Fragment(_) => 44,
        }
    }

    fn is_later_fragment(&self) -> bool {
        matches!(self, Extension::Fragment(field) if field & !7 != 0)
    }
}

impl Segment {
    fn protocol(&self, is_v6: bool) -> u8 {
        match self {
            Segment::Tcp { .. } => 6,
            Segment::Udp { .. } => 17,
            Segment::Icmp(..) => {
                if is_v6 {
                    58
                } else {
                    1
                }
            }
            Segment::Other(protocol, _) => *protocol,
        }
    }

    fn transport(&self) -> Transport {
        match self {
            Segment::Tcp { source, destination, flags, data, .. } => Transport::Tcp(Tcp {
                source_port: *source,
                destination_port: *destination,
                flags: *flags,
                has_payload: !data.is_empty(),
            }),
            Segment::Udp { source, destination, data } => Transport::Udp(Udp {
                source_port: *source,
                destination_port: *destination,
                quic_initial: match data[..] {
                    [first, 0, 0, 0, 1, ..] => first >> 4 == 0xc,
                    [first, 0x6b, 0x33, 0x43, 0xcf, ..] => first >> 4 == 0xd,
                    _ => false,
                },
            }),
            Segment::Icmp(..) | Segment::Other(..) => Transport::Other,
        }
    }

    fn bytes(&self, is_cut: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Segment::Tcp { source, destination, flags, options, data } => {
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, (5 + options) << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                // No-operations.
                bytes.resize(20 + 4 * *options as usize, 1);
                bytes.extend(data);
            }
            Segment::Udp { source, destination, data } => {
                let length = 8 + data.len() + if is_cut { 1000 } else { 0 };
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                bytes.extend((length as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(data);
            }
            Segment::Icmp(kind, code, rest) => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest);
            }
            Segment::Other(_, data) => bytes.extend(data),
        }
        bytes
    }
}

/// The Internet checksum (RFC 1071) over the parts, of which all but the last are of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}

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

const CLIENT4: u32 = 0xc000_0201;
const SERVER4: u32 = 0xc633_6401;
const CLIENT6: u128 = 0x2001_0db8_0000_0001_0000_0000_0000_0001;
const SERVER6: u128 = 0x2001_0db8_0000_0002_0000_0000_0000_0001;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

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

/// A frame made from the seed, the same for the same seed: about half are well-formed, the rest damaged.
pub fn random_frame(rng_seed: u64) -> Vec<u8> {
    let mut random = Random::new(rng_seed);
    let mut bytes = random_well_formed_from(&mut random).bytes();
    if random.below(2) == 0 {
        random_damage(&mut random, &mut bytes);
    }
    bytes
}

/// A well-formed frame made from the seed, the same for the same seed. Its addresses and ports come from a small
/// choice, so that rules and services can be made to meet them.
pub fn random_well_formed(rng_seed: u64) -> Frame {
    random_well_formed_from(&mut Random::new(rng_seed))
}

/// A generator of pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn port(&mut self) -> u16 {
        match self.below(4) {
            0 => self.next() as u16,
            _ => self.pick(&[22, 53, 80, 443, 8080, 40_000]),
        }
    }
}

fn random_network(random: &mut Random) -> Network {
    match random.below(16) {
        0 => Network::Other(random.pick(&[0x0806, 0x88cc, 0x8847, 0x8864, 38])),
        1..9 => Network::V4 {
            source: random.pick(&[0xc000_0200, 0xc633_6400, 0xcb00_7100]) | random.below(8) as u32,
            destination: SERVER4,
            options: if random.one_in(4) { 1 + random.below(10) as u8 } else { 0 },
            fragment: match random.below(8) {
                0 => V4_MORE_FRAGMENTS,
                1 => random.next() as u16 & 0x1fff,
                2 => V4_MORE_FRAGMENTS | random.next() as u16 & 0x1fff,
                3 => 0x4000,
                _ => 0,
            },
        },
        _ => {
            let count = if random.one_in(2) { random.below(9) } else { 0 };
            Network::V6 {
                source: CLIENT6 & !(7 << 64) | (random.below(8) as u128) << 64 | random.below(4) as u128,
                destination: SERVER6,
                hop_limit: random.pick(&[1, 64, 255]),
                extensions: (0..count).map(|_| random_extension(random)).collect(),
            }
        }
    }
}

fn random_extension(random: &mut Random) -> Extension {
    match random.below(8) {
        0 => Extension::Authentication(random.below(8) as u8),
        1 => Extension::Fragment(random.pick(&[0, V6_MORE_FRAGMENTS])),
        2 if random.one_in(4) => Extension::Fragment(random.next() as u16 & !6),
        _ => {
            let protocol = random.pick(&[HOP_BY_HOP, ROUTING, DESTINATION, MOBILITY, HIP, SHIM6]);
            Extension::Units(
                protocol,
                if random.one_in(8) { random.below(16) as u8 } else { random.below(2) as u8 },
            )
        }
    }
}

fn random_segment(random: &mut Random) -> Segment {
    let length = match random.below(8) {
        0..3 => 0,
        7 => random.below(600),
        _ => random.below(32),
    };
    let mut data = random.bytes(length);
    let (source, destination) = (random.port(), random.port());
    match random.below(12) {
        0..5 => Segment::Tcp {
            source,
            destination,
            flags: random.pick(&[
                Tcp::SYN,
                Tcp::SYN,
                Tcp::SYN | Tcp::ACK,
                Tcp::ACK,
                0x18,
                0x11,
                Tcp::RST,
                0,
                0xff,
            ]),
            options: random.pick(&[0, 0, 3, 5, 10]),
            data,
        },
        5..9 => {
            if random.one_in(3) {
                let header: &[u8] = random.pick(&[&[0xc0, 0, 0, 0, 1], &[0xd3, 0x6b, 0x33, 0x43, 0xcf]]);
                data.splice(0..0, header.iter().copied());
            }
            Segment::Udp { source, destination, data }
        }
        9 | 10 => {
            data.extend([0; 4]);
            Segment::Icmp(
                random.pick(&[0, 3, 8, 128, 133, 134, 135, 136, 137, 143]),
                random.pick(&[0, 0, 0, 1]),
                data,
            )
        }
        _ => Segment::Other(random.pick(&[2, 4, 41, 47, 50, 59, 89, 132, 253]), data),
    }
}

fn random_well_formed_from(random: &mut Random) -> Frame {
    let tags = match random.below(8) {
        0 => vec![VLAN],
        1 => vec![QINQ, VLAN],
        2 => vec![random.pick(&[VLAN, QINQ]), random.pick(&[VLAN, QINQ])],
        _ => vec![],
    };
    let mut frame =
        Frame { tags, network: random_network(random), segment: random_segment(random), padding: vec![] };
    if random.one_in(3) {
        let length = random.below(24);
        frame.padding = random.bytes(length);
    }
    frame
}

fn random_damage(random: &mut Random, bytes: &mut Vec<u8>) {
    match random.below(8) {
        0 | 1 => bytes.truncate(random.below(bytes.len() + 1)),
        2 => {
            let length = random.below(128);
            *bytes = random.bytes(length);
        }
        3 => {
            // Random bytes behind a type that makes them IP.
            let kind: u16 = random.pick(&[0x0800, 0x86dd, VLAN, QINQ]);
            let length = random.below(96);
            bytes.truncate(12);
            bytes.extend(kind.to_be_bytes());
            bytes.extend(random.bytes(length));
        }
        4 => {
            // An extreme where a length may be.
            let at = ETHERNET + random.below(bytes.len().saturating_sub(ETHERNET).clamp(1, 80));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
            }
        }
        5 => {
            let at = random.below(bytes.len());
            let inserted = random.bytes(4);
            bytes.splice(at..at, inserted);
        }
        _ => {
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len().min(96));
                bytes[at] ^= 1 << random.below(8);
            }
        }
    }
}
