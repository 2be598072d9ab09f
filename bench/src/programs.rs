//! The benchmark's own programs, loaded.

#[path = "../ebpf/src/plan.rs"]
pub(crate) mod plan;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use aya_obj::programs::XdpAttachType;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use plan::{Counts, Plan, TABLE, Tally};
use serde::Serialize;
use shedder_tests::netns::{Namespace, Network};
use std::path::Path;
use std::time::Duration;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench-ebpf"));

// SAFETY: made of integers without padding between them.
unsafe impl aya::Pod for Plan {}
// SAFETY: as above.
unsafe impl aya::Pod for Tally {}
// SAFETY: as above.
unsafe impl aya::Pod for Counts {}

/// A limit per source: so many a second, of which so many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Limit {
    pub(crate) per_second: u64,
    pub(crate) burst: u64,
}

/// Loads the object with room for so many sources in the tables of the designs.
fn load(room: u32, limit: Limit) -> Result<Ebpf> {
    let cost = 1_000_000_000 / limit.per_second;
    let tolerance = cost * (limit.burst - 1);
    EbpfLoader::new()
        .map_max_entries("RECENT", room)
        .map_max_entries("BUCKETS", room)
        .override_global("COST", &cost, true)
        .override_global("TOLERANCE", &tolerance, true)
        .load(OBJECT)
        .context("reading the benchmark's programs")
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("there is no program {name}"))?;
    let program: &mut Xdp = program.try_into()?;
    program.load().with_context(|| format!("loading {name}"))?;
    Ok(program)
}

/// Attaches a program for as long as the network's interface exists or the program's holder lives.
fn attach(program: &mut Xdp, network: &Network) -> Result<()> {
    let interface = network.link().interface.clone();
    network.server.run(|| program.attach(&interface, XdpMode::Driver).map(drop))??;
    Ok(())
}

/// A program that is held against shedder's.
pub(crate) struct Design {
    ebpf: Ebpf,
    name: &'static str,
}

impl Design {
    /// The two instructions that drop everything.
    pub(crate) const BARE: &'static str = "bare";
    /// The least that a switch can do: a word, and a count.
    pub(crate) const SWITCH: &'static str = "switch";
    /// The least that a limit per source can do: a line of memory, and a count.
    pub(crate) const LINE: &'static str = "line";
    /// A least-recently-used hash and compare-and-swap.
    pub(crate) const RECENT: &'static str = "recent";
    /// A hash, a spin lock and the precise clock.
    pub(crate) const LOCKED: &'static str = "locked";

    /// Whether it limits sources, and has a table of them; else it drops everything.
    pub(crate) fn limits(name: &str) -> bool {
        [Design::RECENT, Design::LOCKED].contains(&name)
    }

    /// Loads one and attaches it to the network's server: the kernel calls what is attached directly, and for what is not it patches
    /// its own code at each test run, which takes milliseconds.
    pub(crate) fn attach(name: &'static str, limit: Limit, network: &Network) -> Result<Design> {
        let room = if Design::limits(name) { TABLE as u32 } else { 1 };
        let mut ebpf = load(room, limit)?;
        attach(xdp(&mut ebpf, name)?, network)?;
        Ok(Design { ebpf, name })
    }

    /// The program, pinned on a bpffs and opened once more.
    pub(crate) fn pinned(&mut self, pin: &Path) -> Result<Xdp> {
        let program: &mut Xdp = self.ebpf.program_mut(self.name).context("it was loaded")?.try_into()?;
        program.pin(pin).with_context(|| format!("pinning at {}", pin.display()))?;
        Ok(Xdp::from_pin(pin, XdpAttachType::Interface)?)
    }

    /// What it let pass and dropped.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let map: PerCpuArray<_, Counts> =
            PerCpuArray::try_from(self.ebpf.map("COUNTS").context("it counts")?)?;
        let sum = |sum: Counts, cpu: &Counts| Counts {
            passed: sum.passed + cpu.passed,
            dropped: sum.dropped + cpu.dropped,
        };
        Ok(map.get(&0, 0)?.iter().fold(Counts::default(), sum))
    }
}

/// Pins a classifier that drops everything, for `tc` to attach.
pub(crate) fn pin_shot(pin: &Path) -> Result<()> {
    let mut ebpf = load(1, Limit { per_second: 1, burst: 1 })?;
    let program: &mut SchedClassifier =
        ebpf.program_mut("shot").context("there is no program shot")?.try_into()?;
    program.load()?;
    program.pin(pin)?;
    Ok(())
}

/// What makes load.
pub(crate) struct Generator {
    ebpf: Ebpf,
}

/// What it made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    /// Frames, and those of regular sources among them.
    pub(crate) frames: u64,
    pub(crate) regular: u64,
    /// From the first to the last but a few.
    pub(crate) time: Duration,
    /// How many were made in that time.
    pub(crate) timed: u64,
}

impl Made {
    /// Frames a second.
    pub(crate) fn rate(&self) -> f64 {
        self.timed as f64 / self.time.as_secs_f64()
    }

    /// Nanoseconds of one CPU that one frame took, where so many made them at the same time.
    pub(crate) fn nanoseconds(&self, cpus: usize) -> f64 {
        self.time.as_nanos() as f64 * cpus as f64 / self.timed as f64
    }
}

impl Generator {
    pub(crate) fn load() -> Result<Generator> {
        let mut ebpf = load(1, Limit { per_second: 1, burst: 1 })?;
        xdp(&mut ebpf, "generate")?;
        Ok(Generator { ebpf })
    }

    /// Sends frames out of the network's client, made on these CPUs at the same time.
    pub(crate) fn send(
        &mut self,
        network: &Network,
        plan: Plan,
        frame: &[u8],
        frames: u64,
        cpus: &[usize],
    ) -> Result<Made> {
        // As many as the kernel takes at once unless told.
        const BATCH: u32 = 64;
        let interface = network.link().interface.as_str();
        let index = network.client.run(|| nix::net::if_::if_nametoindex(interface))??;
        self.reset(Plan { interface: index, ..plan })?;
        let attrs = || TestRunAttrs::new().xdp_live_frames(BATCH);
        self.run(&network.client, frame, frames, cpus, attrs)
    }

    /// Makes frames on these CPUs at the same time, and hands each to `program` in place; those of regular sources to
    /// another.
    pub(crate) fn hand(
        &mut self,
        [others, regular]: [&ProgramFd; 2],
        network: &Network,
        plan: Plan,
        frame: &[u8],
        frames: u64,
        cpus: &[usize],
    ) -> Result<Made> {
        let map = self.ebpf.map_mut("NEXT").context("it hands frames on")?;
        let mut next: ProgramArray<&mut MapData> = ProgramArray::try_from(map)?;
        for (index, program) in [(0, others), (1, regular)] {
            next.set(index, program, 0).context("the generator cannot hand frames to a program")?;
        }
        self.reset(Plan { interface: 0, ..plan })?;
        self.run(&network.client, frame, frames, cpus, TestRunAttrs::new)
    }

    fn run(
        &self,
        namespace: &Namespace,
        frame: &[u8],
        frames: u64,
        cpus: &[usize],
        attrs: impl Fn() -> TestRunAttrs + Sync,
    ) -> Result<Made> {
        let repeat = u32::try_from(frames / cpus.len() as u64)?;
        let program: &Xdp = self.ebpf.program("generate").context("it was loaded")?.try_into()?;
        let run = |cpu: usize| {
            let options =
                TestRunOptions { data_in: Some(frame), repeat, attrs: attrs(), ..TestRunOptions::default() };
            let run = || stay_on(cpu).and_then(|()| Ok(program.test_run(options)?));
            namespace.run(run)?.context("running the generator")
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || run(cpu))).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(drop)
            })
        })?;
        let tallies = self.tallies()?;
        let made = Made {
            frames: tallies.iter().map(|it| it.frames + it.regular).sum(),
            regular: tallies.iter().map(|it| it.regular).sum(),
            time: Duration::from_nanos(
                tallies.iter().map(|it| it.last).max().unwrap_or_default()
                    - tallies.iter().map(|it| it.first).min().unwrap_or_default(),
            ),
            timed: tallies.iter().map(|it| it.at_last).sum(),
        };
        ensure!(
            made.frames >= u64::from(repeat) * cpus.len() as u64 && made.time > Duration::ZERO,
            "the generator made {} of {frames} frames",
            made.frames
        );
        Ok(made)
    }

    fn tallies(&self) -> Result<Vec<Tally>> {
        let map: PerCpuArray<_, Tally> = PerCpuArray::try_from(self.ebpf.map("TALLY").context("it counts")?)?;
        Ok(map.get(&0, 0)?.iter().copied().filter(|tally| tally.frames > 0).collect())
    }

    fn reset(&mut self, plan: Plan) -> Result<()> {
        let map = self.ebpf.map_mut("PLAN").context("it has a plan")?;
        Array::<_, Plan>::try_from(map)?.set(0, plan, 0)?;
        let none = PerCpuValues::try_from(vec![Tally::default(); nr_cpus().map_err(|(_, error)| error)?])?;
        let map = self.ebpf.map_mut("TALLY").context("it counts")?;
        PerCpuArray::<_, Tally>::try_from(map)?.set(0, none, 0)?;
        Ok(())
    }
}

/// Keeps the calling thread on one CPU.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("there is no CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("moving to CPU {cpu}"))
}
