//! Frames made from a seed.

use super::*;

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
