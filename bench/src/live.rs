//! Floods of real frames over a veth, generator and receiver on one CPU, against shedder and its peers.

use crate::counters::Counted;
use crate::peers::{self, Peer};
use crate::programs::{Generator, Limit, Made};
use crate::shape::{Layout, SPOOFED, Shape};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use shedder_tests::interrupt;
use std::time::Duration;

/// A case that a flood is varied to.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// Of every peer that has one: so low that most of the flood is refused, as far as there are more frames than sources.
    pub(crate) limit: Limit,
}

/// The base case, and each dimension varied alone: at most so many, the most telling first.
pub(crate) fn cases(most: usize) -> Vec<Case> {
    let limit = |per_second| Limit { per_second, burst: BURST };
    let base = Case { name: BASE, shape: Shape::BASE, limit: limit(10) };
    let sources = |name, sources, per_second| Case {
        name,
        shape: Shape { sources, ..Shape::BASE },
        limit: limit(per_second),
    };
    let mut cases = vec![
        base,
        sources(MANY, 1 << 16, 1),
        sources("1 source", 1, 10),
        sources("1M sources", 1 << 20, 1),
        sources("10M sources", 10_000_000, 1),
        sources("spoofed sources", SPOOFED, 1),
        Case { name: "1,500 bytes", shape: Shape { length: 1500, ..Shape::BASE }, ..base },
        Case { name: "IPv6", shape: Shape { layout: Layout::V6, ..Shape::BASE }, ..base },
        Case { name: "VLAN", shape: Shape { layout: Layout::Tagged, ..Shape::BASE }, ..base },
    ];
    cases.truncate(most);
    cases
}

/// Of one packet alone would be a limit without any burst, for which shedder reads the precise clock, as nobody configures it.
const BURST: u64 = 2;

/// 1,000 sources, 64 bytes, IPv4, no tag.
pub(crate) const BASE: &str = "1k sources";
/// The case with a table that no cache of a core holds.
pub(crate) const MANY: &str = "64k sources";

/// What is near the bare program is measured in: of a source so little is let pass that what passes takes no time to speak of.
pub(crate) const NEAR_BARE: Case =
    Case { name: BASE, shape: Shape::BASE, limit: Limit { per_second: 1, burst: BURST } };

/// What one peer did in one case, by round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Flood {
    pub(crate) peer: String,
    pub(crate) case: &'static str,
    pub(crate) drops_all: bool,
    /// Frames a second that the receiver took in.
    pub(crate) rates: Vec<f64>,
    /// Of those, frames a second that were let pass; where it can be told.
    pub(crate) passed: Vec<f64>,
    /// The share of frames that were made and not taken in: the receiver's queue was full.
    pub(crate) lost: Vec<f64>,
    /// Why there are no more.
    pub(crate) error: Option<String>,
}

/// Floods every peer in every case, in so many rounds, for so long each time. `make` makes the peers anew for each round: where
/// the memory of their maps and interfaces lies is chance, and makes them faster or slower by a tenth and more.
pub(crate) fn floods(
    make: impl Fn() -> Result<Vec<Box<dyn Peer>>>,
    cases: &[Case],
    (rounds, time): (usize, Duration),
) -> Result<Vec<Flood>> {
    let mut generator = Generator::load()?;
    let mut floods = Vec::new();
    for round in 0..rounds {
        let mut peers = make()?;
        if floods.is_empty() {
            let all = cases.iter().flat_map(|case| peers.iter().map(|peer| Flood::new(peer.as_ref(), case)));
            floods = all.collect();
        }
        let mut place = floods.iter_mut();
        for case in cases {
            eprintln!("bench: floods, round {} of {}: {}", round + 1, rounds, case.name);
            for peer in peers.iter_mut() {
                interrupt::check()?;
                let flood = place.next().context("every case has its place")?;
                if flood.error.is_some() {
                    continue;
                }
                if let Err(error) = flood.add(&mut generator, peer.as_mut(), case, time) {
                    flood.error = Some(format!("{error:#}"));
                }
            }
        }
    }
    Ok(floods)
}

/// Floods peers in the case [`NEAR_BARE`] in short turns, in so many rounds of so many turns of so long each: what differs by a few
/// nanoseconds a frame is told apart only where little time is between one and the other.
pub(crate) fn turns(
    make: impl Fn() -> Result<Vec<Box<dyn Peer>>>,
    (rounds, turns, time): (usize, usize, Duration),
) -> Result<Vec<Flood>> {
    let case = NEAR_BARE;
    let mut generator = Generator::load()?;
    let mut floods: Vec<Flood> = Vec::new();
    for round in 0..rounds {
        eprintln!("bench: floods in short turns, round {} of {rounds}", round + 1);
        let mut peers = make()?;
        if floods.is_empty() {
            floods = peers.iter().map(|peer| Flood::new(peer.as_ref(), &case)).collect();
        }
        let mut frames = Vec::new();
        for peer in &mut peers {
            frames.push(warm(&mut generator, peer.as_mut(), &case, time)?);
        }
        for _ in 0..turns {
            interrupt::check()?;
            for ((peer, flood), &frames) in peers.iter().zip(&mut floods).zip(&frames) {
                let (made, counted) = send(&mut generator, peer.as_ref(), &case.shape, frames)?;
                flood.note(made, counted);
            }
        }
    }
    Ok(floods)
}

/// Sends frames to a peer.
fn send(generator: &mut Generator, peer: &dyn Peer, shape: &Shape, frames: u64) -> Result<(Made, Counted)> {
    let (frame, plan) = shape.frame(peer.network().link());
    let before = Counted::read(peer.network())?;
    let made = generator.send(peer.network(), plan, &frame, frames, &[cpu()])?;
    Ok((made, Counted::read(peer.network())?.since(before)))
}

/// Makes a peer ready, and warm. Returns how many frames take it so long.
fn warm(generator: &mut Generator, peer: &mut dyn Peer, case: &Case, time: Duration) -> Result<u64> {
    peer.arm(&case.shape, case.limit)?;
    let (made, counted) = send(generator, peer, &case.shape, warm_up(case.shape.sources))?;
    ensure!(counted.arrived > 0, "no frame arrived");
    let frames = (made.rate() * time.as_secs_f64()) as u64;
    // Else the time between two looks at the clock would count, and the test run takes no more at once.
    Ok(frames.clamp(1 << 16, 1 << 26))
}

/// Frames that a peer meets before it is measured: so many that all its sources have used their bursts; where they are too many
/// for that, so that its caches are warm.
fn warm_up(sources: u32) -> u64 {
    const LEAST: u64 = 1 << 17;
    const MOST: u64 = 1 << 19;
    let used = 4 * BURST * u64::from(sources);
    if used > MOST { LEAST } else { used.max(LEAST) }
}

/// The CPU that makes frames and takes them in.
fn cpu() -> usize {
    std::thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1)
}

impl Flood {
    fn new(peer: &dyn Peer, case: &Case) -> Flood {
        Flood {
            peer: peer.name().into(),
            case: case.name,
            drops_all: peer.drops_all(),
            rates: vec![],
            passed: vec![],
            lost: vec![],
            error: None,
        }
    }

    /// One round more.
    fn add(
        &mut self,
        generator: &mut Generator,
        peer: &mut dyn Peer,
        case: &Case,
        time: Duration,
    ) -> Result<()> {
        let frames = warm(generator, peer, case, time)?;
        let own = peer.passed()?;
        let (made, counted) = send(generator, peer, &case.shape, frames)?;
        let own = peer.passed()?.map(|passed| passed - own.unwrap_or_default());
        let passed = peers::passed(own, counted, &case.shape);
        if self.drops_all
            && let Some(passed) = passed
        {
            ensure!(passed == 0, "it let {passed} of {} packets pass, and drops all", counted.arrived);
        }
        self.note(made, counted);
        if let Some(passed) = passed {
            self.passed.push(made.rate() * passed as f64 / made.frames as f64);
        }
        Ok(())
    }

    fn note(&mut self, made: Made, counted: Counted) {
        let arrived = counted.arrived as f64 / made.frames as f64;
        self.rates.push(made.rate() * arrived);
        self.lost.push(1.0 - arrived);
    }
}
