//! What a run comes down to.

mod fairness;
mod ideal;
mod inversions;

pub(crate) use fairness::over_rotations;
pub(crate) use ideal::utility;

use crate::run::{Run, Sample, Window, indices, late_share};
use crate::scenario::{Scenario, TARGET, TOLERANCE};
use serde::Serialize;
use shedder_common::class::Class;
use std::ops::Range;
use std::time::Duration;

/// The figures of one run. Times are in seconds, shares 0 to 1; of two services all but `utility` and `other` are of the
/// first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Score {
    /// The one figure by which contenders are ordered: see [`utility`].
    pub(crate) utility: f64,
    /// From the overload's start until the p99 was within the target for good, while the overload lasted.
    pub(crate) settled_after: Option<f64>,
    /// The share of the overload's windows whose p99 was not.
    pub(crate) above: f64,
    /// The highest p99 from the overload's start on, in targets.
    pub(crate) overshoot: f64,
    /// Answered in time while the overload lasted, of what could have been: the server's capacity, or all that was asked
    /// for.
    pub(crate) goodput: Option<f64>,
    /// The share of critical users that were answered, from the overload's start to the run's end.
    pub(crate) critical: Option<f64>,
    /// The same of all users of the second service.
    pub(crate) other: Option<f64>,
    /// From the overload's end to the last packet that was shed; none: shedding did not end.
    pub(crate) zero_shed_after: Option<f64>,
    /// From the overload's end until at least 90 % of the users were answered for good.
    pub(crate) recovered_after: Option<f64>,
    /// Requests that were refused while ones of a less important class were let in: see [`inversions`].
    pub(crate) inversions: usize,
    /// The same by priority, cohorts included.
    pub(crate) cohort_inversions: usize,
    /// Jain's index over the sources of the class that was shed in part, while the overload lasted.
    pub(crate) jain: Option<f64>,
    /// The share of that class's requests that were let in.
    pub(crate) admitted_share: Option<f64>,
    /// The share of requests that left late.
    pub(crate) late: f64,
    /// Whether the load was what the scenario says.
    pub(crate) valid: bool,
}

impl Score {
    pub(crate) fn of(scenario: &Scenario, run: &Run) -> Score {
        let windows = run.windows(scenario, 0);
        let overload = scenario.overload();
        let during = &windows[indices(&overload)];
        let above = during.iter().filter(|window| !within(window)).count();
        let troubled = overload.start..scenario.length();
        let shares = fairness::shares(run, &overload);
        Score {
            utility: utility(scenario, run),
            settled_after: settled(during.iter().map(within)).map(seconds),
            above: above as f64 / during.len().max(1) as f64,
            overshoot: highest(&windows[indices(&troubled)]),
            goodput: goodput(scenario, during),
            critical: success(run, 0, Some(Class::Critical), &troubled),
            other: (scenario.services > 1).then(|| success(run, 1, None, &troubled)).flatten(),
            zero_shed_after: zero_shed_after(&run.samples, scenario),
            recovered_after: recovered_after(&windows[indices(&(overload.end..scenario.length()))]),
            inversions: inversions::count(scenario, run, |request| request.class as u32),
            cohort_inversions: inversions::count(scenario, run, |request| {
                let now = run.started + request.sent.as_nanos() as u64;
                run.cohorts.priority(request.class, request.source, now)
            }),
            jain: shares.as_ref().map(|(_, shares)| fairness::jain(shares)),
            admitted_share: shares.map(|(admitted, _)| admitted),
            late: late_share(&run.requests),
            valid: run.valid,
        }
    }
}

/// A number of windows, in seconds.
fn seconds(windows: usize) -> f64 {
    (crate::run::WINDOW * windows as u32).as_secs_f64()
}

/// Whether a window's p99 is within the target. One in which nobody was let in is not.
fn within(window: &Window) -> bool {
    window.p99.is_some_and(|p99| p99 <= TOLERANCE * TARGET.as_secs_f64() * 1e3)
}

/// The first window from which on all is well for good: no two windows in a row are not. One alone may be chance, with
/// some hundred requests in a window. None: the last windows are not well.
fn settled(well: impl Iterator<Item = bool>) -> Option<usize> {
    let well: Vec<bool> = well.collect();
    let last_bad = well.windows(2).rposition(|pair| !pair[0] && !pair[1]);
    let first = last_bad.map_or(0, |pair| pair + 2);
    // A single bad window at the very start is where the trouble began, and no chance.
    let first = if first == 0 && well.first() == Some(&false) { 1 } else { first };
    (first < well.len()).then_some(first)
}

fn highest(windows: &[Window]) -> f64 {
    let highest = windows.iter().filter_map(|window| window.p99).fold(0.0, f64::max);
    highest / (TARGET.as_secs_f64() * 1e3)
}

/// Answers, of those that were possible. None where none were.
fn goodput(scenario: &Scenario, windows: &[Window]) -> Option<f64> {
    let width = crate::run::WINDOW.as_secs_f64();
    let (mut answered, mut possible) = (0.0, 0.0);
    for window in windows {
        let total = window.total();
        let middle = Duration::from_secs_f64(window.at + width / 2.0);
        answered += total.answered as f64;
        possible += (total.offered as f64).min(scenario.capacity(0, middle) * width);
    }
    (possible > 0.0).then(|| answered / possible)
}

/// The share of users of a service (of one class, or of all) that were answered, whose first try was due in `when`.
fn success(run: &Run, service: usize, class: Option<Class>, when: &Range<Duration>) -> Option<f64> {
    let users = run.users(service);
    let of =
        users.iter().filter(|user| when.contains(&user.due) && class.is_none_or(|class| class == user.class));
    let (mut all, mut answered) = (0u32, 0u32);
    for user in of {
        all += 1;
        answered += u32::from(user.answered.is_some());
    }
    (all > 0).then(|| f64::from(answered) / f64::from(all))
}

/// How near to the run's end shedding may not have ended to count as ended.
const QUIET: f64 = 0.3;

/// From the overload's end to the last look that found more packets shed than the one before. Of a run in which nothing
/// is shed: 0.
fn zero_shed_after(samples: &[Sample], scenario: &Scenario) -> Option<f64> {
    let end = scenario.overload().end.as_secs_f64();
    let last = samples.windows(2).rfind(|pair| pair[1].shed > pair[0].shed).map_or(0.0, |pair| pair[1].at);
    (last < scenario.length().as_secs_f64() - QUIET).then(|| (last - end).max(0.0))
}

/// The share of users who have to be answered for a service to count as recovered.
const RECOVERED: f64 = 0.9;

fn recovered_after(windows: &[Window]) -> Option<f64> {
    settled(windows.iter().map(|window| window.success.is_some_and(|success| success >= RECOVERED)))
        .map(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn settled_is_for_good_but_for_single_windows() {
        let settled = |text: &str| settled(text.chars().map(|c| c == '+'));
        assert_eq!(settled("++++"), Some(0));
        assert_eq!(settled("-+++"), Some(1));
        assert_eq!(settled("--++-++"), Some(2));
        assert_eq!(settled("++--++"), Some(4));
        assert_eq!(settled("++++--"), None);
        assert_eq!(settled("----"), None);
        assert_eq!(settled(""), None);
    }

    #[test]
    fn shedding_ends_with_the_last_packet() {
        let scenario = &scenario::all()[0];
        let end = scenario.overload().end.as_secs_f64();
        let sample = |at: f64, shed| Sample { at, cutoffs: vec![], shed };
        let samples = [sample(1.0, 0), sample(2.0, 10), sample(end + 0.5, 20), sample(end + 1.0, 20)];
        assert!((zero_shed_after(&samples, scenario).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(zero_shed_after(&samples[..2], scenario), Some(0.0));
        let length = scenario.length().as_secs_f64();
        let never = [sample(end, 1), sample(length - 0.02, 2)];
        assert_eq!(zero_shed_after(&never, scenario), None);
    }

    #[test]
    fn a_window_without_anybody_let_in_is_not_within_the_target() {
        let window = |p99| Window { p99, ..Window::default() };
        assert!(within(&window(Some(62.5))) && !within(&window(Some(62.6))) && !within(&window(None)));
        assert_eq!(highest(&[window(Some(10.0)), window(Some(100.0)), window(None)]), 2.0);
    }

    #[test]
    fn goodput_is_of_what_was_possible() {
        let scenario = &scenario::all()[0];
        let mut window = Window { at: 2.0, ..Window::default() };
        window.classes[0].offered = 50;
        window.classes[0].answered = 25;
        // 50 of the 100 that could be answered were asked for.
        assert_eq!(goodput(scenario, &[window.clone()]), Some(0.5));
        window.classes[0].offered = 400;
        assert_eq!(goodput(scenario, &[window]), Some(0.25));
        assert_eq!(goodput(scenario, &[]), None);
    }
}
