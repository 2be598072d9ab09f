//! A guard for those who change the programs: another build of shedder, in turns with this one.

use crate::decision;
use crate::effort::Effort;
use crate::live;
use crate::peers::{Peer, Subject};
use crate::shed::Build;
use crate::spread::Spread;
use anyhow::{Context, Result};
use shedder_tests::netns::Network;
use shedder_tests::shedder::binary;
use std::path::Path;

const OTHER: &str = ", other build";

/// Measures decisions and floods of both, and prints ratios, round by round: of this build to the other.
pub(crate) fn compare(other: &Path, effort: &Effort) -> Result<()> {
    let own = Build { label: "", binary: binary() };
    let builds = [own, Build { label: OTHER, binary: other }];
    let costs = decision::costs(&builds, false, effort.costs)?;
    println!("{:<60} {:>9} {:>9}   ratio", "ns of a decision", "other", "this");
    for cost in
        costs.iter().filter(|cost| cost.subject.starts_with("shedder") && !cost.subject.ends_with(OTHER))
    {
        let name = format!("{}{OTHER}", cost.subject);
        let before = costs.iter().find(|it| it.subject == name && it.frame == cost.frame);
        let before = before.context("both builds have every line")?;
        let what = format!("{}, {}", cost.subject, cost.frame);
        print(&what, &before.nanoseconds, &cost.nanoseconds, 1.0);
    }
    let peers = || {
        let mut peers: Vec<Box<dyn Peer>> = Vec::new();
        for make in [Subject::limited, Subject::everything, Subject::killed] {
            for build in builds {
                peers.push(Box::new(make(build, Network::new("bench-against")?)));
            }
        }
        Ok(peers)
    };
    let floods = live::floods(peers, &live::cases(2), effort.floods)?;
    println!("\n{:<60} {:>9} {:>9}   ratio", "million frames a second", "other", "this");
    for pair in floods.chunks_exact(2) {
        let [own, other] = pair else { continue };
        let what = format!("{}, {}", own.peer, own.case);
        match own.error.as_ref().or(other.error.as_ref()) {
            Some(error) => println!("{what:<60} not measured: {error}"),
            None => print(&what, &other.rates, &own.rates, 1e6),
        }
    }
    Ok(())
}

fn print(what: &str, other: &[f64], own: &[f64], scale: f64) {
    let median = |values: &[f64]| Spread::of(values).map_or(f64::NAN, |it| it.median / scale);
    let ratio = Spread::of_ratios(own, other);
    let ratio = ratio.map_or("-".into(), |it| format!("{:.3} ({:.3} to {:.3})", it.median, it.min, it.max));
    println!("{what:<60} {:>9.2} {:>9.2}   {ratio}", median(other), median(own));
}
