//! The verdict in the kernel: on named frames, and against the same code on the host.

use shedder_common::host::Host;
use shedder_common::host::frames::{named_frames, random_frame};
use shedder_common::reason::Reason;
use shedder_tests::kernel::{Attached, SHORTEST, monotonic};
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::random::Random;
use shedder_tests::shedder::Shedder;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The programs of one interface in the kernel, and the same policy on the host.
struct Both {
    kernel: Attached,
    host: Host,
}

impl Both {
    /// Reads back what is attached under these pins: the policy that the kernel froze, and the maps that go with it.
    fn attached(pins: &Path) -> Both {
        let kernel = Attached::under(pins);
        let mut host = Host::new(kernel.policy());
        host.prefixes4 = kernel.prefixes4();
        host.prefixes6 = kernel.prefixes6();
        host.ports = kernel.ports();
        Both { kernel, host }
    }

    /// Asks both about a frame: whether it passes in the kernel, and why on the host; in, and out where the kernel
    /// makes a buffer of the frame.
    fn judge(&self, frame: &[u8]) -> Vec<(&'static str, bool, Reason)> {
        self.host.now.set(monotonic());
        let passes = self.kernel.receives(frame);
        let mut verdicts = vec![("ingress", passes, self.host.ingress(frame))];
        if let Some(passes) = self.kernel.sends(frame) {
            verdicts.push(("egress", passes, self.host.egress(frame)));
        }
        verdicts
    }
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
        for (direction, passed, reason) in both.judge(&frame) {
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

fn named() -> impl Iterator<Item = (String, Vec<u8>)> {
    named_frames()
        .into_iter()
        .map(|(name, frame)| (name.to_owned(), frame))
        .filter(|(_, f)| f.len() >= SHORTEST)
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

/// How many frames are generated, in place of [`GENERATED`].
const FRAMES: &str = "SHEDDER_FRAMES";
const GENERATED: u64 = 100_000;

/// A tenth of them are judged by each of these as well, which have other programs: what is off is not in them.
const OTHERS: [&str; 3] = [
    "interfaces = [\"$IF\"]\n",
    "interfaces = [\"$IF\"]\nposture = \"closed\"\n[[lifeline]]\npeers = [\"192.0.2.0/28\", \"2001:db8::/32\"]\n",
    "interfaces = [\"$IF\"]\n[source]\npackets_per_second = 1_000_000_000\nipv6_prefix = 128\n[[service]]\nname = \"web\"\n\
     protocol = \"tcp\"\nport = 8080\nshed = \"packets\"\nclass = \"sheddable\"\n",
];

fn generated(count: u64) -> impl Iterator<Item = (String, Vec<u8>)> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    println!("seed {seed}");
    let seeds = (0..count).map(move |i| seed.wrapping_mul(1_000_003).wrapping_add(i));
    // A frame of every eight is a named one with damage, on which a seed of another frame is written.
    let frame = |seed: u64| match seed % 8 {
        0 => (format!("mutated({seed})"), mutated(seed)),
        _ => (format!("random_frame({seed})"), random_frame(seed)),
    };
    seeds.map(frame).filter(|(_, frame)| frame.len() >= SHORTEST)
}

/// A named frame, with bytes of another frame in it.
fn mutated(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let named = named_frames();
    let mut frame = named[random.below(named.len())].1.clone();
    let other = &named[random.below(named.len())].1;
    let from = random.below(frame.len().max(1));
    let length = random.below(24);
    for (to, with) in frame.iter_mut().skip(from).take(length).zip(other.iter().skip(from)) {
        *to = *with;
    }
    frame
}

/// The same frames, the same verdict: [`GENERATED`] of them, or as many as [`FRAMES`] says.
#[test]
fn kernel_and_host_agree_on_generated_frames() {
    if !privileged::require() {
        return;
    }
    let count =
        std::env::var(FRAMES).ok().map_or(GENERATED, |count| count.parse().expect("a number of frames"));
    let network = Network::new("generated-frames").unwrap();
    let shedder = attach(&network, EVERYTHING);
    // Half of what can be shed is shed.
    shedder.ok(&["shed", "50"]);
    let both = Both::attached(shedder.pins());
    both.host.control.host_override.store(both.kernel.host_override());
    let met = compare(&both, generated(count));
    println!("{met:?}");
    for reason in ["admitted", "malformed", "not-ip", "denied", "lifeline", "shed"] {
        assert!(met.contains_key(reason), "no generated frame met {reason}: {met:?}");
    }
    for config in OTHERS {
        let shedder = attach(&network, config);
        let both = Both::attached(shedder.pins());
        both.host.control.host_override.store(both.kernel.host_override());
        println!("{:?}", compare(&both, generated(count / 10)));
    }
}

#[test]
fn kernel_and_host_agree_on_what_the_fuzzer_kept() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("fuzzed-frames").unwrap();
    let shedder = attach(&network, EVERYTHING);
    let both = Both::attached(shedder.pins());
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/frame");
    let frames = std::fs::read_dir(corpus).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.display().to_string(), std::fs::read(path).unwrap())
    });
    compare(&both, frames.filter(|(_, frame)| frame.len() >= SHORTEST));
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
        let kills = both.kernel.kills();
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
        for (direction, _, reason) in both.judge(&frame) {
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
            let counted =
                (of(&after, "packets") - of(&before, "packets"), of(&after, "bytes") - of(&before, "bytes"));
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
