//! The verdict in the kernel: on named frames, and against the same code on the host.

use aya::maps::{Array, HashMap, Map, MapData, MapInfo};
use aya_obj::programs::XdpAttachType;
use aya::programs::{ProgramInfo, SchedClassifier, TestRun, TestRunOptions, Xdp};
use shedder_common::abi::{Policy, Ports, Prefix4, Prefix6, PrefixPolicy, maps};
use shedder_common::host::Host;
use shedder_common::host::frames::{named_frames, random_frame};
use shedder_common::ladder;
use shedder_common::reason::Reason;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const XDP_PASS: u32 = 2;
const TCX_NEXT: u32 = u32::MAX;

/// A value of a map, in a form that aya takes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value<T>(T);

// SAFETY: `bytemuck::Pod` asks for more than `aya::Pod` does.
unsafe impl<T: bytemuck::Pod> aya::Pod for Value<T> {}

/// The programs of one interface in the kernel, and the same policy on the host.
struct Both {
    ingress: Xdp,
    egress: SchedClassifier,
    host: Host,
}

impl Both {
    /// Reads back what is attached under these pins: the policy that the kernel froze, and the maps that go with it.
    fn attached(pins: &Path) -> Both {
        // The table of ports is a quarter of a megabyte by value, more than a test's thread has room for.
        let large = std::thread::Builder::new().stack_size(16 << 20);
        let pins = pins.to_owned();
        large.spawn(move || Both::read(&pins)).unwrap().join().unwrap()
    }

    fn read(pins: &Path) -> Both {
        let generation = only_entry(&pins.join("policy"));
        let pin = |name: &str| generation.join(name);
        let ingress = Xdp::from_pin(pin("ingress-0"), XdpAttachType::Interface).expect("the program is pinned");
        let egress = SchedClassifier::from_pin(pin("egress-0")).expect("the program is pinned");
        let mut host = Host::new(frozen_policy(&ingress.info().expect("a program has info")));
        let open = |name: &str| MapData::from_pin(pin(name)).expect("the map is pinned");
        let prefixes: HashMap<_, Value<Prefix4>, Value<PrefixPolicy>> =
            HashMap::try_from(Map::HashMap(open(maps::PREFIXES4))).unwrap();
        host.prefixes4 = prefixes.iter().map(|entry| entry.unwrap()).map(|(key, value)| (key.0, value.0)).collect();
        let prefixes: HashMap<_, Value<Prefix6>, Value<PrefixPolicy>> =
            HashMap::try_from(Map::HashMap(open(maps::PREFIXES6))).unwrap();
        host.prefixes6 = prefixes.iter().map(|entry| entry.unwrap()).map(|(key, value)| (key.0, value.0)).collect();
        let ports: Array<_, Value<Ports>> = Array::try_from(Map::Array(open(maps::PORTS))).unwrap();
        host.ports = Box::new(ports.get(&0, 0).unwrap().0);
        Both { ingress, egress, host }
    }

    /// Asks both about a frame: whether it passes in the kernel, and why on the host; in and out.
    fn judge(&self, frame: &[u8]) -> [(bool, Reason); 2] {
        self.host.now.set(monotonic());
        let options = || TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let refused = |error| panic!("the kernel refuses to run {} bytes: {error:?}", frame.len());
        let ingress = self.ingress.test_run(options()).unwrap_or_else(refused).return_value;
        let egress = self.egress.test_run(options()).unwrap_or_else(refused).return_value;
        [
            (ingress == XDP_PASS, ladder::ingress(&self.host, frame, frame.len())),
            (egress == TCX_NEXT, ladder::egress(&self.host, frame, frame.len())),
        ]
    }
}

fn only_entry(directory: &Path) -> PathBuf {
    let entries: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.into_iter().next().unwrap()
}

/// The policy in the read-only data of a program that is loaded.
fn frozen_policy(program: &ProgramInfo) -> Policy {
    let ids = program.map_ids().unwrap().expect("the kernel tells the maps of a program");
    let id = ids.into_iter().find(|id| {
        let info = MapInfo::from_id(*id).expect("a map of a loaded program exists");
        info.name_as_str() == Some(".rodata")
    });
    let data = MapData::from_id(id.expect("the program has read-only data")).unwrap();
    let map: Array<_, Value<Policy>> = Array::try_from(Map::Array(data)).unwrap();
    map.get(&0, 0).unwrap().0
}

fn monotonic() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    std::time::Duration::from(now).as_nanos() as u64
}

/// Everything whose verdict does not depend on how fast the machine is. The prefixes are those of the frames.
const EVERYTHING: &str = r#"
interfaces = ["$IF"]
[[lifeline]]
peers = ["10.0.0.0/12", "2001:db8:1::/48"]
ports = [22, 53, 443]
[[lifeline]]
peers = ["192.0.2.7/32"]
[[rule]]
sources = ["198.51.100.0/24", "128.0.0.0/3", "2001:db8:bad::/48"]
deny = true
[[rule]]
sources = ["203.0.113.0/24", "64.0.0.0/2", "2001:db8:2::/48"]
class = "critical"
[[service]]
name = "web"
protocol = "tcp"
port = 80
class = "low"
target = "50ms"
[[service]]
name = "dns"
protocol = "udp"
port = 53
class = "background"
shed = "packets"
target = "50ms"
"#;

fn attach<'a>(network: &'a Network, config: &str) -> Shedder<'a> {
    let shedder = Shedder::new(network);
    let config = shedder.config(config);
    shedder.ok(&["attach", "--config", config.to_str().unwrap()]);
    shedder
}

/// Says what differs, and counts the reasons that were met.
fn compare(both: &Both, frames: impl Iterator<Item = (String, Vec<u8>)>) -> BTreeMap<&'static str, usize> {
    let mut met = BTreeMap::new();
    for (name, frame) in frames {
        for (direction, (passed, reason)) in ["ingress", "egress"].into_iter().zip(both.judge(&frame)) {
            assert_eq!(
                passed,
                reason.passes(),
                "{direction} {name}: the kernel {} what the host calls {}: {frame:02x?}",
                if passed { "passes" } else { "drops" },
                reason.name()
            );
            *met.entry(reason.name()).or_insert(0) += 1;
        }
    }
    met
}

/// The kernel takes no frame shorter than an Ethernet header for a test run.
const SHORTEST: usize = 14;

fn named() -> impl Iterator<Item = (String, Vec<u8>)> {
    named_frames().into_iter().map(|(name, frame)| (name.to_owned(), frame)).filter(|(_, f)| f.len() >= SHORTEST)
}

#[test]
fn kernel_and_host_agree_on_every_named_frame() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("named-frames").unwrap();
    let shedder = attach(&network, EVERYTHING);
    let both = Both::attached(shedder.pins());
    let met = compare(&both, named());
    assert!(met["malformed"] > 0 && met["not-ip"] > 0 && met["admitted"] > 0, "{met:?}");
}

#[test]
fn kernel_and_host_agree_on_generated_frames() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("generated-frames").unwrap();
    let shedder = attach(&network, EVERYTHING);
    // Half of what can be shed is shed.
    shedder.ok(&["shed", "50"]);
    let both = Both::attached(shedder.pins());
    both.host.control.host_override.store(override_word(shedder.pins()));
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    println!("seed {seed}");
    let frames = (0..100_000).map(|i| seed.wrapping_mul(1_000_003).wrapping_add(i));
    let frames = frames.map(|seed| (format!("random_frame({seed})"), random_frame(seed)));
    let met = compare(&both, frames.filter(|(_, frame)| frame.len() >= SHORTEST));
    println!("{met:?}");
    for reason in ["admitted", "malformed", "not-ip", "denied", "lifeline", "shed"] {
        assert!(met.contains_key(reason), "no generated frame met {reason}: {met:?}");
    }
}

#[test]
fn kernel_and_host_agree_under_every_kill() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("killed-frames").unwrap();
    let shedder = attach(&network, EVERYTHING);
    let both = Both::attached(shedder.pins());
    for arguments in [&["kill"][..], &["kill", "--total"], &["kill", "--service", "web"], &["resume"]] {
        shedder.ok(arguments);
        let kills = read_kills(shedder.pins());
        both.host.kills.host.store(kills[0]);
        for (slot, word) in both.host.kills.services.iter().enumerate() {
            word.store(kills[1 + both.host.kills.interfaces.len() + slot]);
        }
        let met = compare(&both, named());
        assert_eq!(arguments[0] == "kill", met.contains_key("kill"), "{arguments:?}: {met:?}");
    }
}

#[test]
fn every_frame_is_counted_once_under_its_reason() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("counted-frames").unwrap();
    let shedder = attach(&network, EVERYTHING);
    let both = Both::attached(shedder.pins());
    let before = reasons(&shedder);
    let mut expected: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for (_, frame) in named() {
        for (direction, (_, reason)) in ["ingress", "egress"].into_iter().zip(both.judge(&frame)) {
            let (packets, bytes) = expected.entry((direction, reason.name())).or_default();
            *packets += 1;
            *bytes += frame.len() as u64;
        }
    }
    let after = reasons(&shedder);
    for direction in ["ingress", "egress"] {
        for reason in Reason::ALL.map(Reason::name) {
            let of = |status: &serde_json::Value, what: &str| {
                status[direction]["reasons"][reason][what].as_u64().unwrap_or(0)
            };
            let counted = (of(&after, "packets") - of(&before, "packets"), of(&after, "bytes") - of(&before, "bytes"));
            let expected = expected.get(&(direction, reason)).copied().unwrap_or_default();
            assert_eq!(counted, expected, "{direction} {reason}");
        }
    }
}

/// The first interface, as `status` shows it.
fn reasons(shedder: &Shedder<'_>) -> serde_json::Value {
    let status: serde_json::Value = serde_json::from_str(&shedder.status().expect("it is attached")).unwrap();
    status["interfaces"][0].clone()
}

fn words<const N: usize>(pin: &Path) -> [u64; N] {
    let map = Map::Array(MapData::from_pin(pin).unwrap());
    let map: Array<_, Value<[u64; N]>> = Array::try_from(map).unwrap();
    map.get(&0, 0).unwrap().0
}

fn read_kills(pins: &Path) -> [u64; 321] {
    words(&pins.join("maps").join(maps::KILLS))
}

/// The second word of the control map.
fn override_word(pins: &Path) -> u64 {
    words::<514>(&pins.join("maps").join(maps::CONTROL))[1]
}
