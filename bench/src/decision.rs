//! What one decision costs: test runs of a program on one frame, next to the two instructions that drop everything.

use crate::peers::{BARE, KILLED, LIMITED, LINE, LOCKED, RECENT, SWITCH};
use crate::programs::{Design, Limit};
use crate::shed::{self, Build, Status};
use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use serde::Serialize;
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::interrupt;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) subject: String,
    pub(crate) frame: String,
    /// Nanoseconds of a run, by round; what a test run takes by itself included, which is most of what the bare program takes.
    pub(crate) nanoseconds: Vec<f64>,
}

pub(crate) const EVERYTHING: &str = "shedder, everything on, measured";

const ALLOWED: &str = "allowed";
const DENIED: &str = "denied by its rate";

/// Nobody reaches it in a test run.
const HIGH: Limit = Limit { per_second: 1_000_000_000, burst: 100_000_000 };
/// Everybody does.
const LOW: Limit = Limit { per_second: 10, burst: 2 };

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Something with a program, and a frame for it.
struct Subject<'a> {
    cost: Cost,
    program: Xdp,
    frame: Vec<u8>,
    action: u32,
    check: Check<'a>,
}

/// What says that the program did what its line says, beside the action that it returns.
enum Check<'a> {
    Action,
    /// The counter of this reason, of this binary's shedder on this network.
    Reason(&'a Path, usize, &'static str),
}

/// Networks with what is measured attached to them, which has to live as long as it is measured.
struct Stage {
    networks: Vec<Network>,
    designs: Vec<Design>,
}

fn udp(source: [u8; 4]) -> Vec<u8> {
    let (source, destination) = ends(source);
    frame::udp(ETHERNET, source, destination, &[0; 18])
}

fn segment(source: [u8; 4]) -> Vec<u8> {
    let (source, destination) = ends(source);
    frame::tcp_data(ETHERNET, source, destination, (1, 1), &[0; 6])
}

fn acknowledgement(source: [u8; 4]) -> Vec<u8> {
    let (source, destination) = ends(source);
    frame::tcp_data(ETHERNET, source, destination, (1, 1), &[])
}

fn ends(source: [u8; 4]) -> (SocketAddr, SocketAddr) {
    ((Ipv4Addr::from(source), 40_000).into(), (Ipv4Addr::new(192, 0, 2, 254), 8080).into())
}

const ETHERNET: Ethernet = Ethernet { source: [2, 0, 0, 0, 0, 2], destination: [2, 0, 0, 0, 0, 1] };

const ANYBODY: [u8; 4] = [192, 0, 3, 1];
/// These are named by `docs/example.toml`, and by the rule that is added to it.
const NAMED: [u8; 4] = [198, 51, 100, 1];
const UNREACHED: [u8; 4] = [203, 0, 114, 1];
const OPERATOR: [u8; 4] = [192, 0, 2, 1];

/// Measures every line of these builds, and of the designs where they are wanted, in so many rounds of so many runs each.
pub(crate) fn costs(
    builds: &[Build<'_>],
    with_designs: bool,
    (rounds, repeat): (usize, u32),
) -> Result<Vec<Cost>> {
    let mut stage = Stage { networks: vec![], designs: vec![] };
    let mut subjects = vec![
        stage.design(BARE, Design::BARE, LOW, XDP_DROP)?,
        stage.design(SWITCH, Design::SWITCH, LOW, XDP_DROP)?,
        stage.design(LINE, Design::LINE, LOW, XDP_DROP)?,
    ];
    // Line by line, so that the builds' turns are next to each other.
    let mut of_builds = Vec::new();
    for build in builds {
        of_builds.push(stage.shedders(build)?.into_iter());
    }
    while let Some(line) = of_builds.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>()
        && !line.is_empty()
    {
        subjects.extend(line);
    }
    if with_designs {
        subjects.extend(stage.usual()?);
    }
    let mut expected = Vec::new();
    for subject in &subjects {
        // Enough to empty the bucket of a source that can.
        run(subject, 30_000)?;
        expected.push(stage.counted(subject)?);
    }
    for _ in 0..rounds {
        interrupt::check()?;
        for subject in &mut subjects {
            let start = Instant::now();
            run(subject, repeat)?;
            let nanoseconds = start.elapsed().as_nanos() as f64 / f64::from(repeat);
            subject.cost.nanoseconds.push(nanoseconds);
        }
    }
    // Several lines may count on one network under one reason.
    for (subject, before) in subjects.iter().zip(expected) {
        let runs = rounds as u64 * u64::from(repeat);
        let Some(counted) = stage.counted(subject)?.zip(before).map(|(after, before)| after - before) else {
            continue;
        };
        ensure!(
            counted >= runs - runs / 100,
            "{}, {}: {runs} runs, and the program counted {counted} under the reason it should have met",
            subject.cost.subject,
            subject.cost.frame
        );
    }
    Ok(subjects.into_iter().map(|subject| subject.cost).collect())
}

fn run(subject: &Subject<'_>, repeat: u32) -> Result<()> {
    let options = TestRunOptions { data_in: Some(&subject.frame), repeat, ..TestRunOptions::default() };
    let action = subject.program.test_run(options)?.return_value;
    ensure!(
        action == subject.action,
        "{}, {}: the program returned {action}, and was to return {}",
        subject.cost.subject,
        subject.cost.frame,
        subject.action
    );
    Ok(())
}

impl Stage {
    /// What the check of a subject counts.
    fn counted(&self, subject: &Subject<'_>) -> Result<Option<u64>> {
        match subject.check {
            Check::Action => Ok(None),
            Check::Reason(binary, network, reason) => Ok(Some(
                Status::read(&Shedder::of_build(&self.networks[network], binary.to_owned()))?
                    .met(0, reason)?,
            )),
        }
    }

    fn network(&mut self) -> Result<usize> {
        self.networks.push(Network::new("bench-cost")?);
        Ok(self.networks.len() - 1)
    }

    fn design(
        &mut self,
        name: &str,
        program: &'static str,
        limit: Limit,
        action: u32,
    ) -> Result<Subject<'static>> {
        let network = self.network()?;
        let mut design = Design::attach(program, limit, &self.networks[network])?;
        let pin = self.networks[network].bpffs().join("design");
        let pinned = design.pinned(&pin)?;
        self.designs.push(design);
        let frame = match action {
            _ if !Design::limits(program) => "any",
            XDP_PASS => ALLOWED,
            _ => DENIED,
        };
        Ok(Subject {
            cost: Cost { subject: name.into(), frame: frame.into(), nanoseconds: vec![] },
            program: pinned,
            frame: udp(ANYBODY),
            action,
            check: Check::Action,
        })
    }

    /// One configuration, and the lines that are measured of it.
    fn shedder<'a>(
        &mut self,
        build: &Build<'a>,
        name: &str,
        config: &str,
        is_killed: bool,
        lines: &[(&str, Vec<u8>, &'static str)],
    ) -> Result<Vec<Subject<'a>>> {
        let network = self.network()?;
        let shedder = Shedder::of_build(&self.networks[network], build.binary.to_owned());
        shed::enforce(&shedder, config)?;
        if is_killed {
            shed::run(&shedder, &["kill"])?;
        }
        lines
            .iter()
            .map(|(what, frame, reason)| {
                Ok(Subject {
                    cost: Cost {
                        subject: format!("{name}{}", build.label),
                        frame: (*what).into(),
                        nanoseconds: vec![],
                    },
                    program: shed::ingress(&shedder, 0)?,
                    frame: frame.clone(),
                    action: if ["admitted", "lifeline"].contains(reason) { XDP_PASS } else { XDP_DROP },
                    check: Check::Reason(build.binary, network, reason),
                })
            })
            .collect()
    }

    fn shedders<'a>(&mut self, build: &Build<'a>) -> Result<Vec<Subject<'a>>> {
        let mut all = Vec::new();
        let admitted = "admitted";
        all.extend(self.shedder(
            build,
            "shedder, nothing configured",
            shed::NOTHING,
            false,
            &[(ALLOWED, udp(ANYBODY), admitted), ("allowed, TCP", segment(ANYBODY), admitted)],
        )?);
        all.extend(self.shedder(
            build,
            LIMITED,
            &shed::limited(HIGH),
            false,
            &[(ALLOWED, udp(ANYBODY), admitted)],
        )?);
        all.extend(self.shedder(
            build,
            LIMITED,
            &shed::limited(LOW),
            false,
            &[(DENIED, udp(ANYBODY), "source-rate")],
        )?);
        let everything = shed::everything(LOW)?;
        all.extend(self.shedder(
            build,
            "shedder, everything on",
            &shed::unmeasured(&everything),
            false,
            &[
                ("allowed, UDP", udp(UNREACHED), admitted),
                ("allowed, TCP", segment(UNREACHED), admitted),
                (DENIED, udp(ANYBODY), "source-rate"),
                ("denied by a rule", udp(NAMED), "denied"),
            ],
        )?);
        all.extend(self.shedder(
            build,
            EVERYTHING,
            &everything,
            false,
            &[
                ("allowed, acknowledgement", acknowledgement(UNREACHED), admitted),
                ("allowed, request", segment(UNREACHED), admitted),
            ],
        )?);
        let operator = {
            let (source, destination) = ends(OPERATOR);
            let destination = SocketAddr::new(destination.ip(), 22);
            frame::tcp_data(ETHERNET, source, destination, (1, 1), &[0; 6])
        };
        all.extend(self.shedder(build, KILLED, shed::NOTHING, true, &[("any", udp(ANYBODY), "kill")])?);
        all.extend(self.shedder(
            build,
            "shedder, everything on, killed",
            &everything,
            true,
            &[("any", udp(ANYBODY), "kill"), ("a lifeline", operator, "lifeline")],
        )?);
        Ok(all)
    }

    fn usual(&mut self) -> Result<Vec<Subject<'static>>> {
        let mut all = Vec::new();
        for (name, program) in [(RECENT, Design::RECENT), (LOCKED, Design::LOCKED)] {
            all.push(self.design(name, program, HIGH, XDP_PASS)?);
            all.push(self.design(name, program, LOW, XDP_DROP)?);
        }
        Ok(all)
    }
}

/// The line of this subject and frame.
pub(crate) fn find<'a>(costs: &'a [Cost], subject: &str, frame: &str) -> Result<&'a Cost> {
    let found = costs.iter().find(|cost| cost.subject == subject && cost.frame.starts_with(frame));
    found.with_context(|| format!("{subject}, {frame} was not measured"))
}
