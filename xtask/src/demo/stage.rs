//! The acts, as they are played.

use super::daemon::{Daemon, Ran};
use super::metrics::{Sample, Scraper};
use super::scene::{PATIENCE, Scene};
use super::timeline::Timeline;
use super::view::{Moment, View};
use anyhow::Result;
use shedder_tests::flood::{self, Arrivals, Receiver, Sender};
use shedder_tests::frame::{Ethernet, udp};
use shedder_tests::interrupt;
use shedder_tests::load::Load;
use shedder_tests::netns::Namespace;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// Between two pictures of the live view.
const TICK: Duration = Duration::from_millis(250);

/// From the call for load until its first request: setting up takes a moment.
const CURTAIN: Duration = Duration::from_millis(50);

/// How long the parts of an act are.
pub(super) struct Times {
    /// Before the overload.
    pub(super) before: Duration,
    /// The overload.
    pub(super) overload: Duration,
    /// After it.
    pub(super) after: Duration,
}

/// When an act was played, after the demo's start.
#[derive(Clone, Debug)]
pub(super) struct Act {
    /// All of it.
    pub(super) when: Range<Duration>,
    /// The overload in it.
    pub(super) overload: Range<Duration>,
    /// By how much the most belated request left after its time.
    pub(super) lateness: Duration,
}

/// The kill and what it stopped.
pub(super) struct Kill {
    /// All of the act, after the demo's start.
    pub(super) when: Range<Duration>,
    /// From the kill's start to the resume's, after the demo's start.
    pub(super) killed: Range<Duration>,
    pub(super) kill: Ran,
    pub(super) resume: Ran,
    /// Datagrams a second in each direction.
    pub(super) rate: u64,
    /// What arrived at the server.
    pub(super) inbound: Arrivals,
    /// What the server sent that arrived at the client.
    pub(super) outbound: Arrivals,
}

/// All that the acts share.
pub(super) struct Stage<'a> {
    pub(super) scene: &'a Scene,
    pub(super) view: View,
    pub(super) timeline: Timeline,
}

impl Stage<'_> {
    /// The legitimate clients, and for a while the overload.
    pub(super) fn overload(&mut self, title: &str, times: &Times, scraper: Option<&Scraper>) -> Result<Act> {
        let start = self.scene.now() + CURTAIN;
        let overload = start + times.before..start + times.before + times.overload;
        let when = start..overload.end + times.after;
        let load = self.scene.start_load(&when, Some(&overload))?;
        self.view.begin(title);
        self.watch(&load, scraper, "no overload yet", overload.start)?;
        self.watch(&load, scraper, "overload", overload.end)?;
        self.watch(&load, scraper, "overload has ended", when.end)?;
        let lateness = load.lateness();
        self.end(&load, scraper)?;
        Ok(Act { when, overload, lateness })
    }

    /// The legitimate clients and datagrams in both directions, a kill, and a resume.
    pub(super) fn kill(&mut self, title: &str, daemon: &Daemon, scraper: &Scraper) -> Result<Kill> {
        const BEFORE: Duration = Duration::from_millis(2000);
        const KILLED: Duration = Duration::from_millis(3000);
        const AFTER: Duration = Duration::from_millis(3000);
        let start = self.scene.now() + CURTAIN;
        let when = start..start + BEFORE + KILLED + AFTER;
        let load = self.scene.start_load(&when, None)?;
        let network = &self.scene.network;
        let link = network.link();
        let (server, client) = (IpAddr::from(link.server_v4()), IpAddr::from(link.client_v4()));
        let inbound = Datagrams::start(
            &network.client,
            &network.server,
            Ethernet { source: link.client_mac(), destination: link.server_mac() },
            (client, server),
            (&link.interface, BEFORE + KILLED + AFTER),
        )?;
        let outbound = Datagrams::start(
            &network.server,
            &network.client,
            Ethernet { source: link.server_mac(), destination: link.client_mac() },
            (server, client),
            (&link.interface, BEFORE + KILLED + AFTER),
        )?;
        self.view.begin(title);
        self.watch(&load, Some(scraper), "not killed", start + BEFORE)?;
        let killed_at = self.scene.now();
        let kill = daemon.run("kill")?;
        self.view.say(&kill);
        self.watch(&load, Some(scraper), "killed", killed_at + KILLED)?;
        let resumed_at = self.scene.now();
        let resume = daemon.run("resume")?;
        self.view.say(&resume);
        self.watch(&load, Some(scraper), "resumed", when.end)?;
        self.end(&load, Some(scraper))?;
        Ok(Kill {
            when,
            killed: killed_at..resumed_at,
            kill,
            resume,
            rate: Datagrams::RATE,
            inbound: inbound.stop()?,
            outbound: outbound.stop()?,
        })
    }

    /// Shows what happens, until a time after the demo's start.
    fn watch(&mut self, load: &Load, scraper: Option<&Scraper>, note: &str, until: Duration) -> Result<()> {
        while let Some(left) = until.checked_sub(self.scene.now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(TICK));
            self.look(load, scraper.and_then(Scraper::last), note)?;
        }
        Ok(())
    }

    /// Waits for the last requests' ends: they take the clients' patience at most.
    fn end(&mut self, load: &Load, scraper: Option<&Scraper>) -> Result<()> {
        let deadline = self.scene.now() + 2 * PATIENCE;
        while !load.is_finished() && self.scene.now() < deadline {
            std::thread::sleep(TICK / 10);
            interrupt::check()?;
        }
        self.look(load, scraper.and_then(Scraper::last), "over")?;
        self.view.end();
        Ok(())
    }

    fn look(&mut self, load: &Load, sample: Option<Sample>, note: &str) -> Result<()> {
        interrupt::check()?;
        self.timeline.extend(load.take());
        let at = self.scene.now();
        let ended = self.timeline.ended(&(at.saturating_sub(View::SPAN)..at));
        self.view.show(&Moment { at, note, left: load.left(), ended, sample });
        Ok(())
    }
}

/// A steady stream of datagrams, and who counts them at its end.
struct Datagrams {
    sender: Sender,
    receiver: Receiver,
}

impl Datagrams {
    /// A second: a kill's time is measured to a tenth of a millisecond.
    const RATE: u64 = 10_000;

    fn start(
        from: &Namespace,
        to: &Namespace,
        ethernet: Ethernet,
        (source, destination): (IpAddr, IpAddr),
        (interface, duration): (&str, Duration),
    ) -> Result<Datagrams> {
        const PORT: u16 = 9;
        let destination = SocketAddr::new(destination, PORT);
        let receiver = Receiver::start(to, destination)?;
        let frame = udp(ethernet, SocketAddr::new(source, PORT), destination, &[0; 32]);
        let plan = flood::Plan {
            interface: interface.into(),
            frames: vec![frame],
            rate: Self::RATE,
            duration,
            cpu: None,
        };
        Ok(Datagrams { sender: Sender::start(from, plan)?, receiver })
    }

    fn stop(self) -> Result<Arrivals> {
        self.sender.stop()?;
        self.receiver.finish()
    }
}
