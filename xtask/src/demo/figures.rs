//! The figures that the acts come down to.

use super::metrics::Sample;
use super::scene::{CLASSES, CRITICAL, NORMAL, TARGET};
use super::stage::{Act, Kill};
use super::timeline::{Counts, Timeline, WINDOW, Window};
use serde::Serialize;
use shedder_tests::flood::Arrivals;
use std::ops::Range;
use std::time::Duration;

/// Latency counts as recovered below this.
pub(super) fn bound_ms() -> f64 {
    1.25 * TARGET.as_secs_f64() * 1e3
}

/// For so many windows in a row, the latency must be below its bound to count as recovered.
const STEADY: usize = 4;

/// Requests over some time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Traffic {
    /// A second, all classes together.
    pub(super) offered: f64,
    /// Answered in time, a second.
    pub(super) goodput: f64,
    /// The share of each class's requests that was answered in time.
    pub(super) success: [Option<f64>; CLASSES.len()],
    /// Quantiles of the latency of what was admitted, milliseconds.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    /// Requests that could not leave, for want of descriptors or time on this machine; they are not in `offered`.
    pub(super) unsent: u64,
}

impl Traffic {
    fn of(timeline: &Timeline, when: &Range<Duration>) -> Traffic {
        let Window { classes, p50, p99, .. } = timeline.window(when);
        let total = timeline.window(when).total();
        let seconds = (when.end - when.start).as_secs_f64();
        Traffic {
            offered: total.offered as f64 / seconds,
            goodput: total.answered as f64 / seconds,
            success: classes.map(|class| class.success()),
            p50,
            p99,
            unsent: total.unsent,
        }
    }
}

/// An act with an overload.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Overload {
    /// While it lasted.
    pub(super) during: Traffic,
    /// From its start until the p99 of a quarter of a second was below its bound for a second, seconds.
    pub(super) recovered_after: Option<f64>,
    /// From then until its end.
    pub(super) recovered: Option<Traffic>,
    /// The share of critical and normal requests that was answered in time after it had ended.
    pub(super) success_after: Option<f64>,
    /// The highest shed ratio.
    pub(super) highest_shed_ratio: Option<f64>,
    /// From its end until nothing was shed any more, seconds.
    pub(super) zero_shed_after: Option<f64>,
    /// By how much the most belated request left after its time, milliseconds.
    pub(super) lateness: f64,
}

impl Overload {
    pub(super) fn of(timeline: &Timeline, act: &Act, samples: &[Sample]) -> Overload {
        let overload = &act.overload;
        let recovery = recovery(&timeline.windows(overload));
        let recovered = recovery.map(|windows| overload.start + WINDOW * windows..overload.end);
        let after = timeline.window(&(overload.end..act.when.end));
        let legitimate = [CRITICAL, NORMAL].map(|class| after.classes[class]);
        let sum = |of: fn(&Counts) -> u64| legitimate.iter().map(of).sum::<u64>();
        let both = Counts { offered: sum(|c| c.offered), answered: sum(|c| c.answered), ..Counts::default() };
        let within = |sample: &&Sample| {
            (act.when.start.as_secs_f64()..act.when.end.as_secs_f64()).contains(&sample.at)
        };
        let samples: Vec<Sample> = samples.iter().filter(within).copied().collect();
        Overload {
            during: Traffic::of(timeline, overload),
            recovered_after: recovery.map(|windows| (WINDOW * windows).as_secs_f64()),
            recovered: recovered.map(|when| Traffic::of(timeline, &when)),
            success_after: both.success(),
            highest_shed_ratio: samples.iter().map(|sample| sample.shed_ratio).reduce(f64::max),
            zero_shed_after: zero_shed_after(&samples, overload.end.as_secs_f64()),
            lateness: act.lateness.as_secs_f64() * 1e3,
        }
    }
}

/// The first of [`STEADY`] windows in a row whose p99 is below its bound. A window in which nothing was admitted is
/// not below it.
fn recovery(windows: &[Window]) -> Option<u32> {
    let good = |window: &Window| window.p99.is_some_and(|p99| p99 <= bound_ms());
    let first = windows.windows(STEADY).position(|steady| steady.iter().all(good))?;
    Some(first as u32)
}

/// From `end` to the first sample that sheds nothing and is followed by no other that does.
fn zero_shed_after(samples: &[Sample], end: f64) -> Option<f64> {
    let last_shedding = samples.iter().rposition(|sample| sample.shed_ratio > 0.0);
    let zero = samples.get(last_shedding.map_or(0, |last| last + 1))?;
    Some((zero.at - end).max(0.0))
}

/// A kill and a resume, in one direction.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Direction {
    /// From the kill command's start to the last packet that passed, milliseconds; none: none had passed.
    pub(super) last_packet: Option<f64>,
    /// Packets that passed from the kill command's end to the resume command's start: must be 0.
    pub(super) passed_while_killed: usize,
    /// From the resume command's start to the first packet that passed, milliseconds.
    pub(super) first_packet: Option<f64>,
}

/// The kill and the resume.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Switch {
    pub(super) inbound: Direction,
    pub(super) outbound: Direction,
    /// Packets a second that were sent in each direction.
    pub(super) rate: u64,
    /// From the commands' starts to their ends, milliseconds.
    pub(super) kill_took: f64,
    pub(super) resume_took: f64,
    /// What the commands wrote.
    pub(super) kill_output: String,
    pub(super) resume_output: String,
}

impl Switch {
    pub(super) fn of(kill: &Kill) -> Switch {
        Switch {
            inbound: direction(kill, &kill.inbound),
            outbound: direction(kill, &kill.outbound),
            rate: kill.rate,
            kill_took: milliseconds(kill.kill.ended.saturating_sub(kill.kill.started)),
            resume_took: milliseconds(kill.resume.ended.saturating_sub(kill.resume.started)),
            kill_output: kill.kill.output.clone(),
            resume_output: kill.resume.output.clone(),
        }
    }
}

fn direction(Kill { kill, resume, .. }: &Kill, arrivals: &Arrivals) -> Direction {
    let last = arrivals.last_before(resume.started);
    let first = arrivals.first_since(resume.started);
    Direction {
        last_packet: last.map(|last| milliseconds(last.saturating_sub(kill.started))),
        passed_while_killed: arrivals.between(kill.ended, resume.started),
        first_packet: first.map(|first| milliseconds(first - resume.started)),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(p99: &[f64]) -> Vec<Window> {
        p99.iter().map(|&p99| Window { p99: (p99 > 0.0).then_some(p99), ..Window::default() }).collect()
    }

    #[test]
    fn recovery_is_a_second_below_the_bound() {
        let (good, bad) = (bound_ms(), bound_ms() + 1.0);
        assert_eq!(recovery(&windows(&[good; 4])), Some(0));
        assert_eq!(recovery(&windows(&[bad, good, good, bad, good, good, good, good, bad])), Some(4));
        assert_eq!(recovery(&windows(&[good, good, good])), None);
        assert_eq!(recovery(&windows(&[good, 0.0, good, good, good])), None);
    }

    #[test]
    fn shedding_is_over_when_it_does_not_come_back() {
        let samples = |ratios: &[f64]| -> Vec<Sample> {
            let at = |(index, &shed_ratio)| Sample { at: index as f64, shed_ratio, ..Sample::default() };
            ratios.iter().enumerate().map(at).collect()
        };
        assert_eq!(zero_shed_after(&samples(&[0.0, 0.9, 0.5, 0.0, 0.0]), 1.0), Some(2.0));
        assert_eq!(zero_shed_after(&samples(&[0.9, 0.0, 0.1, 0.0]), 1.0), Some(2.0));
        assert_eq!(zero_shed_after(&samples(&[0.0, 0.9]), 1.0), None);
        assert_eq!(zero_shed_after(&[], 1.0), None);
    }

    #[test]
    fn a_kill_is_timed_by_what_arrived() {
        let at = Duration::from_millis;
        let ran = |started, ended| super::super::daemon::Ran {
            started: at(started),
            ended: at(ended),
            line: String::new(),
            output: String::new(),
        };
        let times = [90, 101, 103, 400, 512, 513].map(at).to_vec();
        let arrivals = Arrivals { times, ..Arrivals::default() };
        let kill = Kill {
            when: at(0)..at(1000),
            killed: at(100)..at(500),
            kill: ran(100, 200),
            resume: ran(500, 600),
            rate: 1,
            inbound: arrivals.clone(),
            outbound: Arrivals::default(),
        };
        let Switch { inbound, outbound, kill_took, .. } = Switch::of(&kill);
        assert_eq!((inbound.last_packet, inbound.passed_while_killed), (Some(300.0), 1));
        assert_eq!((inbound.first_packet, kill_took), (Some(12.0), 100.0));
        assert_eq!((outbound.last_packet, outbound.first_packet), (None, None));
    }
}
