//! Frames as the generator makes them.

use crate::programs::plan::{HEADER, Plan};
use serde::Serialize;
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::netns::Link;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// How frames are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Layout {
    V4,
    V6,
    Tagged,
}

/// What frames of a flood look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    pub(crate) layout: Layout,
    /// Bytes of a frame, from the Ethernet header on: at least [`HEADER`].
    pub(crate) length: usize,
    /// How many sources there are, chosen at random for each frame.
    pub(crate) sources: u32,
}

/// Sources that are anybody's: every address of 32.0.0.0/3.
pub(crate) const SPOOFED: u32 = 1 << 29;

/// The first source: none of the networks that stand in examples lie behind it.
pub(crate) const FIRST: u32 = 32 << 24;

impl Shape {
    /// What is varied is varied from this.
    pub(crate) const BASE: Shape = Shape { layout: Layout::V4, length: HEADER, sources: 1000 };

    /// A frame to the server of this link, and how to make more of its kind.
    pub(crate) fn frame(&self, link: &Link) -> (Vec<u8>, Plan) {
        let ethernet = Ethernet { source: link.client_mac(), destination: link.server_mac() };
        // Discard: nobody listens there.
        const PORT: u16 = 9;
        const FROM: u16 = 40_000;
        let (source, destination): (SocketAddr, SocketAddr) = match self.layout {
            Layout::V4 | Layout::Tagged => {
                ((Ipv4Addr::UNSPECIFIED, FROM).into(), (link.server_v4(), PORT).into())
            }
            Layout::V6 => {
                let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
                ((source, FROM).into(), (link.server_v6(), PORT).into())
            }
        };
        let headers = match self.layout {
            Layout::V4 => 42,
            Layout::V6 => 62,
            Layout::Tagged => 46,
        };
        let mut frame = frame::udp(ethernet, source, destination, &vec![0; self.length - headers]);
        if self.layout == Layout::Tagged {
            frame = frame::tagged(frame);
        }
        let (layout, check, sum) = match self.layout {
            Layout::V4 => (Plan::V4, 24, sum(&frame[14..24]) + sum(&frame[26..34])),
            Layout::Tagged => (Plan::TAGGED, 28, sum(&frame[18..28]) + sum(&frame[30..38])),
            Layout::V6 => {
                // The pseudo-header: addresses, length and protocol; then the segment.
                let length = u64::from(u16::from_be_bytes([frame[58], frame[59]]));
                (Plan::V6, 60, sum(&frame[22..60]) + sum(&frame[62..]) + length + 17)
            }
        };
        frame[check..check + 2].fill(0);
        if self.layout != Layout::V6 {
            // Over IPv4 a UDP checksum may be left out.
            frame[headers - 2..headers].fill(0);
        }
        let mut header = [0; HEADER / 8];
        for (word, bytes) in header.iter_mut().zip(frame.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        }
        let plan =
            Plan { header, layout, sources: self.sources, first: self.first(), sum, ..Plan::default() };
        (frame, plan)
    }

    /// The 32 bits of the first source that are varied.
    fn first(&self) -> u32 {
        if self.layout == Layout::V6 { 0 } else { FIRST }
    }
}

/// The sum of 16-bit words (RFC 1071), not folded.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum()
}
