//! Frames to judge: well-formed ones together with what a walk must find in them, damaged ones by name, and random
//! ones by seed.
//!
//! What a walk must find is derived from the description of a frame, never from its bytes, so that a walk is held
//! against something other than itself.

mod named;
mod random;

pub use named::{Named, named, named_frames};
pub use random::{random_frame, random_well_formed};

use crate::walk::{Address, Packet, Position, Protocol, Tcp, Transport, Walk};
use std::vec;
use std::vec::Vec;

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
        let (transport, position) = if self.is_later_fragment() {
            (Transport::OTHER, Position::default())
        } else {
            (self.segment.transport(), self.segment.position(self.transport_at() as u32))
        };
        Walk::Ip(Packet { source, destination, transport, position })
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
            Segment::Tcp { source, destination, flags, data, .. } => Transport {
                protocol: Protocol::Tcp,
                source_port: *source,
                destination_port: *destination,
                flags: *flags,
                payload: data.len() as u32,
                quic_initial: false,
            },
            Segment::Udp { source, destination, data } => Transport {
                protocol: Protocol::Udp,
                source_port: *source,
                destination_port: *destination,
                flags: 0,
                payload: 0,
                quic_initial: match data[..] {
                    [first, 0, 0, 0, 1, ..] => first >> 4 == 0xc,
                    [first, 0x6b, 0x33, 0x43, 0xcf, ..] => first >> 4 == 0xd,
                    _ => false,
                },
            },
            Segment::Icmp(..) | Segment::Other(..) => Transport::OTHER,
        }
    }

    /// Where the segment, which begins `at` bytes into the frame, is in its streams.
    fn position(&self, at: u32) -> Position {
        match self {
            Segment::Tcp { options, .. } => {
                Position { sequence: 1, acknowledgement: 1, payload_at: at + 20 + 4 * u32::from(*options) }
            }
            _ => Position::default(),
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
