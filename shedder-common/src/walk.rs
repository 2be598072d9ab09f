//! Walking a frame's headers, as far as a verdict needs.

use crate::hint::{cold, unlikely};
use crate::room::Room;

/// A place in a frame, from which bytes are read and which moves forward only.
pub trait Cursor: Copy {
    /// The `N` bytes that begin `at` bytes from here; none where the frame ends before.
    fn read<const N: usize>(self, at: usize) -> Option<[u8; N]>;
    /// The place `bytes` further on, which may be past the end.
    fn skip(self, bytes: usize) -> Self;
}

/// The frame on the host: a slice.
impl Cursor for &[u8] {
    fn read<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn skip(self, bytes: usize) -> Self {
        self.get(bytes..).unwrap_or(&[])
    }
}

/// An address: IPv4 in the lower half, IPv6 over both, in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// The upper 64 bits of an IPv6 address.
    pub high: u64,
    /// The lower 64 bits, or an IPv4 address.
    pub low: u64,
    /// Whether it is IPv6.
    pub is_v6: bool,
}

/// An IP packet, as far as it was walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Where it says that it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// Its transport header.
    pub transport: Transport,
    /// Where it is in its streams.
    pub position: Position,
}

/// A packet's transport header.
///
/// Everything is there for every packet, and not in variants that each have their own: those the compiler keeps packed in one
/// word, which it takes apart wherever it is asked. And nothing is told by a flag that a number tells: of a number the verifier
/// knows nothing, where it follows all the rest twice, with a flag and without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Which one it is.
    pub protocol: Protocol,
    /// Port at the source; 0 in what is neither TCP nor UDP.
    pub source_port: u16,
    /// Port at the destination; 0 in what is neither TCP nor UDP.
    pub destination_port: u16,
    /// TCP's flags, from FIN (1) to CWR (128); 0 in what is not TCP.
    pub flags: u8,
    /// How many bytes are behind TCP's header; 0 in what is not TCP.
    pub payload: u32,
    /// Whether it is a QUIC Initial (RFC 9000, RFC 9369), which opens a connection.
    pub quic_initial: bool,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP, one that is not walked, or a non-first fragment: no ports.
    #[default]
    Other,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a TCP segment is in its streams; all zero in what is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The number of the first byte behind the header, or of a SYN.
    pub sequence: u32,
    /// The number of the byte that the sender expects next, where ACK is set.
    pub acknowledgement: u32,
    /// Where the bytes behind the header begin in the frame.
    pub payload_at: u32,
}

/// TCP's flags.
#[derive(Clone, Copy, Debug)]
pub enum Tcp {}

impl Tcp {
    /// Bit of FIN in the flags.
    pub const FIN: u8 = 1;
    /// Bit of SYN in the flags.
    pub const SYN: u8 = 2;
    /// Bit of RST in the flags.
    pub const RST: u8 = 4;
    /// Bit of ACK in the flags.
    pub const ACK: u8 = 16;
}

impl Transport {
    /// What has no ports.
    pub const OTHER: Transport = Transport {
        protocol: Protocol::Other,
        source_port: 0,
        destination_port: 0,
        flags: 0,
        payload: 0,
        quic_initial: false,
    };

    /// Whether it is TCP.
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        matches!(self.protocol, Protocol::Tcp)
    }

    /// Ports at the source and at the destination, where there are any.
    #[inline(always)]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.protocol {
            Protocol::Other => None,
            _ => Some((self.source_port, self.destination_port)),
        }
    }

    /// Whether it is of TCP and does anything but acknowledge: it carries data, or opens, closes or resets a connection.
    #[inline(always)]
    pub const fn acts(&self) -> bool {
        self.payload != 0 || self.flags & (Tcp::SYN | Tcp::FIN | Tcp::RST) != 0
    }

    /// Whether it is of TCP and asks for a new connection.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN
    }

    /// Whether it is of TCP and carries data inside an established connection. A host sends such a segment only to a peer that
    /// has acknowledged this host's own sequence number, which a spoofed source cannot.
    #[inline(always)]
    pub const fn answers(&self) -> bool {
        self.flags & (Tcp::SYN | Tcp::ACK | Tcp::RST) == Tcp::ACK && self.payload != 0
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Not IP, or IPv6 neighbour discovery, without which IPv6 has no link layer.
    NotIp,
    /// It cannot be walked inside its bounds.
    Malformed,
    /// An IP packet.
    Ip(Packet),
}

const ETHERNET: usize = 14;
const TAG: usize = 4;
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are walked, and their bytes. More than these nobody sends (RFC 8504, 5.3).
const MAX_EXTENSIONS: usize = 8;
const MAX_EXTENSION_BYTES: usize = 2048;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// What no packet names (IANA reserves it): of a fragment that is not the first.
const NOTHING: u8 = 255;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

#[inline(always)]
fn be16<C: Cursor>(at: C, offset: usize) -> Option<u16> {
    at.read(offset).map(u16::from_be_bytes)
}

#[inline(always)]
fn be32<C: Cursor>(at: C, offset: usize) -> Option<u32> {
    at.read(offset).map(u32::from_be_bytes)
}

#[inline(always)]
fn be64<C: Cursor>(at: C, offset: usize) -> Option<u64> {
    at.read(offset).map(u64::from_be_bytes)
}

#[inline(always)]
fn byte<C: Cursor>(at: C, offset: usize) -> Option<u8> {
    at.read::<1>(offset).map(|[byte]| byte)
}

/// How long a frame is at least that is plain IPv4, by its header; 0: the header does not say. None: it is no such frame, or ends
/// before it can tell.
#[inline(always)]
pub fn claimed_by_ipv4<C: Cursor>(frame: C) -> Option<usize> {
    let (total, kind) = (be16(frame, ETHERNET + 2)?, be16(frame, ETHERNET - 2)?);
    if kind != IPV4 {
        None
    } else if total == 0 {
        Some(0)
    } else {
        Some(ETHERNET + total as usize)
    }
}

/// Walks the frame, which is `length` bytes long in all.
pub fn walk<C: Cursor>(frame: C, length: usize) -> Walk {
    let mut room = Room::default();
    match walk_into(frame, |_| length, &mut room, true) {
        Walked::Ip => Walk::Ip(room.packet),
        Walked::NotIp => Walk::NotIp,
        Walked::Malformed => Walk::Malformed,
    }
}

/// What [`walk_into`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// As [`Walk::NotIp`].
    NotIp,
    /// As [`Walk::Malformed`].
    Malformed,
    /// A packet.
    Ip,
}

/// Walks the frame, and writes what it finds into `room`: its length, and the packet. Of that is left as it was what it has no use
/// for (the upper half of an IPv4 address, TCP's flags in UDP), and the position unless `with_position` asks for it.
///
/// `measure` tells the length, and is itself told what a plain IPv4 frame claims to have at least, from its first byte on; 0:
/// nothing.
#[inline(always)]
pub fn walk_into<C: Cursor>(
    frame: C,
    measure: impl Fn(usize) -> usize,
    room: &mut Room,
    with_position: bool,
) -> Walked {
    let walked = if let Some(claimed) = claimed_by_ipv4(frame) {
        // Most frames. By itself, so that every place in the header is a constant.
        room.length = measure(claimed);
        walk_ipv4(frame.skip(ETHERNET), room.length.wrapping_sub(ETHERNET), ETHERNET, room, with_position)
    } else {
        cold();
        room.length = measure(0);
        walk_ethernet(frame, room, with_position)
    };
    walked.unwrap_or(Walked::Malformed)
}

#[inline(always)]
fn walk_ethernet<C: Cursor>(frame: C, room: &mut Room, with_position: bool) -> Option<Walked> {
    let mut kind = be16(frame, ETHERNET - 2)?;
    let mut at = frame.skip(ETHERNET);
    let length = room.length;
    let mut left = length.checked_sub(ETHERNET)?;
    let mut tags = 0;
    while kind == VLAN || kind == QINQ {
        if tags == MAX_TAGS {
            return None;
        }
        kind = be16(at, 2)?;
        at = at.skip(TAG);
        left = left.checked_sub(TAG)?;
        tags += 1;
    }
    match kind {
        IPV4 => walk_ipv4(at, left, length - left, room, with_position),
        IPV6 => walk_ipv6(at, left, length - left, room, with_position),
        _ => Some(Walked::NotIp),
    }
}

/// What is left of the packet behind the length that its header gives: `claimed`, which must lie inside the frame. A
/// stack that merges segments writes 0 where the sum is past 16 bits.
#[inline(always)]
fn bounded(claimed: usize, left: usize) -> Option<usize> {
    if claimed == 0 && left > u16::MAX as usize {
        Some(left)
    } else if claimed <= left {
        Some(claimed)
    } else {
        None
    }
}

/// Walks the packet that begins at `at`, `from` bytes into the frame, with `left` bytes of it behind.
#[inline(always)]
fn walk_ipv4<C: Cursor>(
    at: C,
    left: usize,
    from: usize,
    room: &mut Room,
    with_position: bool,
) -> Option<Walked> {
    let first = byte(at, 0)?;
    if first == 0x45 {
        // Without options, as nearly all are: what is behind the header is at a constant place.
        return walk_behind_ipv4(at, 20, left, from, room, with_position);
    }
    cold();
    let header_length = (first & 0xf) as usize * 4;
    if first >> 4 != 4 || header_length < 20 {
        return None;
    }
    walk_behind_ipv4(at, header_length, left, from, room, with_position)
}

/// Walks the packet whose header is so long.
#[inline(always)]
fn walk_behind_ipv4<C: Cursor>(
    at: C,
    header_length: usize,
    left: usize,
    from: usize,
    room: &mut Room,
    with_position: bool,
) -> Option<Walked> {
    let header: [u8; 20] = at.read(0)?;
    let total = bounded(u16::from_be_bytes([header[2], header[3]]) as usize, left)?;
    let payload = total.checked_sub(header_length)?;
    if header_length > 20 {
        // The options must be there, though nothing here reads them.
        byte(at.skip(header_length - 1), 0)?;
    }
    // As a number that is read whole: of bytes of which each is asked for something the compiler reads each.
    let [.., fragment]: [u16; 4] = bytemuck::cast(at.read::<8>(0)?);
    let fragment = u16::from_be(fragment);
    let address =
        |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as u64;
    let Packet { source, destination, .. } = &mut room.packet;
    (source.low, source.is_v6) = (address(12), false);
    (destination.low, destination.is_v6) = (address(16), false);
    let protocol = if unlikely(fragment & 0x1fff != 0) { NOTHING } else { header[9] };
    let from = from + header_length;
    // More fragments follow: behind what is here there may be as much as a datagram has.
    let more = ((fragment & 0x2000) as usize) << 3;
    walk_transport(at.skip(header_length), protocol, (payload, more), from, &mut room.packet, with_position)
}

/// As [`walk_ipv4`].
#[inline(always)]
fn walk_ipv6<C: Cursor>(
    at: C,
    left: usize,
    from: usize,
    room: &mut Room,
    with_position: bool,
) -> Option<Walked> {
    if be32(at, 0)? >> 28 != 6 {
        return None;
    }
    let mut payload = bounded(be16(at, 4)? as usize, left.checked_sub(40)?)?;
    let mut next = byte(at, 6)?;
    let hop_limit = byte(at, 7)?;
    let source = Address { high: be64(at, 8)?, low: be64(at, 16)?, is_v6: true };
    let destination = Address { high: be64(at, 24)?, low: be64(at, 32)?, is_v6: true };
    let behind = at.skip(40);
    // Every such message has eight bytes or more (RFC 4861, 4); what has fewer is malformed below.
    if next == ICMPV6
        && hop_limit == 255
        && payload >= 8
        && matches!(be64(behind, 0)? >> 48, 0x8500 | 0x8600 | 0x8700 | 0x8800 | 0x8900)
    {
        return Some(Walked::NotIp);
    }
    (room.packet.source, room.packet.destination) = (source, destination);
    // Kept as one bounded number, from which each place is found anew: the verifier sees the same state however many
    // headers there were.
    let mut walked = 0;
    let mut more = 0;
    let mut extensions = 0;
    while matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
    ) {
        if extensions == MAX_EXTENSIONS {
            return None;
        }
        let [after, length, high, low]: [u8; 4] = behind.skip(walked).read(0)?;
        let length = match next {
            FRAGMENT => {
                let fragment = u16::from_be_bytes([high, low]);
                if fragment & 0xfff8 != 0 {
                    byte(behind.skip(walked), 7)?;
                    payload.checked_sub(8)?;
                    room.packet.transport = Transport::OTHER;
                    return Some(Walked::Ip);
                }
                more |= ((fragment & 1) as usize) << 16;
                8
            }
            AUTHENTICATION => (length as usize + 2) * 4,
            _ => (length as usize + 1) * 8,
        };
        payload = payload.checked_sub(length)?;
        walked += length;
        if walked > MAX_EXTENSION_BYTES {
            return None;
        }
        next = after;
        extensions += 1;
    }
    if walked > 0 {
        // The last header must be there to its end, though nothing here reads it.
        byte(behind.skip(walked - 1), 0)?;
    }
    let (at, from) = (behind.skip(walked), from + 40 + walked);
    walk_transport(at, next, (payload, more), from, &mut room.packet, with_position)
}

/// Walks the transport header, `from` bytes into the frame, of a packet with `payload` bytes behind its IP headers.
#[inline(always)]
fn walk_transport<C: Cursor>(
    at: C,
    protocol: u8,
    (payload, more): (usize, usize),
    from: usize,
    packet: &mut Packet,
    with_position: bool,
) -> Option<Walked> {
    let transport = &mut packet.transport;
    match protocol {
        TCP => {
            let header: [u8; 20] = at.read(0)?;
            let length = (header[12] >> 4) as usize * 4;
            if length < 20 || length > payload {
                return None;
            }
            transport.protocol = Protocol::Tcp;
            transport.source_port = u16::from_be_bytes([header[0], header[1]]);
            transport.destination_port = u16::from_be_bytes([header[2], header[3]]);
            transport.flags = header[13];
            transport.payload = (payload - length) as u32;
            if with_position {
                packet.position = Position {
                    sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                    acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
                    payload_at: (from + length) as u32,
                };
            }
        }
        UDP => {
            let header: [u8; 8] = at.read(0)?;
            let length = u16::from_be_bytes([header[4], header[5]]) as usize;
            // The first fragment of a datagram carries the length of the whole.
            if payload < 8 || length < 8 || length > payload | more {
                return None;
            }
            transport.protocol = Protocol::Udp;
            transport.source_port = u16::from_be_bytes([header[0], header[1]]);
            transport.destination_port = u16::from_be_bytes([header[2], header[3]]);
            // The first fragment may be too short for what its length promises.
            transport.quic_initial = length >= 13 && payload >= 13 && is_quic_initial(at.skip(8));
        }
        other => {
            if matches!(other, ICMP | ICMPV6) {
                at.read::<8>(0)?;
                payload.checked_sub(8)?;
            }
            *transport = Transport::OTHER;
        }
    }
    Some(Walked::Ip)
}

/// Whether a datagram's payload begins as a QUIC Initial does: a long header with the fixed bit, of a known version,
/// of that version's type for Initial.
#[inline(always)]
fn is_quic_initial<C: Cursor>(payload: C) -> bool {
    match payload.read::<5>(0) {
        // Most datagrams begin otherwise.
        Some([first, ..]) if first & 0xc0 != 0xc0 => false,
        Some([first, version @ ..]) => match u32::from_be_bytes(version) {
            1 => first & 0xf0 == 0xc0,
            0x6b33_43cf => first & 0xf0 == 0xd0,
            _ => false,
        },
        None => false,
    }
}
