//! What holds between keys, once each has been read by itself.

use super::address::Prefix;
use super::duration::format;
use super::kind::Scalar;
use super::mistake::Mistakes;
use super::model::*;
use super::section::Table;
use ipnet::IpNet;
use shedder_common::abi::{MAX_LIFELINE_PORTS, MAX_PREFIX_LENGTHS};
use std::collections::{BTreeSet, HashMap};

/// Notes every contradiction between keys that are right by themselves. `config` is what was read from `root`, with
/// the lifelines, rules and services at the same indexes.
pub(super) fn check(config: &Config, root: &Table<'_>, mistakes: &mut Mistakes) {
    let peers = prefixes(root, "lifeline", "peers");
    let sources = prefixes(root, "rule", "sources");
    let mut checks = Checks { config, root, mistakes };
    let lifelines = checks.lifelines(&peers);
    checks.times();
    checks.services();
    checks.rules_say_something();
    checks.lifelines_for_everybody(&peers);
    checks.lifeline_ports(&peers, &lifelines);
    checks.rules_share_no_prefix(&sources);
    checks.denied_lifelines(&sources, &lifelines);
    checks.prefix_lengths(peers.iter().chain(&sources));
}

/// A prefix in a list of a lifeline or a rule.
struct Named {
    prefix: IpNet,
    array: &'static str,
    /// Which lifeline or rule.
    owner: usize,
    list: &'static str,
    element: usize,
    offset: usize,
}

impl Named {
    fn path(&self) -> String {
        format!("{}[{}].{}[{}]", self.array, self.owner, self.list, self.element)
    }
}

/// The prefixes that are right by themselves.
fn prefixes(root: &Table<'_>, array: &'static str, list: &'static str) -> Vec<Named> {
    let mut found = Vec::new();
    for (owner, table) in root.elements(array) {
        let elements = table.get_ref().get(list).and_then(|list| list.get_ref().as_array());
        for (element, value) in elements.into_iter().flat_map(|elements| elements.iter().enumerate()) {
            if let Ok(prefix) = Prefix.convert(value.get_ref()) {
                let offset = value.span().start;
                found.push(Named { prefix, array, owner, list, element, offset });
            }
        }
    }
    found
}

/// What the lifelines give to each prefix that one of them names.
struct Lifelines {
    /// None: every port.
    ports: HashMap<IpNet, Option<BTreeSet<u16>>>,
}

impl Lifelines {
    /// The ports of all lifelines that contain the prefix, each with the prefix that it was given to; the nearest
    /// first.
    fn containing(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, Option<&BTreeSet<u16>>)> {
        std::iter::successors(Some(prefix), IpNet::supernet)
            .filter_map(|prefix| self.ports.get(&prefix).map(|ports| (prefix, ports.as_ref())))
    }
}

struct Checks<'a> {
    config: &'a Config,
    root: &'a Table<'a>,
    mistakes: &'a mut Mistakes,
}

impl Checks<'_> {
    /// Whether `config` has at `path` what the file means: the key is right, or is surely not there.
    fn knows(&self, path: &str) -> bool {
        self.mistakes.is_sound(path) && (self.mistakes.is_toml() || self.root.find(path).is_some())
    }

    /// Notes a contradiction between keys, at the first of them that the file has: the others are defaults.
    fn contradiction(&mut self, paths: &[&str], message: String) {
        let found = paths.iter().find_map(|path| Some((path, self.root.find(path)?.span().start)));
        if let Some((path, offset)) = found {
            self.mistakes.add(offset, path, message);
        }
    }

    /// What is known of the lifelines.
    fn lifelines(&self, peers: &[Named]) -> Lifelines {
        let mut ports: HashMap<IpNet, Option<BTreeSet<u16>>> = HashMap::new();
        for peer in peers.iter().filter(|peer| self.knows_ports(peer.owner)) {
            let own = &self.config.lifelines[peer.owner].ports;
            let merged = ports.entry(peer.prefix).or_insert_with(|| Some(BTreeSet::new()));
            if own.is_empty() {
                *merged = None;
            } else if let Some(merged) = merged {
                merged.extend(own);
            }
        }
        Lifelines { ports }
    }

    fn knows_ports(&self, lifeline: usize) -> bool {
        self.knows(&format!("lifeline[{lifeline}].ports"))
    }

    fn times(&mut self) {
        let Control { interval, window, .. } = self.config.control;
        let lease = self.config.lease;
        if self.knows("lease") && self.knows("control.interval") && lease < interval * 5 {
            let message = format!(
                "the lease is {}, and must be at least five times control.interval, which is {}: it would lapse \
                 whenever the daemon is a little late; a lease of \"{}\" is enough",
                format(lease),
                format(interval),
                format(interval * 5)
            );
            self.contradiction(&["lease", "control.interval"], message);
        }
        if self.knows("control.window") && self.knows("control.interval") && window < interval {
            let message = format!(
                "the window is {}, and must be at least control.interval, which is {}: what comes between two turns \
                 would never be seen",
                format(window),
                format(interval)
            );
            self.contradiction(&["control.window", "control.interval"], message);
        }
    }

    fn services(&mut self) {
        let mut names = HashMap::new();
        let mut ports = HashMap::new();
        for (index, service) in self.config.services.iter().enumerate() {
            let path = |key: &str| format!("service[{index}].{key}");
            if !service.name.is_empty()
                && let Some(first) = names.insert(service.name.as_str(), index)
            {
                let message = format!("is the name of service[{first}] as well: names must differ");
                self.contradiction(&[&path("name")], message);
            }
            let protocol = path("protocol");
            if service.port != 0
                && self.knows(&protocol)
                && let Some(first) = ports.insert((service.protocol, service.port), index)
            {
                let message = format!("is the port of service[{first}] as well, with the same protocol");
                self.contradiction(&[&path("port")], message);
            }
            self.signal(index, service);
        }
    }

    fn signal(&mut self, index: usize, service: &Service) {
        let Signal::Probe { every, timeout, .. } = &service.signal else { return };
        let path = |key: &str| format!("service[{index}].{key}");
        let (timeout_path, target_path) = (path("signal.timeout"), path("target"));
        if self.knows(&timeout_path) && self.knows(&target_path) && *timeout < service.target {
            let message = format!(
                "the timeout is {}, and must be at least the service's target, which is {}: a latency near the \
                 target could never be seen",
                format(*timeout),
                format(service.target)
            );
            self.contradiction(&[&timeout_path, &target_path], message);
        }
        let Control { min_samples, window, .. } = self.config.control;
        let every_path = path("signal.every");
        let is_known =
            self.knows(&every_path) && self.knows("control.min_samples") && self.knows("control.window");
        if is_known && *every * min_samples > window {
            let message = format!(
                "a probe every {} is too seldom: control.min_samples, which is {min_samples}, do not fit into \
                 control.window, which is {}, so that there would never be a signal",
                format(*every),
                format(window)
            );
            self.contradiction(&[&every_path, "control.window", "control.min_samples"], message);
        }
    }

    fn rules_say_something(&mut self) {
        for (index, rule) in self.root.elements("rule") {
            let Some(rule_table) = rule.get_ref().as_table() else { continue };
            let has_only_sources = rule_table.contains_key("sources") && rule_table.len() == 1;
            if has_only_sources {
                let message = "says nothing of its sources: add a class, a rate, or deny = true (with deny = false \
                               they are proven and no more)";
                self.mistakes.missing(rule.span().start, format_args!("rule[{index}]"), message);
            }
        }
    }

    fn lifelines_for_everybody(&mut self, peers: &[Named]) {
        for peer in peers.iter().filter(|peer| peer.prefix.prefix_len() == 0) {
            if !self.knows_ports(peer.owner) {
                continue;
            }
            let ports = &self.config.lifelines[peer.owner].ports;
            if ports.is_empty() {
                let message = format!(
                    "{} is everybody, whom then no limit and no kill could stop: name the peers that must never lose \
                     the host, or give the lifeline ports",
                    peer.prefix
                );
                self.mistakes.add(peer.offset, peer.path(), message);
            }
            for (index, service) in self.config.services.iter().enumerate() {
                if ports.contains(&service.port) {
                    let message = format!(
                        "{} is everybody, and port {} is service[{index}], which then no limit and no kill could \
                         stop: name the peers, or take the port out of the lifeline",
                        peer.prefix, service.port
                    );
                    self.mistakes.add(peer.offset, peer.path(), message);
                }
            }
        }
    }

    fn lifeline_ports(&mut self, peers: &[Named], lifelines: &Lifelines) {
        let mut judged = BTreeSet::new();
        for peer in peers {
            let mut ports: BTreeSet<u16> = BTreeSet::new();
            let mut is_limited = true;
            for (_, more) in lifelines.containing(peer.prefix) {
                match more {
                    Some(more) => ports.extend(more),
                    None => is_limited = false,
                }
            }
            if is_limited && ports.len() > MAX_LIFELINE_PORTS && judged.insert(peer.prefix) {
                let message = format!(
                    "{} has {} ports in all the lifelines that contain it: there is room for {MAX_LIFELINE_PORTS}; \
                     leave out ports to give it every port",
                    peer.prefix,
                    ports.len()
                );
                self.mistakes.add(peer.offset, peer.path(), message);
            }
        }
    }

    fn rules_share_no_prefix(&mut self, sources: &[Named]) {
        let mut owners = HashMap::new();
        for source in sources {
            let first = *owners.entry(source.prefix).or_insert(source.owner);
            if first != source.owner {
                let message = format!("{} is in rule[{first}] as well: remove one", source.prefix);
                self.mistakes.add(source.offset, source.path(), message);
            }
        }
    }

    fn denied_lifelines(&mut self, sources: &[Named], lifelines: &Lifelines) {
        for source in sources.iter().filter(|source| self.config.rules[source.owner].deny) {
            let everything = lifelines.containing(source.prefix).find(|(_, ports)| ports.is_none());
            if let Some((lifeline, _)) = everything {
                let message = format!(
                    "denies {}, which the lifeline {lifeline} lets through on every port: lifelines win, so that this \
                     would deny nobody; remove one",
                    source.prefix
                );
                self.mistakes.add(source.offset, source.path(), message);
            }
        }
    }

    fn prefix_lengths<'n>(&mut self, named: impl Iterator<Item = &'n Named>) {
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for named in named {
            let of_family = &mut lengths[usize::from(named.prefix.addr().is_ipv6())];
            if of_family.insert(named.prefix.prefix_len()) && of_family.len() == MAX_PREFIX_LENGTHS + 1 {
                let message = format!(
                    "{} brings one prefix length too many: rules and lifelines together may use {MAX_PREFIX_LENGTHS} \
                     different ones in each family; cut some to a length that is in use",
                    named.prefix
                );
                self.mistakes.add(named.offset, named.path(), message);
            }
        }
    }
}
