//! What shedder is to reach, and whether it did.

use crate::report::Entry;
use crate::scenario::Scenario;
use serde::Serialize;
use shedder_common::class::Class;
use std::time::Duration;

/// One goal, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) met: bool,
}

/// Two utilities no further apart are equal: so much differs from run to run.
const EQUAL: f64 = 0.02;

/// Of the capacity, while the overload lasts.
const GOODPUT: f64 = 0.9;

/// Of critical users, and of a service beside one in trouble.
const SUCCESS: f64 = 0.999;

/// From the overload's end, seconds.
const ZERO_SHED: f64 = 2.0;
const STORM_OVER: f64 = 3.0;

/// The goals of a scenario for shedder, of which `entries` has a run; none where it has not.
pub(crate) fn judge(scenario: &Scenario, entries: &[Entry]) -> Vec<Goal> {
    let Some(shedder) = entries.iter().find(|entry| entry.contender == "shedder") else { return Vec::new() };
    let score = &shedder.score;
    let mut goals = Vec::new();
    let mut goal = |what: String, found: String, met| goals.push(Goal { what, found, met });

    let rivals = entries.iter().filter(|entry| entry.contender != "shedder");
    if let Some(best) = rivals.max_by(|a, b| a.score.utility.total_cmp(&b.score.utility)) {
        let met = score.utility >= best.score.utility - EQUAL;
        let found = format!("{}; {} {}", percent(score.utility), best.contender, percent(best.score.utility));
        goal("best utility, or within 2 points of the best".into(), found, met);
    }
    let settled_by = match scenario.name {
        "step" => Some(0.5),
        "step-5ms" => Some(0.2),
        _ => None,
    };
    if let Some(limit) = settled_by {
        let met = score.settled_after.is_some_and(|after| after <= limit);
        goal(format!("p99 within 1.25 targets for good after {limit} s"), after(score.settled_after), met);
    }
    if let Some(goodput) = score.goodput {
        goal("goodput of 90 % of what can be answered".into(), percent(goodput), goodput >= GOODPUT);
    }
    if let Some(critical) = score.critical.filter(|_| critical_fits(scenario)) {
        goal("critical success of 99.9 %".into(), percent(critical), critical >= SUCCESS);
    }
    if let Some(other) = score.other {
        goal("the other service's success of 99.9 %".into(), percent(other), other >= SUCCESS);
    }
    let found = format!("{} by class, {} by cohort", score.inversions, score.cohort_inversions);
    goal("no inversions".into(), found, score.inversions + score.cohort_inversions == 0);
    let met = score.zero_shed_after.is_some_and(|after| after <= ZERO_SHED);
    goal(format!("nothing shed {ZERO_SHED} s after the overload"), after(score.zero_shed_after), met);
    if scenario.name == "retry-storm" {
        let met = score.recovered_after.is_some_and(|after| after <= STORM_OVER);
        goal(format!("recovered {STORM_OVER} s after the trigger"), after(score.recovered_after), met);
        if let Some(nothing) = entries.iter().find(|entry| entry.contender == "nothing") {
            let recovered = nothing.score.recovered_after;
            goal("with nothing the server stays down".into(), after(recovered), recovered.is_none());
        }
    }
    goals
}

/// Whether what critical users ask for is less than what can be answered throughout.
fn critical_fits(scenario: &Scenario) -> bool {
    let flows = || scenario.flows.iter().filter(|flow| flow.service == 0 && flow.class == Class::Critical);
    let steps = (0..scenario.length().as_millis() as u64).step_by(50).map(Duration::from_millis);
    steps.into_iter().all(|at| {
        let phases = flows().flat_map(|flow| &flow.phases).filter(|phase| phase.when.contains(&at));
        let asked = phases.map(|phase| phase.rate).sum::<f64>() * crate::scenario::capacity();
        asked < scenario.capacity(0, at)
    })
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A time, or that it did not come.
pub(crate) fn after(seconds: Option<f64>) -> String {
    seconds.map_or("never".into(), |seconds| format!("{seconds:.1} s"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scenario::all;
    use crate::score::Score;

    pub(crate) fn score() -> Score {
        Score {
            utility: 0.95,
            settled_after: Some(0.3),
            above: 0.1,
            overshoot: 2.0,
            goodput: Some(0.95),
            critical: Some(1.0),
            other: None,
            zero_shed_after: Some(0.5),
            recovered_after: Some(0.2),
            inversions: 0,
            cohort_inversions: 0,
            jain: Some(0.5),
            admitted_share: Some(0.5),
            late: 0.0,
            valid: true,
        }
    }

    pub(crate) fn entry(contender: &str, score: Score) -> Entry {
        Entry { contender: contender.into(), score, windows: vec![vec![]], samples: vec![] }
    }

    fn unmet(name: &str, entries: &[Entry]) -> Vec<String> {
        let scenario = all().into_iter().find(|scenario| scenario.name == name).unwrap();
        judge(&scenario, entries).into_iter().filter(|goal| !goal.met).map(|goal| goal.what).collect()
    }

    #[test]
    fn what_is_met_and_what_is_not() {
        let rival = |utility| entry("static", Score { utility, ..score() });
        assert_eq!(unmet("step", &[rival(0.96), entry("shedder", score())]), Vec::<String>::new());
        assert_eq!(unmet("step", &[rival(0.98), entry("shedder", score())]).len(), 1);
        assert_eq!(unmet("step-5ms", &[entry("shedder", score())]).len(), 1);
        let bad = Score {
            goodput: Some(0.5),
            critical: Some(0.9),
            cohort_inversions: 1,
            zero_shed_after: None,
            settled_after: None,
            ..score()
        };
        assert_eq!(unmet("step", &[entry("shedder", bad)]).len(), 5);
        assert!(judge(&all()[0], &[rival(0.9)]).is_empty());
    }

    #[test]
    fn critical_success_is_judged_where_critical_load_fits() {
        let fits = |name: &str| critical_fits(all().iter().find(|scenario| scenario.name == name).unwrap());
        assert!(fits("step") && fits("slow-server"));
        assert!(!fits("all-critical") && !fits("stall"));
    }
}
