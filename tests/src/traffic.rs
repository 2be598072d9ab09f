//! Datagrams from one host of a network to the other, and what arrives of them.

use crate::flood::{Arrivals, Plan, Receiver, Sender, now};
use crate::frame::{Ethernet, udp};
use crate::netns::{Link, Namespace, Network};
use crate::wait::until;
use anyhow::Result;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Traffic under way. Dropped, it ends.
#[derive(Debug)]
pub struct Traffic {
    plan: Plan,
    /// None while it is paused.
    sender: Option<Sender>,
    /// Offered by senders before this one.
    offered_before: u64,
    receiver: Receiver,
}

/// No traffic goes on for longer.
const LONGEST: Duration = Duration::from_secs(300);

/// As many datagrams tell whether they pass.
const ENOUGH: u64 = 200;

impl Traffic {
    /// From the client's `sources`, in turn, to the server's addresses of the same families; `rate` a second.
    pub fn inward(
        network: &Network,
        link: &Link,
        sources: &[IpAddr],
        port: u16,
        rate: u64,
    ) -> Result<Traffic> {
        let ethernet = Ethernet { source: link.client_mac(), destination: link.server_mac() };
        let frames = sources.iter().map(|&source| {
            let server = match source {
                IpAddr::V4(_) => link.server_v4().into(),
                IpAddr::V6(_) => link.server_v6().into(),
            };
            udp(ethernet, SocketAddr::new(source, port), SocketAddr::new(server, port), b"inward")
        });
        // Before the sender: else the server would answer that nobody listens.
        let receiver = Receiver::start(&network.server, everywhere(port))?;
        Traffic::start(&network.client, plan(link, frames.collect(), rate, 0), receiver)
    }

    /// From the client's own addresses of both families, in turn.
    pub fn inward_of_both_families(network: &Network, link: &Link, port: u16, rate: u64) -> Result<Traffic> {
        Traffic::inward(network, link, &[link.client_v4().into(), link.client_v6().into()], port, rate)
    }

    /// From the server's addresses of both families, in turn, to the client's own; `rate` a second.
    pub fn outward_of_both_families(network: &Network, link: &Link, port: u16, rate: u64) -> Result<Traffic> {
        let ethernet = Ethernet { source: link.server_mac(), destination: link.client_mac() };
        let pairs: [(IpAddr, IpAddr); 2] = [
            (link.server_v4().into(), link.client_v4().into()),
            (link.server_v6().into(), link.client_v6().into()),
        ];
        let frames = pairs.map(|(server, client)| {
            udp(ethernet, SocketAddr::new(server, port), SocketAddr::new(client, port), b"outward")
        });
        let receiver = Receiver::start(&network.client, everywhere(port))?;
        Traffic::start(&network.server, plan(link, frames.to_vec(), rate, 1), receiver)
    }

    fn start(host: &Namespace, plan: Plan, receiver: Receiver) -> Result<Traffic> {
        let sender = Some(Sender::start(host, plan.clone())?);
        Ok(Traffic { plan, sender, offered_before: 0, receiver })
    }

    /// Sends no more until it is resumed, and has nothing on its way when this returns. Where the interface was deleted,
    /// that has ended it already.
    pub fn pause(&mut self) {
        if let Some(mut sender) = self.sender.take() {
            let _ = sender.end();
            self.offered_before += sender.offered();
        }
    }

    /// Sends again, from `host`, which is the one that sent before.
    pub fn resume(&mut self, host: &Namespace) -> Result<()> {
        self.pause();
        self.sender = Some(Sender::start(host, self.plan.clone())?);
        Ok(())
    }

    /// Datagrams that were given to the kernel so far, those included that it would not take.
    pub fn offered(&self) -> u64 {
        self.offered_before + self.sender.as_ref().map_or(0, Sender::offered)
    }

    /// Waits until some more have been offered.
    ///
    /// # Panics
    /// Where the sender stands still.
    pub fn offer_more(&self) {
        let goal = self.offered() + ENOUGH;
        until("more datagrams to be sent", || self.offered() >= goal);
    }

    /// What arrived so far.
    pub fn arrivals(&self) -> Arrivals {
        self.receiver.arrivals()
    }

    /// Waits until some more have arrived.
    ///
    /// # Panics
    /// Where none do.
    pub fn arrive_more(&self) {
        let goal = self.receiver.total() + ENOUGH;
        until("more datagrams to arrive", || self.receiver.total() >= goal);
    }

    /// How many have arrived since `start`, of enough that were offered meanwhile to tell.
    ///
    /// # Panics
    /// Where datagrams found the receiver's buffer full: when those arrived is not known.
    pub fn arrived_since(&self, start: Duration) -> usize {
        self.offer_more();
        // What has arrived is in the receiver's socket already; it is given the time to take it.
        let mut seen = self.receiver.total();
        until("the receiver to be done", || {
            std::thread::sleep(Duration::from_millis(5));
            let total = self.receiver.total();
            std::mem::replace(&mut seen, total) == total || self.arrivals().first_since(start).is_some()
        });
        let arrivals = self.arrivals();
        assert_eq!(arrivals.overflowed, 0, "the receiver's buffer is too small for this traffic");
        arrivals.between(start, now())
    }

    /// Ends it, waits for what is under way, and returns how many the kernel took since it was last resumed, and what
    /// arrived of all.
    pub fn finish(mut self) -> Result<(u64, Arrivals)> {
        let sent = self.sender.take().map_or(Ok(0), Sender::stop)?;
        let mut seen = self.receiver.total();
        until("the receiver to be done", || {
            std::thread::sleep(Duration::from_millis(20));
            let total = self.receiver.total();
            std::mem::replace(&mut seen, total) == total
        });
        Ok((sent, self.receiver.finish()?))
    }

    /// When the last that has arrived did so.
    pub fn last(&self) -> Option<Duration> {
        self.arrivals().times.last().copied()
    }
}

/// Both families.
fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

/// The two directions send from different CPUs where there are two.
fn plan(link: &Link, frames: Vec<Vec<u8>>, rate: u64, cpu: usize) -> Plan {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Plan { interface: link.interface.clone(), frames, rate, duration: LONGEST, cpu: Some(cpu % cpus) }
}
