//! What is measured of flows: case by case, and against a plain model of a connection that is delivered piece by piece.

mod cases;
mod connection;
mod place;
mod streams;

use shedder_common::abi::{EXCHANGES, Exchange, FLOW_SETS, Measured, Policy, PortEntry};
use shedder_common::flows::{Outstanding, Segment, outstanding};
use shedder_common::histogram::bucket;
use shedder_common::host::Host;
use shedder_common::ladder::Direction;
use shedder_common::room::Room;
use shedder_common::walk::{Protocol, Tcp};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const SLOT: usize = 3;
const FLOW: u64 = 0x1234_5678_9abc_def0;

const FIN: u8 = Tcp::FIN;
const SYN: u8 = Tcp::SYN;
const RST: u8 = Tcp::RST;
const ACK: u8 = Tcp::ACK;

/// A host of which one service is measured.
struct Bench {
    host: Host,
    since_last_byte: bool,
}

impl Bench {
    fn new() -> Bench {
        let mut policy: Policy = bytemuck::Zeroable::zeroed();
        policy.offered_none = 8;
        Bench { host: Host::new(policy), since_last_byte: false }
    }

    fn now(&self) -> u64 {
        self.host.now.get()
    }

    fn wait(&self, time: u64) {
        self.host.now.set(self.now() + time);
    }

    fn measure(&self, direction: Direction, flow: u64, room: &Room, bytes: &[u8]) {
        self.host.measure(direction, &Segment { flow, room }, bytes);
    }

    /// What is known of a packet that carries nothing.
    fn room(&self, protocol: Protocol) -> Room {
        let mut room = Room { now: self.now(), ..Room::default() };
        room.measured = PortEntry::new(SLOT as u8, 2, false).measured(self.since_last_byte);
        room.packet.transport.protocol = protocol;
        room
    }

    /// A datagram of one flow.
    fn datagram(&self, direction: Direction) {
        self.measure(direction, FLOW, &self.room(Protocol::Udp), b"");
    }

    /// What was measured.
    fn measured(&self) -> Measured {
        self.host.measured.borrow()[SLOT]
    }

    fn count(&self, exchange: Exchange) -> u32 {
        self.measured().exchanges[exchange as usize]
    }

    /// Everything that waits.
    fn outstanding(&self) -> Vec<Outstanding> {
        let mut all = Vec::new();
        for set in 0..FLOW_SETS {
            let (keys, flows) = self.host.flow_set(set);
            outstanding(keys, flows, self.now(), |one| all.push(one));
        }
        all
    }

    /// How many requests wait.
    fn waiting(&self) -> u32 {
        self.outstanding().iter().map(|one| one.count).sum()
    }

    /// That exactly these times were measured of answers and of what was abandoned, and this happened.
    #[track_caller]
    fn expect(&self, answered: &[u64], abandoned: &[u64], exchanges: &[(Exchange, u32)]) {
        let measured = self.measured();
        assert_eq!(times(&measured.answered), buckets(answered), "answered");
        assert_eq!(times(&measured.abandoned), buckets(abandoned), "abandoned");
        let mut expected = [0; EXCHANGES];
        exchanges.iter().for_each(|&(what, count)| expected[what as usize] = count);
        assert_eq!(measured.exchanges, expected, "exchanges");
    }
}

/// The buckets of these times, in ascending order.
fn buckets(times: &[u64]) -> Vec<usize> {
    let mut buckets: Vec<usize> = times.iter().map(|&time| bucket(time)).collect();
    buckets.sort_unstable();
    buckets
}

/// Each bucket as often as it was counted.
fn times(counts: &[u32]) -> Vec<usize> {
    let counted = counts.iter().enumerate();
    counted.flat_map(|(bucket, &count)| std::iter::repeat_n(bucket, count as usize)).collect()
}
