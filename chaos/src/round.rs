//! A round: a network, faults at random, and what must hold.

use crate::account::{Counts, counted};
use crate::fault::Fault;
use crate::interface::MadeAgain;
use crate::world::{Daemon, LEASE, World};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shedder_tests::flood::now;
use shedder_tests::interrupt;
use shedder_tests::netns::Network;
use shedder_tests::random::Random;
use std::fmt;
use std::time::{Duration, Instant};

/// What a program or a thread may be late on a machine that does much else.
const SLACK: Duration = Duration::from_secs(2);

/// What rounds came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rounds: u64,
    faults: u64,
    checks: u64,
    /// Datagrams that were offered, of sources that are denied and others.
    datagrams: u64,
    /// Packets that the programs counted, by reason.
    counted: Counts,
    /// Seconds in which a kill was in force.
    killed: f64,
    made_again: MadeAgain,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.rounds += other.rounds;
        self.faults += other.faults;
        self.checks += other.checks;
        self.datagrams += other.datagrams;
        self.killed += other.killed;
        self.made_again.add(&other.made_again);
        for (reason, count) in &other.counted {
            *self.counted.entry(reason.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { rounds, faults, checks, datagrams, counted, killed, made_again } = self;
        let counted: Vec<String> =
            counted.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        write!(
            f,
            "all held: {faults} faults in {rounds} rounds, {checks} checks, {datagrams} datagrams offered, {killed:.1} s of kills; \
             the interface was made again {} times and attached by a running daemon within {:.2} s, and {} frames met no \
             program until then; counted: {}",
            made_again.times,
            made_again.longest.as_secs_f64(),
            made_again.unseen,
            counted.join(", ")
        )
    }
}

/// Plays a round of about this length.
///
/// # Errors
/// What did not hold, after which fault, with the daemon's last words.
pub(crate) fn play(seed: u64, length: Duration) -> Result<Tally> {
    let network = Network::new("chaos")?;
    let mut world = World::new(&network)?;
    world.begin(seed, length + SLACK)?;
    let mut random = Random::new(seed);
    let mut tally = Tally { rounds: 1, ..Tally::default() };
    let start = Instant::now();
    while start.elapsed() < length {
        interrupt::check()?;
        let fault = Fault::choose(&mut random, &world);
        println!("chaos: {:>6.2} s  {fault}", start.elapsed().as_secs_f64());
        let pause = Duration::from_millis(50 + random.below(700) as u64);
        let held = world.inject(fault).and_then(|()| {
            std::thread::sleep(pause);
            check(&world)?;
            world.account.explain(&world).map(drop)
        });
        held.with_context(|| format!("after: {fault}; the daemon's last words:\n{}", world.log()))?;
        tally.faults += 1;
        tally.checks += 1;
    }
    world.heal()?;
    check(&world).with_context(|| format!("at the end; the daemon's last words:\n{}", world.log()))?;
    let moment = now();
    tally.killed = world.switch.held(moment).map(|(from, until)| (until - from).as_secs_f64()).sum();
    let traffic = world.traffic()?;
    tally.datagrams =
        [&traffic.denied, &traffic.allowed, &traffic.outward].map(|way| way.offered()).iter().sum();
    tally.counted = world.account.explain(&world)?;
    tally.made_again = world.made_again;
    world.end()?;
    Ok(tally)
}

/// What must hold at any time.
fn check(world: &World<'_>) -> Result<()> {
    let traffic = world.traffic()?;
    let denied = traffic.denied.arrivals();
    ensure!(denied.overflowed == 0, "this machine is too busy: the receiver's buffer is full");
    let got = world.gaps.arrived_outside(&denied, Duration::ZERO, Duration::MAX);
    ensure!(got == 0, "a gap: {got} datagrams of a denied source arrived");

    let moment = now();
    for (way, arrivals) in [("in", traffic.allowed.arrivals()), ("out", traffic.outward.arrivals())] {
        ensure!(arrivals.overflowed == 0, "this machine is too busy: the receiver's buffer is full");
        for (from, until) in world.switch.held(moment) {
            let passed = world.gaps.arrived_outside(&arrivals, from, until);
            ensure!(
                passed == 0,
                "a kill lost: {passed} datagrams went {way} while it was in force, for {:?} until {:?} ago",
                until - from,
                moment - until
            );
        }
    }
    let status = world.status()?;
    let kill = &status["kill"];
    if world.switch.is_killed(now()) {
        ensure!(kill["active"] == true, "a kill lost: status says {kill}");
    }
    if world.switch.is_open(moment) {
        ensure!(kill["active"] == false, "a kill from nowhere: status says {kill}");
        traffic.allowed.arrive_more();
    }
    is_not_stale(world, &status)
}

/// Without a live daemon nothing is shed past the lease, unless a person said so.
fn is_not_stale(world: &World<'_>, status: &Value) -> Result<()> {
    let since = match &world.daemon {
        Daemon::Dead { since } | Daemon::Stopped { since, .. } => *since,
        Daemon::Alive(_) => return Ok(()),
    };
    if world.is_overridden || since.elapsed() < LEASE + SLACK {
        return Ok(());
    }
    let in_force = &status["services"][0]["in_force"];
    ensure!(
        in_force["by"] == "posture" && in_force["cutoff"] == 768,
        "stale shedding: status says {in_force}"
    );
    let shed = |status: &Value| counted(status).get("shed").copied().unwrap_or_default();
    let later = world.status()?;
    ensure!(shed(status) == shed(&later), "stale shedding: {:?} after the daemon's end", since.elapsed());
    Ok(())
}
