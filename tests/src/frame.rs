//! Well-formed Ethernet frames.

use std::net::{IpAddr, SocketAddr};

/// Hardware addresses of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Where it comes from.
    pub source: [u8; 6],
    /// Where it goes.
    pub destination: [u8; 6],
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A UDP datagram with `payload`.
///
/// # Panics
/// Where one address is IPv4 and the other IPv6, or the payload does not fit a datagram.
pub fn udp(ethernet: Ethernet, source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("fits a datagram");
    let mut segment = ports(source, destination);
    segment.extend(length.to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    // A sum of zero is sent as its other form: zero means that there is none.
    let sum = match transport_sum(source.ip(), destination.ip(), UDP, &segment) {
        0 => 0xffff,
        sum => sum,
    };
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    packet(ethernet, source.ip(), destination.ip(), UDP, &segment)
}

/// A TCP SYN without options.
///
/// # Panics
/// Where one address is IPv4 and the other IPv6.
pub fn tcp_syn(ethernet: Ethernet, source: SocketAddr, destination: SocketAddr, sequence: u32) -> Vec<u8> {
    const SYN: u8 = 0x02;
    tcp(ethernet, source, destination, (sequence, 0), SYN, &[])
}

/// A TCP segment of an established connection, with `payload`; its numbers are its own and the acknowledged one.
///
/// # Panics
/// Where one address is IPv4 and the other IPv6, or the payload does not fit a packet.
pub fn tcp_data(
    ethernet: Ethernet,
    source: SocketAddr,
    destination: SocketAddr,
    numbers: (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    const PSH_ACK: u8 = 0x18;
    tcp(ethernet, source, destination, numbers, PSH_ACK, payload)
}

fn tcp(
    ethernet: Ethernet,
    source: SocketAddr,
    destination: SocketAddr,
    (sequence, acknowledged): (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    const WORDS: u8 = 5;
    let mut segment = ports(source, destination);
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([WORDS << 4, flags]);
    segment.extend(u16::MAX.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(payload);
    let sum = transport_sum(source.ip(), destination.ip(), TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(ethernet, source.ip(), destination.ip(), TCP, &segment)
}

/// The frame in a VLAN: with an 802.1Q tag, outside those that it has.
pub fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    const BEHIND_ADDRESSES: usize = 12;
    const TAG: [u8; 4] = [0x81, 0x00, 0, 42];
    frame.splice(BEHIND_ADDRESSES..BEHIND_ADDRESSES, TAG);
    frame
}

/// The untagged IPv4 frame as a fragment behind the first: what was its transport header is data now.
///
/// # Panics
/// Where it is no untagged IPv4 frame.
pub fn later_fragment(mut frame: Vec<u8>) -> Vec<u8> {
    const IP: usize = 14;
    const OFFSET: u16 = 185;
    assert_eq!((frame[IP - 2], frame[IP - 1], frame[IP]), (0x08, 0x00, 0x45), "an untagged IPv4 frame");
    frame[IP + 6..IP + 8].copy_from_slice(&OFFSET.to_be_bytes());
    frame[IP + 10..IP + 12].fill(0);
    let sum = finish(sum(&frame[IP..IP + 20]));
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn ports(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat()
}

/// Ethernet and IP around `segment`.
fn packet(ethernet: Ethernet, source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    const HOPS: u8 = 64;
    let mut frame = [ethernet.destination, ethernet.source].concat();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = u16::try_from(20 + segment.len()).expect("fits a packet");
            let mut header = vec![0x45, 0];
            header.extend(length.to_be_bytes());
            header.extend([0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = finish(sum(&header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([0x08, 0x00]);
            frame.extend(header);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(segment.len()).expect("fits a packet");
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, HOPS]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => panic!("{source} and {destination} are not of one family"),
    }
    frame.extend(segment);
    frame
}

/// The checksum of a TCP or UDP segment whose own field is zero, with its pseudo-header.
fn transport_sum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let address = |address| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    let pseudo = address(source) + address(destination) + u64::from(protocol) + segment.len() as u64;
    finish(pseudo + sum(segment))
}

/// The sum of 16-bit words, the last padded with zero (RFC 1071), not folded yet.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}

/// Folds the carries in, and inverts.
fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETHERNET: Ethernet = Ethernet { source: [2, 0, 0, 0, 0, 1], destination: [2, 0, 0, 0, 0, 2] };

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A header that holds its own checksum sums up to all ones.
    #[test]
    fn sums_verify() {
        for (source, destination, head) in
            [("10.0.0.1:7", "10.0.0.2:9", 20), ("[fd00::1]:7", "[fd00::2]:9", 40)]
        {
            let (source, destination) = (socket(source), socket(destination));
            let udp = udp(ETHERNET, source, destination, b"odd");
            let tcp = tcp_syn(ETHERNET, source, destination, 0xdead_beef);
            let data = tcp_data(ETHERNET, source, destination, (7, 9), b"odd");
            for (frame, protocol) in [(&udp, UDP), (&tcp, TCP), (&data, TCP)] {
                if source.is_ipv4() {
                    assert_eq!(finish(sum(&frame[14..34])), 0);
                }
                let segment = &frame[14 + head..];
                assert_eq!(transport_sum(source.ip(), destination.ip(), protocol, segment), 0);
            }
        }
    }

    /// The example of RFC 1071, section 3.
    #[test]
    fn sums_match_the_standard() {
        assert_eq!(finish(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }
}
