//! What is attached under a directory of pins, read back from the kernel: its programs, run on one frame at a time
//! without a network (`BPF_PROG_TEST_RUN`), the policy that was frozen into them, and what their maps hold.
//!
//! A test that finds a pin missing or a map of another shape has found a defect: everything here panics on that.

mod bare;

pub use bare::bare_drop;

use crate::bpf;
use crate::shedder::Shedder;
use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::{ProgramInfo, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use bytemuck::Zeroable;
use shedder_common::abi::{
    Cell, Control, FlowSet, InterfaceCounters, MAX_INTERFACES, MAX_SERVICES, Measured, OfInterface, Policy,
    Ports, Prefix4, Prefix6, PrefixPolicy, ServiceControl, maps,
};
use shedder_common::bucket::{Set, WAYS};
use shedder_common::flows::{self, Outstanding};
use shedder_common::prefix::{Prefix, PrefixSet};
use shedder_common::reason::{REASONS, Reason};
use std::collections::HashMap;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel takes no shorter frame for a test run: an Ethernet header.
pub const SHORTEST: usize = 14;

/// What an XDP program returns to drop a frame.
pub const XDP_DROP: u32 = 1;
/// What an XDP program returns to let a frame pass.
pub const XDP_PASS: u32 = 2;
const TCX_NEXT: u32 = u32::MAX;

/// A value of a map, in a form that aya takes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value<T>(T);

// SAFETY: `bytemuck::Pod` asks for more than `aya::Pod` does.
unsafe impl<T: bytemuck::Pod> aya::Pod for Value<T> {}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It arrives.
    Ingress,
    /// It leaves.
    Egress,
}

/// What the kernel said to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The reason whose counter moved.
    pub reason: Reason,
    /// Whether the program let the frame go on.
    pub passed: bool,
    /// Whether it was counted as judged dry.
    pub is_dry: bool,
}

/// Puts a configuration in force without a daemon, and opens what is attached.
pub fn attach(shedder: &Shedder<'_>, config: &str) -> Attached {
    let config = shedder.config(config);
    shedder.ok(&["attach", "--config", config.to_str().expect("the path is text")]);
    Attached::under(shedder.pins())
}

/// The programs and maps of the first interface under a directory of pins.
#[derive(Debug)]
pub struct Attached {
    pins: PathBuf,
    policy_pins: PathBuf,
    ingress: Xdp,
    egress: SchedClassifier,
}

impl Attached {
    /// Opens what is attached under these pins. What is attached later is not seen: open anew after that.
    pub fn under(pins: &Path) -> Attached {
        let policy_pins = only_entry(&pins.join("policy"));
        let ingress = Xdp::from_pin(policy_pins.join("ingress-0"), XdpAttachType::Interface);
        let egress = SchedClassifier::from_pin(policy_pins.join("egress-0"));
        Attached {
            ingress: ingress.expect("the ingress program is pinned"),
            egress: egress.expect("the egress program is pinned"),
            pins: pins.to_owned(),
            policy_pins,
        }
    }

    /// The program that judges what arrives.
    pub fn ingress(&self) -> &Xdp {
        &self.ingress
    }

    /// The program that judges what leaves.
    pub fn egress(&self) -> &SchedClassifier {
        &self.egress
    }

    /// Whether a frame that arrives passes. It has [`SHORTEST`] bytes or more.
    pub fn receives(&self, frame: &[u8]) -> bool {
        run(&self.ingress, frame, 1) == XDP_PASS
    }

    /// Whether a frame that leaves passes; none: the kernel makes no buffer of one that ends inside the IP header
    /// that its Ethernet header promises.
    pub fn sends(&self, frame: &[u8]) -> Option<bool> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        match self.egress.test_run(options) {
            Ok(run) => Some(run.return_value == TCX_NEXT),
            Err(_) if frame.len() < 54 => None,
            Err(error) => panic!("the kernel refuses to run {} bytes: {error}", frame.len()),
        }
    }

    /// Runs a frame, and finds why it met what it met in the counters. Nothing else may pass meanwhile.
    ///
    /// # Panics
    /// Where it was not counted exactly once with its whole length, or the kernel takes no such frame.
    pub fn judge(&self, direction: Direction, frame: &[u8]) -> Verdict {
        let before = self.counters();
        let passed = match direction {
            Direction::Ingress => self.receives(frame),
            Direction::Egress => self.sends(frame).expect("a frame with its headers"),
        };
        let after = self.counters();
        let InterfaceCounters { ingress, ingress_dry, egress, egress_dry, .. } = since(&before, &after);
        let cells = [ingress, ingress_dry, egress, egress_dry].concat();
        let moved: Vec<(usize, Cell)> =
            cells.into_iter().enumerate().filter(|(_, cell)| *cell != Cell::default()).collect();
        let once = Cell { packets: 1, bytes: frame.len() as u64 };
        let [(place, cell)] = moved[..] else { panic!("counted in {} places: {moved:?}", moved.len()) };
        assert_eq!(cell, once, "a frame is counted once, with all its bytes");
        let (table, reason) = (place / REASONS, place % REASONS);
        assert_eq!(table / 2, direction as usize, "{direction:?} was counted as the other direction");
        Verdict { reason: Reason::ALL[reason], passed, is_dry: table % 2 == 1 }
    }

    /// The counters of the interface, one for each CPU.
    pub fn counters_by_cpu(&self) -> Vec<InterfaceCounters> {
        let all: Vec<OfInterface> = entries(&self.state_pin(maps::COUNTERS));
        let cpus = all.len() / MAX_INTERFACES;
        all[..cpus].iter().map(|cpu| cpu.counters).collect()
    }

    /// The counters of the interface, summed over the CPUs.
    pub fn counters(&self) -> InterfaceCounters {
        self.counters_by_cpu().iter().fold(InterfaceCounters::default(), |sum, cpu| add(&sum, cpu))
    }

    /// The policy in the program's read-only data.
    pub fn policy(&self) -> Policy {
        let program: ProgramInfo = self.ingress.info().expect("a program has info");
        let ids = program.map_ids().expect("the kernel answers").expect("the kernel tells a program's maps");
        let is_read_only = |id: &u32| {
            let info = MapInfo::from_id(*id).expect("a map of a loaded program exists");
            info.name_as_str() == Some(".rodata.policy")
        };
        let id = ids.into_iter().find(is_read_only).expect("the program has read-only data");
        let map = Map::Array(MapData::from_id(id).expect("the map can be opened"));
        let map: Array<_, Value<Policy>> = Array::try_from(map).expect("the policy's shape");
        map.get(&0, 0).expect("the policy is there").0
    }

    /// What holds for IPv4 prefixes.
    pub fn prefixes4(&self) -> HashMap<Prefix4, PrefixPolicy> {
        self.prefixes(maps::PREFIXES4)
    }

    /// What holds for IPv6 prefixes.
    pub fn prefixes6(&self) -> HashMap<Prefix6, PrefixPolicy> {
        self.prefixes(maps::PREFIXES6)
    }

    fn prefixes<P: Prefix + std::hash::Hash>(&self, name: &str) -> HashMap<P, PrefixPolicy>
    where
        PrefixSet<P>: bytemuck::Pod,
    {
        let rules: Vec<PrefixPolicy> = entries(&self.policy_pins.join(maps::RULES));
        let sets: Vec<PrefixSet<P>> = entries(&self.policy_pins.join(name));
        let ways = sets.iter().flat_map(|set| set.prefixes.into_iter().zip(set.entries));
        ways.filter(|(_, entry)| *entry != 0).map(|(prefix, entry)| (prefix, rules[entry as usize])).collect()
    }

    /// Which ports belong to services.
    pub fn ports(&self) -> Box<Ports> {
        let pin = self.policy_pins.join(maps::PORTS);
        let read = move || {
            let map: Array<_, Value<Ports>> =
                Array::try_from(Map::Array(open(&pin))).expect("the ports' shape");
            Box::new(map.get(&0, 0).expect("the ports are there").0)
        };
        // The table is a quarter of a megabyte by value, more than a test's thread has room for.
        let large = std::thread::Builder::new().stack_size(16 << 20);
        large.spawn(read).expect("a thread can be started").join().expect("reading the ports does not panic")
    }

    /// What was measured of the service in this slot, summed over the CPUs; wraps.
    pub fn measured(&self, slot: u32) -> Measured {
        let all: Vec<Measured> = entries(&self.policy_pins.join(maps::MEASURED));
        let cpus = self.policy().cpu_mask as usize + 1;
        let mut sum = Measured::zeroed();
        for cpu in all.iter().skip(slot as usize * cpus).take(cpus) {
            let counts: &mut [u32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut sum));
            let others: &[u32] = bytemuck::cast_slice(std::slice::from_ref(cpu));
            counts.iter_mut().zip(others).for_each(|(count, other)| *count = count.wrapping_add(*other));
        }
        sum
    }

    /// Everything that waits for the host.
    pub fn outstanding(&self) -> Vec<Outstanding> {
        const WORDS: usize = size_of::<FlowSet>() / 8;
        let flows: Vec<[u64; WORDS]> = entries(&self.state_pin(maps::FLOWS));
        let keys: Vec<[u64; WAYS]> = entries(&self.state_pin(maps::FLOW_KEYS));
        let mut all = Vec::new();
        for (flows, keys) in flows.into_iter().zip(keys) {
            let set = FlowSet::default();
            let lines = [&set.arrived, &set.answered, &set.holes, &set.singles];
            let places = lines.into_iter().flat_map(|line| &line.0);
            let places = places.chain(set.flows.iter().flat_map(|flow| &flow.batches));
            places.zip(flows).for_each(|(place, word)| place.store(word));
            let of_set = Set::default();
            of_set.0.iter().zip(keys).for_each(|(place, word)| place.store(word));
            flows::outstanding(&of_set, &set, monotonic(), |one| all.push(one));
        }
        all
    }

    /// A service's answers that were later than its reflex allows.
    pub fn late(&self, service: usize) -> u64 {
        let words: [u64; size_of::<Control>() / 8] = words(&self.state_pin(maps::CONTROL));
        words[(1 + service) * size_of::<ServiceControl>() / 8 + offset_of!(ServiceControl, late) / 8]
    }

    /// Puts other words into a service's control, all of which `change` gives: what it leaves out becomes zero.
    pub fn change_control(&self, service: usize, change: impl FnOnce(&ServiceControl)) {
        const WORDS: usize = size_of::<Control>() / 8;
        const OF_SERVICE: usize = size_of::<ServiceControl>() / 8;
        let map = Map::Array(open(&self.state_pin(maps::CONTROL)));
        let mut map: Array<_, Value<[u64; WORDS]>> = Array::try_from(map).expect("the control's shape");
        let mut words = map.get(&0, 0).expect("the control is there").0;
        let control = ServiceControl::default();
        change(&control);
        let changed = [&control.shed, &control.override_word, &control.reflex, &control.late, &control.skip];
        let from = (1 + service) * OF_SERVICE;
        words[from..from + changed.len()].iter_mut().zip(changed).for_each(|(to, word)| *to = word.load());
        map.set(0, Value(words), 0).expect("the control can be written");
    }

    /// The words of the switch: the host's, the interfaces', the services'.
    pub fn kills(&self) -> [u64; 1 + MAX_INTERFACES + MAX_SERVICES] {
        words(&self.state_pin(maps::KILLS))
    }

    /// A person's override of everything.
    pub fn host_override(&self) -> u64 {
        let control: [u64; size_of::<Control>() / 8] = words(&self.state_pin(maps::CONTROL));
        control[offset_of!(Control, host_override) / 8]
    }

    fn state_pin(&self, name: &str) -> PathBuf {
        self.pins.join("maps").join(name)
    }
}

/// What was counted from one reading of the counters to a later one.
pub fn since(before: &InterfaceCounters, after: &InterfaceCounters) -> InterfaceCounters {
    combine(after, before, u64::wrapping_sub)
}

/// Both counters together.
pub fn add(a: &InterfaceCounters, b: &InterfaceCounters) -> InterfaceCounters {
    combine(a, b, u64::wrapping_add)
}

/// Combines two sets of counters, count by count.
fn combine(a: &InterfaceCounters, b: &InterfaceCounters, with: fn(u64, u64) -> u64) -> InterfaceCounters {
    // Counters are nothing but words of 64 bits.
    let mut result = *a;
    let words: &mut [u64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut result));
    let others: &[u64] = bytemuck::cast_slice(std::slice::from_ref(b));
    words.iter_mut().zip(others).for_each(|(word, &other)| *word = with(*word, other));
    result
}

/// Runs a program `repeat` times on one frame. Its last action.
pub fn run(program: &Xdp, frame: &[u8], repeat: u32) -> u32 {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
    program.test_run(options).expect("the kernel runs the program").return_value
}

/// Nanoseconds of CLOCK_MONOTONIC, the clock that the programs read.
pub fn monotonic() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
    Duration::from(now).as_nanos() as u64
}

fn only_entry(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory).expect("the directory of policies is there");
    let entries: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    assert_eq!(entries.len(), 1, "one policy is in force: {entries:?}");
    entries.into_iter().next().expect("it was counted")
}

fn open(pin: &Path) -> MapData {
    MapData::from_pin(pin).unwrap_or_else(|error| panic!("{} is no map: {error}", pin.display()))
}

/// The entries of a table, which lie side by side in the one value of its map.
fn entries<T: bytemuck::Pod>(pin: &Path) -> Vec<T> {
    let value = bpf::read_value(pin, 0).expect("the table can be read");
    assert!(value.len().is_multiple_of(size_of::<T>()), "{} is no table of that", pin.display());
    value.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

fn words<const N: usize>(pin: &Path) -> [u64; N] {
    let map: Array<_, Value<[u64; N]>> = Array::try_from(Map::Array(open(pin))).expect("an array of words");
    map.get(&0, 0).expect("the words are there").0
}
