//! What is written of a scenario's runs.

mod plot;
mod table;

use crate::goals::{Goal, judge};
use crate::run::{Run, Sample, Window};
use crate::scenario::{Scenario, host};
use crate::score::{Score, over_rotations};
use anyhow::{Context, Result};
use serde::Serialize;
use shedder_common::class::Class;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// One run, as it is written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) contender: String,
    pub(crate) score: Score,
    /// Of each service.
    pub(crate) windows: Vec<Vec<Window>>,
    pub(crate) samples: Vec<Sample>,
}

impl Entry {
    pub(crate) fn of(scenario: &Scenario, run: &Run) -> Entry {
        Entry {
            contender: run.contender.clone(),
            score: Score::of(scenario, run),
            windows: (0..scenario.services).map(|service| run.windows(scenario, service)).collect(),
            samples: run.samples.clone(),
        }
    }
}

/// A scenario's runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) about: &'static str,
    /// When the overload begins and ends, and the run ends, in seconds.
    pub(crate) times: [f64; 3],
    /// The static limit that was compared, in requests a second.
    pub(crate) limit: f64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) fairness: Option<Fairness>,
}

/// Jain's index over sources, as the key of the cohorts rotates.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Fairness {
    /// The share of the class's requests that shedder let in.
    pub(crate) admitted: f64,
    /// Over two rotations, and over a day of them.
    pub(crate) two: f64,
    pub(crate) day: f64,
}

impl Report {
    pub(crate) fn of(scenario: &Scenario, limit: f64, runs: &[Run]) -> Report {
        let overload = scenario.overload();
        let entries: Vec<Entry> = runs.iter().map(|run| Entry::of(scenario, run)).collect();
        let times = [overload.start, overload.end, scenario.length()].map(|time| time.as_secs_f64());
        let goals = judge(scenario, &entries);
        let fairness = runs.iter().zip(&entries).find(|(run, _)| run.contender == "shedder");
        let fairness = fairness.and_then(|(run, entry)| rotate(run, entry.score.admitted_share?));
        Report { scenario: scenario.name, about: scenario.about, times, limit, entries, goals, fairness }
    }

    /// Writes the plot and the raw data of the scenario.
    pub(crate) fn write(&self, output: &Path) -> Result<()> {
        fs::create_dir_all(output).with_context(|| format!("creating {}", output.display()))?;
        let data = serde_json::to_string(self).context("encoding the raw data")?;
        for (kind, content) in [("svg", plot::draw(self)?), ("json", data)] {
            let path = output.join(format!("{}.{kind}", self.scenario));
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

fn rotate(run: &Run, admitted: f64) -> Option<Fairness> {
    let base = Ipv4Addr::new(10, 77, 0, 1);
    let sources: Vec<IpAddr> = (0..500).map(|number| host(base, Class::Low, number)).collect();
    let over = |rotations| over_rotations(&run.cohorts, &sources, admitted, rotations);
    Some(Fairness { admitted, two: over(2), day: over(24) })
}

/// Writes the table of all scenarios, and returns it.
pub(crate) fn summarise(reports: &[Report], output: &Path) -> Result<String> {
    let text = table::summary(reports);
    let path = output.join("summary.md");
    fs::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    Ok(text)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        table::write(f, self)
    }
}
