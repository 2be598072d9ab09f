//! What is to be reached, and whether it was.

use crate::accuracy::{BOTS, RANDOM};
use crate::control;
use crate::decision::{self, EVERYTHING};
use crate::kill;
use crate::live::{BASE, Flood, MANY, NEAR_BARE};
use crate::overload::Overload;
use crate::peers::{BARE, KILLED, LIMITED, LINE, SWITCH};
use crate::results::Results;
use crate::sources;
use crate::spread::{Spread, at};
use serde::Serialize;

/// One goal, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) target: String,
    /// None: it was not measured, or could not be.
    pub(crate) found: Option<f64>,
    /// As it is written.
    pub(crate) shown: String,
    pub(crate) met: bool,
    /// What no program can do better, measured in the same run; none: it was not measured.
    pub(crate) bound: Option<String>,
}

impl Goal {
    /// Says what bounds it.
    fn bounded_by(self, what: &str, unit: Unit, found: Option<Spread>) -> Goal {
        let bound = found.map(|it| format!("{what}: {}", unit.show(it.median)));
        Goal { bound, ..self }
    }

    /// As tables say it.
    pub(crate) fn verdict(&self) -> &'static str {
        match (self.found, self.met) {
            (None, _) => "-",
            (_, true) => "PASS",
            (_, false) => "FALL SHORT",
        }
    }
}

/// A bound on what is found.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// How a figure is written.
#[derive(Clone, Copy)]
enum Unit {
    Times,
    Percent,
    Milliseconds,
    Seconds,
}

use Bound::{AtLeast, AtMost};
use Unit::{Milliseconds, Percent, Seconds, Times};

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Times => format!("{value:.2}x"),
            Percent if value.abs() < 0.001 => format!("{:.4} %", 100.0 * value),
            Percent => format!("{:.1} %", 100.0 * value),
            Milliseconds => format!("{value:.2} ms"),
            Seconds if value.is_infinite() => "never".into(),
            Seconds => format!("{value:.1} s"),
        }
    }
}

fn goal(what: &'static str, bound: Bound, unit: Unit, found: Option<Spread>) -> Goal {
    let (sign, limit) = match bound {
        AtMost(limit) => ("<=", limit),
        AtLeast(limit) => (">=", limit),
    };
    let met = found.is_some_and(|found| match bound {
        AtMost(limit) => found.median <= limit,
        AtLeast(limit) => found.median >= limit,
    });
    let shown = match found {
        None => "not measured".into(),
        Some(Spread { median, min, max }) if min == max => unit.show(median),
        Some(Spread { median, min, max }) => {
            format!("{} ({} to {})", unit.show(median), unit.show(min), unit.show(max))
        }
    };
    Goal {
        what,
        target: format!("{sign} {}", unit.show(limit)),
        found: found.map(|it| it.median),
        shown,
        met,
        bound: None,
    }
}

fn single(value: f64) -> Option<Spread> {
    Some(Spread { median: value, min: value, max: value })
}

/// All goals that one run can judge. Ratios are taken round by round; the median counts.
pub(crate) fn judge(results: &Results) -> Vec<Goal> {
    let cost = |subject: &str, frame: &str| {
        let bare = decision::find(&results.costs, BARE, "any").ok()?;
        let cost = decision::find(&results.costs, subject, frame).ok()?;
        Spread::of_ratios(&cost.nanoseconds, &bare.nanoseconds)
    };
    let rates = |floods: &[Flood], of: &str, to: &str, case: &str| {
        let find = |peer| floods.iter().find(|flood| flood.peer == peer && flood.case == case);
        Spread::of_ratios(&find(of)?.rates, &find(to)?.rates)
    };
    let flood = |of: &str, to: &str, case: &str| rates(&results.floods, of, to, case);
    // In short turns.
    let near_bare = |of: &str| rates(&results.near_bare, of, BARE, NEAR_BARE.name);
    let decided = |subject: &str, sources: &str, cpus| {
        Some(&sources::find(&results.decisions, subject, sources, cpus)?.nanoseconds[..])
    };
    let decision =
        |sources: &str, cpus| Spread::of_ratios(decided(LIMITED, sources, cpus)?, decided(LIMITED, "1", 1)?);
    // As if a decision among many took no more than one among one, but for what two lines of memory take: of the source's bucket, and
    // of the flow of a datagram.
    let by_memory = |sources: &str| {
        let (one, near, far) =
            (decided(LIMITED, "1", 1)?, decided(LINE, "1", 1)?, decided(LINE, sources, 1)?);
        let least: Vec<f64> =
            one.iter().zip(near).zip(far).map(|((one, near), far)| one + 2.0 * (far - near)).collect();
        Spread::of_ratios(&least, one)
    };
    let bystanders = |among: &str| {
        let found = results.bystanders.iter().find(|it| it.among == among && it.table > 1024)?;
        single(found.dropped_share())
    };
    let worst = results.admissions.iter().map(|it| it.error().abs()).max_by(f64::total_cmp);
    let mut turns = results.control.iter().flat_map(|control| &control.turns);
    let turn = turns.find(|turn| turn.interval_ms == 20 && turn.load == control::IDLE);
    let overloads =
        |of: fn(&Overload) -> f64| Spread::of(&results.overloads.iter().map(of).collect::<Vec<_>>());
    let took = |way| results.stops.iter().find(|stop| stop.way == way).map(|stop| &stop.milliseconds[..]);
    let killed = took(kill::DEAD);
    let started = |quantile| took(kill::NOTHING).and_then(|all| single(at(all, quantile)?));
    const NFT: &str = "nft limit per source, ingress";
    const LEGACY: &str = "iptables-legacy hashlimit, raw";
    vec![
        goal(
            "a decision, default configuration, denied / bare XDP_DROP",
            AtMost(2.5),
            Times,
            cost(LIMITED, "denied"),
        ),
        goal(
            "a decision, default configuration, allowed / bare XDP_DROP",
            AtMost(3.0),
            Times,
            cost(LIMITED, "allowed"),
        ),
        goal(
            "a decision, everything on and measured, allowed / bare XDP_DROP",
            AtMost(5.0),
            Times,
            cost(EVERYTHING, "allowed, request"),
        ),
        goal("drop rate, killed / bare XDP_DROP", AtLeast(0.97), Percent, near_bare(KILLED)).bounded_by(
            SWITCH,
            Percent,
            near_bare(SWITCH),
        ),
        goal("drop rate at 1k sources / bare XDP_DROP", AtLeast(0.85), Percent, near_bare(LIMITED))
            .bounded_by(LINE, Percent, near_bare(LINE)),
        goal("drop rate / nft per source, 1k sources", AtLeast(5.0), Times, flood(LIMITED, NFT, BASE))
            .bounded_by(BARE, Times, flood(BARE, NFT, BASE)),
        goal("drop rate / nft per source, 64k sources", AtLeast(8.0), Times, flood(LIMITED, NFT, MANY))
            .bounded_by(LINE, Times, flood(LINE, NFT, MANY)),
        goal(
            "drop rate / iptables-legacy hashlimit, 1k sources",
            AtLeast(4.5),
            Times,
            flood(LIMITED, LEGACY, BASE),
        )
        .bounded_by(BARE, Times, flood(BARE, LEGACY, BASE)),
        goal(
            "drop rate / iptables-legacy hashlimit, 64k sources",
            AtLeast(6.0),
            Times,
            flood(LIMITED, LEGACY, MANY),
        )
        .bounded_by(LINE, Times, flood(LINE, LEGACY, MANY)),
        goal("a decision, 10M sources / 1 source", AtMost(3.0), Times, decision("10M", 1)).bounded_by(
            "the same, but for two lines of memory, of the bucket and of the flow",
            Times,
            by_memory("10M"),
        ),
        goal(
            "a decision, one hot source, denied, on two CPUs / on one",
            AtMost(1.1),
            Times,
            decision("1", 2),
        ),
        goal("well-behaved sources dropped among 100,000 bots", AtMost(0.0001), Percent, bystanders(BOTS)),
        goal(
            "well-behaved sources dropped among random spoofed ones",
            AtMost(0.0001),
            Percent,
            bystanders(RANDOM),
        ),
        goal(
            "admitted against the ideal, one source, one and two CPUs, the worst",
            AtMost(0.02),
            Percent,
            worst.and_then(single),
        ),
        goal(
            "kill, daemon dead, start to the last packet, the longest",
            AtMost(10.0),
            Milliseconds,
            killed.and_then(|all| single(at(all, 1.0)?)),
        )
        .bounded_by("a process that does nothing", Milliseconds, started(1.0)),
        goal(
            "kill, daemon dead, start to the last packet, the median",
            AtMost(3.0),
            Milliseconds,
            killed.and_then(|all| single(at(all, 0.5)?)),
        )
        .bounded_by("a process that does nothing", Milliseconds, started(0.5)),
        goal(
            "the daemon with one service at an interval of 20 ms, of one core",
            AtMost(0.01),
            Percent,
            turn.and_then(|turn| single(turn.share())),
        ),
        goal(
            "a 5x overload of a real server: p99 within 1.25 targets after",
            AtMost(0.2),
            Seconds,
            overloads(|it| it.settled_after.unwrap_or(f64::INFINITY)),
        ),
        goal(
            "a 5x overload of a real server: goodput while it lasts",
            AtLeast(0.9),
            Percent,
            overloads(|it| it.goodput.unwrap_or(0.0)),
        ),
        goal(
            "a 5x overload of a real server: nothing shed after its end",
            AtMost(2.0),
            Seconds,
            overloads(|it| it.zero_shed_after.unwrap_or(f64::INFINITY)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_met_at_itself() {
        assert!(goal("it", AtMost(2.0), Times, single(2.0)).met);
        assert!(!goal("it", AtMost(2.0), Times, single(2.01)).met);
        assert!(goal("it", AtLeast(0.85), Percent, single(0.85)).met);
        let missing = goal("it", AtLeast(0.85), Percent, None);
        assert_eq!((missing.met, missing.shown.as_str()), (false, "not measured"));
    }

    #[test]
    fn figures_read_well() {
        let spread = Spread { median: 2.345, min: 2.0, max: 3.0 };
        assert_eq!(goal("it", AtMost(2.5), Times, Some(spread)).shown, "2.35x (2.00x to 3.00x)");
        assert_eq!(Percent.show(0.00002), "0.0020 %");
        assert_eq!(Percent.show(0.97), "97.0 %");
    }
}
