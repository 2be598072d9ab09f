//! From a configuration to what a program is loaded with. Pure: nothing here touches a map.

use super::prefixes;
use crate::config::{Config, Mode, Posture, Protocol, Rates, Rule, Shed, Signal, Since};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shedder_common::abi::{
    ABI_VERSION, Limits, MAX_LIFELINE_PORTS, MAX_PREFIX_LENGTHS, Policy, PortEntry, Prefix4, Prefix6,
    PrefixPolicy,
};
use shedder_common::bucket::{Rate, WAYS};
use shedder_common::class::Class;
use shedder_common::hash::HashKey;
use shedder_common::ladder::upper_bits;
use shedder_common::memory;
use shedder_common::prefix::PrefixSet;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Sets in the tables of proven sources and of UDP flows: room for 262,144 of each, 2 MB.
pub(super) const MEMORY_SETS: u32 = 1 << 15;

/// How long a silent UDP flow is known. As long as Linux's connection tracking keeps a stream.
const UDP_FLOW_TTL: Duration = Duration::from_secs(120);

/// The longest frame that is charged at once: a merged segment in generic mode.
const LONGEST_FRAME: u64 = 1 << 19;

/// Everything that a configuration makes of the maps of one generation.
pub(super) struct Compiled {
    /// Of every interface; only `interface` differs.
    pub(super) policy: Policy,
    pub(super) prefixes4: Vec<PrefixSet<Prefix4>>,
    pub(super) prefixes6: Vec<PrefixSet<Prefix6>>,
    /// By the entries of the prefixes, which count from 1; before them, what holds for everybody else.
    pub(super) rules: Vec<PrefixPolicy>,
    /// UDP or TCP, port, entry.
    pub(super) ports: Vec<(Protocol, u16, PortEntry)>,
    /// Slots that the distribution of offered priorities needs: the services' and one more.
    pub(super) offered_slots: u32,
    pub(super) bucket_sets: BucketSets,
}

/// How many sets each table of buckets has: one where the limit is off.
#[derive(Clone, Copy)]
pub(super) struct BucketSets {
    pub(super) packets: u32,
    pub(super) bytes: u32,
    pub(super) new_flows: u32,
}

/// Compiles a configuration. `slots` gives each service's slot, in the configuration's order; `tick` is how often the
/// coarse clock moves.
pub(super) fn compile(config: &Config, slots: &[u8], key: HashKey, tick: Duration) -> Compiled {
    let default_limits = limits(config, &Rule::default());
    let prefixes = resolve(config);
    let rates = |of: fn(&Limits) -> &Rate| -> Vec<Rate> {
        let ruled = prefixes.values().map(|policy| *of(&policy.limits));
        ruled.chain([*of(&default_limits)]).filter(|rate| !rate.is_unlimited()).collect()
    };
    let (packets, bytes, new_flows) = (rates(|l| &l.packets), rates(|l| &l.bytes), rates(|l| &l.new_flows));
    let horizon = |rates: &[Rate], amount| rates.iter().map(|rate| rate.horizon(amount)).max().unwrap_or(0);
    let newcomers = Rate::new(config.newcomers.packets_per_second, nanos(config.source.burst));

    // The coarse clock is right where a bucket holds at least two of its ticks.
    let all = packets.iter().chain(&bytes).chain(&new_flows).chain(Some(&newcomers));
    let is_fine = all.filter(|rate| !rate.is_unlimited()).any(|rate| rate.tolerance < 2 * nanos(tick));

    let table = config.source.table / WAYS as u32;
    let sets = |rates: &[Rate]| if rates.is_empty() { 1 } else { table };
    let mut flags = 0;
    let mut flag = |is_set: bool, bit: u32| flags |= if is_set { bit } else { 0 };
    flag(config.dry_run, Policy::DRY_RUN);
    flag(is_fine, Policy::PRECISE_CLOCK);
    flag(!config.services.is_empty(), Policy::SERVICES);
    flag(!config.lifelines.is_empty(), Policy::LIFELINES);
    flag(config.services.iter().any(|service| service.signal.is_passive()), Policy::MEASURED);
    flag(!prefixes.is_empty(), Policy::PREFIXES);

    let (mut keys4, mut keys6) = (Vec::new(), Vec::new());
    let (mut rules4, mut rules6) = (Vec::new(), Vec::new());
    for (net, policy) in prefixes {
        match net {
            IpNet::V4(net) => (keys4.push(key4(net)), rules4.push(policy)),
            IpNet::V6(net) => (keys6.push(key6(net)), rules6.push(policy)),
        };
    }
    let (lengths4, length_count4) = lengths(keys4.iter().map(|prefix| prefix.length));
    let (lengths6, length_count6) = lengths(keys6.iter().map(|prefix| prefix.length as u32));
    let (prefix_hash4, prefixes4) = prefixes::table(&keys4, 1);
    let (prefix_hash6, prefixes6) = prefixes::table(&keys6, 1 + keys4.len() as u32);
    let everybody = PrefixPolicy { limits: default_limits, ..PrefixPolicy::default() };
    let rules: Vec<_> = [everybody].into_iter().chain(rules4).chain(rules6).collect();
    let ports = config.services.iter().zip(slots).map(|(service, &slot)| {
        let entry = PortEntry::new(slot, service.class as u8, service.shed == Shed::Packets);
        let entry = match service.signal {
            Signal::Passive { since } => entry.measured(since == Since::LastByte),
            _ => entry,
        };
        (service.protocol, service.port, entry)
    });
    let offered_none = slots.iter().map(|&slot| slot as u32 + 1).max().unwrap_or(0);
    let source_bits = config.source.ipv6_prefix as u32;

    Compiled {
        policy: Policy {
            abi: ABI_VERSION,
            flags,
            // Which interface it is, and on which CPUs, is known where it is loaded.
            interface: 0,
            cpu_mask: 0,
            service_entries: 0,
            posture: match config.posture {
                Posture::Open => Policy::POSTURE_OPEN,
                Posture::Hold => Policy::POSTURE_HOLD,
                Posture::Closed => Policy::POSTURE_CLOSED,
            },
            default_class: Class::Normal as u32,
            set_mask: table - 1,
            memory_mask: MEMORY_SETS - 1,
            length_count4,
            length_count6,
            lengths4,
            lengths6,
            rules: rules.len() as u64,
            prefix_hash4,
            prefix_hash6,
            offered_none: offered_none as u64,
            key,
            source_mask6: [upper_bits(source_bits), upper_bits(source_bits.saturating_sub(64))],
            limits: default_limits,
            horizons: [horizon(&packets, 1), horizon(&bytes, LONGEST_FRAME), horizon(&new_flows, 1)],
            newcomers,
            proven_ttl: ttl(config.newcomers.proven_for),
            udp_flow_ttl: ttl(UDP_FLOW_TTL),
            rotation: nanos(config.rotation),
            tick: nanos(tick),
        },
        prefixes4,
        prefixes6,
        rules,
        ports: ports.collect(),
        offered_slots: offered_none + 1,
        bucket_sets: BucketSets { packets: sets(&packets), bytes: sets(&bytes), new_flows: sets(&new_flows) },
    }
}

/// Whether a program attached in `actual` mode is what the configuration asks for.
pub(super) fn mode_fits(wanted: Mode, actual: super::AttachedMode) -> bool {
    match wanted {
        Mode::Auto => true,
        Mode::Native => actual == super::AttachedMode::Native,
        Mode::Generic => actual == super::AttachedMode::Generic,
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

fn ttl(duration: Duration) -> u64 {
    nanos(duration).div_ceil(1 << memory::UNIT_BITS)
}

fn limits(config: &Config, rule: &Rule) -> Limits {
    let Rates { packets_per_second, bytes_per_second, new_flows_per_second } = config.source.rates;
    let burst = nanos(config.source.burst);
    let rate = |own: Option<u64>, general: u64| Rate::new(own.unwrap_or(general), burst);
    Limits {
        packets: rate(rule.packets_per_second, packets_per_second),
        bytes: rate(rule.bytes_per_second, bytes_per_second),
        new_flows: rate(rule.new_flows_per_second, new_flows_per_second),
    }
}

/// Every prefix that a rule or a lifeline names, with all that holds inside it: the longest rule around it, and the
/// ports of every lifeline around it.
fn resolve(config: &Config) -> BTreeMap<IpNet, PrefixPolicy> {
    let ruled: Vec<(IpNet, &Rule)> = config
        .rules
        .iter()
        .flat_map(|rule| rule.sources.iter().map(move |net| (net.trunc(), rule)))
        .collect();
    let lifelines: Vec<(IpNet, &[u16])> = config
        .lifelines
        .iter()
        .flat_map(|line| line.peers.iter().map(move |net| (net.trunc(), line.ports.as_slice())))
        .collect();
    let prefixes: BTreeSet<IpNet> =
        ruled.iter().map(|(net, _)| *net).chain(lifelines.iter().map(|(net, _)| *net)).collect();
    prefixes
        .into_iter()
        .map(|prefix| {
            let rule =
                ruled.iter().filter(|(net, _)| net.contains(&prefix)).max_by_key(|(net, _)| net.prefix_len());
            let around = lifelines.iter().filter(|(net, _)| net.contains(&prefix)).map(|(_, ports)| *ports);
            (prefix, prefix_policy(config, rule.map(|(_, rule)| *rule), around))
        })
        .collect()
}

fn prefix_policy<'a>(
    config: &Config,
    rule: Option<&Rule>,
    lifelines: impl Iterator<Item = &'a [u16]>,
) -> PrefixPolicy {
    let mut policy =
        PrefixPolicy { limits: limits(config, rule.unwrap_or(&Rule::default())), ..Default::default() };
    if let Some(rule) = rule {
        policy.flags |= PrefixPolicy::RULE;
        if rule.deny {
            policy.flags |= PrefixPolicy::DENY;
        }
        if let Some(class) = rule.class {
            policy.flags |= PrefixPolicy::CLASS;
            policy.class = class as u32;
        }
    }
    let mut ports = BTreeSet::new();
    for line in lifelines {
        if line.is_empty() {
            policy.flags |= PrefixPolicy::LIFELINE;
        }
        ports.extend(line.iter().copied());
    }
    if !ports.is_empty() {
        policy.flags |= PrefixPolicy::LIFELINE_PORTS;
        // The configuration admits no more than fit.
        for (place, port) in policy.ports.iter_mut().zip(ports.iter().take(MAX_LIFELINE_PORTS)) {
            *place = *port;
        }
        policy.port_count = ports.len().min(MAX_LIFELINE_PORTS) as u64;
    }
    policy
}

fn key4(net: Ipv4Net) -> Prefix4 {
    Prefix4 { address: net.network().to_bits(), length: net.prefix_len() as u32 }
}

fn key6(net: Ipv6Net) -> Prefix6 {
    let bits = net.network().to_bits();
    Prefix6 { high: (bits >> 64) as u64, low: bits as u64, length: net.prefix_len() as u64 }
}

/// The distinct lengths, the longest first, and how many they are.
fn lengths(all: impl Iterator<Item = u32>) -> ([u32; MAX_PREFIX_LENGTHS], u32) {
    let distinct: BTreeSet<u32> = all.collect();
    let mut lengths = [0; MAX_PREFIX_LENGTHS];
    // The configuration admits no more than fit.
    for (place, length) in lengths.iter_mut().zip(distinct.iter().rev()) {
        *place = *length;
    }
    (lengths, distinct.len().min(MAX_PREFIX_LENGTHS) as u32)
}
