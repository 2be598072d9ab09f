//! The tables, as Markdown.

use super::Report;
use crate::contender::NAMES;
use crate::goals::{after, percent};
use crate::scenario::{PATIENCE, TARGET, capacity};
use std::fmt::{Formatter, Result, Write};

const HEAD: &str = "\
| | utility | p99 in target after | time above | highest p99 | goodput | critical | no shedding after | recovered after | inversions | Jain |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

/// One scenario: its runs, and shedder's goals.
pub(super) fn write(f: &mut Formatter<'_>, report: &Report) -> Result {
    write!(f, "## {}\n\nScenario: {}.\n\n{HEAD}", report.scenario, report.about)?;
    for entry in &report.entries {
        let score = &entry.score;
        let share = |share: Option<f64>| share.map_or("-".into(), percent);
        let name = match entry.contender.as_str() {
            "static" => format!("static ({:.0}/s)", report.limit),
            name => name.into(),
        };
        writeln!(
            f,
            "| {name}{} | {} | {} | {} | {:.1} targets | {} | {} | {} | {} | {} / {} | {} |",
            if score.valid { "" } else { " (invalid: the load fell behind)" },
            percent(score.utility),
            after(score.settled_after),
            percent(score.above),
            score.overshoot,
            share(score.goodput),
            share(score.critical),
            if entry.contender == "nothing" { "-".into() } else { after(score.zero_shed_after) },
            after(score.recovered_after),
            score.inversions,
            score.cohort_inversions,
            score.jain.map_or("-".into(), |jain| format!("{jain:.2}")),
        )?;
    }
    if let Some(fairness) = &report.fairness {
        writeln!(
            f,
            "\nThe cohorts' key rotates hourly: with {} of a class let in, Jain's index over 500 sources is {:.2} over two \
             rotations and {:.2} over a day of them (computed, with the programs' hash).",
            percent(fairness.admitted),
            fairness.two,
            fairness.day
        )?;
    }
    if !report.goals.is_empty() {
        writeln!(f)?;
    }
    for goal in &report.goals {
        let verdict = if goal.met { "PASS" } else { "FALL SHORT" };
        writeln!(f, "- {verdict}: {}: {}", goal.what, goal.found)?;
    }
    writeln!(f, "\n![{0}]({0}.svg)\n", report.scenario)
}

/// All scenarios: how to read them, the utilities side by side, and each.
pub(super) fn summary(reports: &[Report]) -> String {
    let mut text = preamble();
    let goals = || reports.iter().flat_map(|report| &report.goals);
    let met = goals().filter(|goal| goal.met).count();
    let _ = writeln!(text, "{met} of {} goals are met.\n", goals().count());
    let shown: Vec<&str> = NAMES
        .into_iter()
        .filter(|name| {
            reports.iter().any(|report| report.entries.iter().any(|entry| entry.contender == *name))
        })
        .collect();
    let _ = writeln!(text, "| utility | {} |\n| ---{} |", shown.join(" | "), " | ---".repeat(shown.len()));
    for report in reports {
        let best = report.entries.iter().map(|entry| entry.score.utility).fold(0.0, f64::max);
        let _ = write!(text, "| {} |", report.scenario);
        for name in &shown {
            let of = report.entries.iter().find(|entry| entry.contender == *name);
            let cell = of.map_or("-".into(), |entry| {
                let shown = percent(entry.score.utility);
                if entry.score.utility == best { format!("**{shown}**") } else { shown }
            });
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push('\n');
    for report in reports {
        let _ = writeln!(text, "{report}");
    }
    text
}

/// What was measured, and what the columns mean.
fn preamble() -> String {
    format!(
        "# shedder's lab\n\n\
         Measured on {}. A real server answers {:.0} requests a second and queues 768; its p99 is to be {} ms; clients give up after {} ms. \
         Every contender meets the same arrivals, of the same seed, by open-loop clients on this machine.\n\n\
         - utility: the worth of the answers from the overload's start to the run's end, of what somebody could have \
         delivered who knows the capacity and serves the most important first. An answer is worth twice one of the class \
         below, and half where it is later than 1.25 targets.\n\
         - p99 in target after: from the overload's start until the p99 of 100 ms is within 1.25 targets for good (but for \
         single windows). An answer that never came counts as the clients' patience.\n\
         - goodput: answers in time, of what could be answered, while the overload lasts. critical: users answered.\n\
         - inversions: requests refused between less important ones that were let in, by class / by cohort.\n\
         - Jain: over the sources of the class that was shed in part, in this run.\n\
         - static: a limit on what is admitted, the best of nine in a simulation of this very scenario, and so what nobody \
         knows beforehand. dagor: WeChat's rule. aimd: SEDA's. gradient: Netflix' Gradient2. They see what the same \
         programs measure, at the same interval. nothing: the programs shed nothing.\n\n",
        shedder_tests::machine::describe(),
        capacity(),
        TARGET.as_millis(),
        PATIENCE.as_millis(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goal;
    use crate::goals::tests::{entry, score};
    use crate::score::Score;

    #[test]
    fn tells_who_was_best_and_what_was_reached() {
        let better = Score { utility: 0.97, settled_after: None, ..score() };
        let report = Report {
            scenario: "step",
            about: "a step",
            times: [1.0, 2.0, 3.0],
            limit: 950.0,
            entries: vec![entry("static", better), entry("shedder", score())],
            goals: vec![Goal { what: "one".into(), found: "1 s".into(), met: true }],
            fairness: None,
        };
        let text = summary(&[report]);
        for part in [
            "1 of 1 goals are met",
            "| utility | static | shedder |",
            "| step | **97.0 %** | 95.0 % |",
            "| static (950/s) | 97.0 % | never |",
            "- PASS: one: 1 s",
            "(step.svg)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
