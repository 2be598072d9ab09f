//! Both ends of a TCP connection.

use crate::{ACK, Bench, FIN, FLOW, RST, SYN};
use shedder_common::ladder::Direction::{self, Egress, Ingress};
use shedder_common::walk::Protocol;
use std::cell::Cell;

/// A connection whose segments are delivered to a bench.
pub(crate) struct Connection<'a> {
    bench: &'a Bench,
    flow: u64,
    /// Sequence numbers behind what was sent: the peer's, and the host's.
    pub(crate) sent: [Cell<u32>; 2],
}

impl<'a> Connection<'a> {
    /// One that was open before anything was measured.
    pub(crate) fn unseen(bench: &'a Bench, flow: u64) -> Connection<'a> {
        // About to wrap.
        Connection { bench, flow, sent: [Cell::new(u32::MAX - 20), Cell::new(u32::MAX - 30)] }
    }

    /// One that is agreed to.
    pub(crate) fn open(bench: &'a Bench) -> Connection<'a> {
        let connection = Connection::unseen(bench, FLOW);
        connection.syn();
        connection.agree();
        connection
    }

    /// Delivers one segment as it is.
    pub(crate) fn deliver(&self, direction: Direction, sequence: u32, flags: u8, bytes: &[u8]) {
        let mut room = self.bench.room(Protocol::Tcp);
        room.packet.position.sequence = sequence;
        room.packet.position.acknowledgement = self.sent[1 - direction as usize].get();
        room.packet.transport.payload = bytes.len() as u32;
        room.packet.transport.flags = flags;
        self.bench.measure(direction, self.flow, &room, bytes);
    }

    /// The peer asks for it.
    pub(crate) fn syn(&self) {
        self.deliver(Ingress, self.sent[0].get().wrapping_sub(1), SYN, b"");
    }

    /// The host agrees.
    pub(crate) fn agree(&self) {
        self.deliver(Egress, self.sent[1].get().wrapping_sub(1), SYN | ACK, b"");
    }

    fn send(&self, direction: Direction, flags: u8, bytes: &[u8]) {
        let sent = &self.sent[direction as usize];
        self.deliver(direction, sent.get(), flags | ACK, bytes);
        sent.set(sent.get().wrapping_add(bytes.len() as u32 + u32::from(flags & FIN != 0)));
    }

    /// Data arrives.
    pub(crate) fn arrives(&self, bytes: &[u8]) {
        self.send(Ingress, 0, bytes);
    }

    /// Data leaves.
    pub(crate) fn leaves(&self, bytes: &[u8]) {
        self.send(Egress, 0, bytes);
    }

    /// One side has no more to say.
    pub(crate) fn ends(&self, direction: Direction) {
        self.send(direction, FIN, b"");
    }

    /// One side resets.
    pub(crate) fn resets(&self, direction: Direction) {
        self.send(direction, RST, b"");
    }
}
