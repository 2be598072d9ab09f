//! The pinned state: what every command reads and writes, with or without a daemon.

use super::by_cpu::{self, ByCpu};
use super::chain::{self, Foreign};
use super::filter::{Filter, Owner};
use super::mapped::{Held, Mapped};
use super::measured::Measurements;
use super::pins::{self, Pins, Way};
use super::sys;
use super::{AttachedMode, NotAttached};
use crate::config::Posture;
use anyhow::{Context, Result, bail};
use shedder_common::abi::{
    ABI_VERSION, Cell, Control, Interface, InterfaceCounters, Kills, MAGIC, MAX_INTERFACES, MAX_SERVICES,
    Meta, NAME_LEN, OfInterface, Offered, Policy, Service, maps,
};
use shedder_common::bucket::{self, Set};
use shedder_common::class::{Cutoff, PRIORITIES};
use shedder_common::hash::HashKey;
use shedder_common::memory;
use shedder_common::word::Word;
use shedder_common::words::{KillWord, OverrideWord, ReflexWord};
use std::os::fd::{AsFd, BorrowedFd};

/// One more than the highest hash of a flow.
const SKIP_ALL: f64 = (1u64 << 32) as f64;

/// What a kill or an override is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Host,
    /// One interface, by its slot.
    Interface(usize),
    /// One service, by its slot.
    Service(usize),
}

/// An interface that has a slot.
#[derive(Clone, Debug)]
pub struct InterfaceState {
    /// Its slot.
    pub slot: usize,
    /// Its name when it was attached.
    pub name: String,
    /// Its index when it was attached.
    pub index: u32,
    /// How it was attached.
    pub mode: AttachedMode,
    /// Whether its programs drop nothing.
    pub dry_run: bool,
    /// What its programs do without a live daemon.
    pub posture: Posture,
    /// Whether our programs are behind the links of this interface, both ways.
    pub attachment: Attachment,
    /// Who judges what leaves before our program does, the first first; none: that cannot be read.
    pub before: Option<Vec<Foreign>>,
    /// Whether our program is known to be in the chain of the interface that has this index in the caller's network namespace.
    pub is_in_chain: bool,
}

impl InterfaceState {
    /// Why a kill may not stop what leaves; none: our program is the first to judge it.
    pub fn preceded(&self) -> Option<String> {
        let name = &self.name;
        let Some(before) = &self.before else {
            return Some(format!(
                "{name}: whether another program judges what leaves before shedder's does cannot be read: this needs \
                 CAP_NET_ADMIN"
            ));
        };
        let first = before.first()?;
        let others = match before.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        Some(format!(
            "{name}: {first}{others} judges what leaves before shedder's does, and may let pass what a kill stops; \
             `shedder attach`, or a reload of the daemon, puts shedder's first"
        ))
    }
}

/// Whether an interface is held by our programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Both links are there, on the interface, with our programs.
    Whole,
    /// Something is missing or was exchanged: a sentence.
    Broken(String),
}

/// A service that has a slot.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// Its slot.
    pub slot: usize,
    /// Its name.
    pub name: String,
    /// What the map says of it.
    pub entry: Service,
}

/// The pinned maps, opened.
pub struct State {
    pins: Pins,
    meta: Mapped<Meta>,
    kills: Mapped<Kills>,
    control: Mapped<Control>,
    interfaces: Mapped<Interface>,
    services: Mapped<Service>,
    counters: ByCpu<OfInterface>,
}

impl State {
    /// Opens the state under `pins`.
    ///
    /// # Errors
    /// [`NotAttached`] where nothing is pinned there; otherwise a sentence: maps of another build, no permission.
    pub fn open(pins: &Pins) -> Result<State> {
        let path = pins.map(maps::META);
        if let Err(error) = sys::get_pinned(&path) {
            return match error.kind() {
                std::io::ErrorKind::NotFound => Err(NotAttached::under(pins).into()),
                std::io::ErrorKind::PermissionDenied => {
                    bail!(
                        "{} cannot be opened: this needs root (or CAP_BPF and access to it)",
                        path.display()
                    )
                }
                std::io::ErrorKind::ReadOnlyFilesystem => Err(pins::read_only(&path)),
                _ => Err(error).with_context(|| format!("cannot open the pinned map {}", path.display())),
            };
        }
        let meta: Mapped<Meta> = Mapped::open(&path)?;
        let found = meta.read(0);
        if found.magic != MAGIC {
            return Err(NotAttached::under(pins).into());
        }
        if found.abi != ABI_VERSION {
            bail!(
                "the maps under {} have version {} and this build has {}: use the build that attached them, or run its \
                 `shedder detach` and attach with this one",
                pins.root().display(),
                found.abi,
                ABI_VERSION
            );
        }
        Ok(State {
            meta,
            kills: Mapped::open(&pins.map(maps::KILLS))?,
            control: Mapped::open(&pins.map(maps::CONTROL))?,
            interfaces: Mapped::open(&pins.map(maps::INTERFACES))?,
            services: Mapped::open(&pins.map(maps::SERVICES))?,
            counters: ByCpu::open(&pins.map(maps::COUNTERS))?,
            pins: pins.clone(),
        })
    }

    /// The maps that this state is made of, and their names.
    fn maps(&self) -> [(&'static str, &Held); 6] {
        [
            (maps::META, self.meta.held()),
            (maps::KILLS, self.kills.held()),
            (maps::CONTROL, self.control.held()),
            (maps::INTERFACES, self.interfaces.held()),
            (maps::SERVICES, self.services.held()),
            (maps::COUNTERS, self.counters.table.held()),
        ]
    }

    /// The map of this name, if this state has it.
    pub(super) fn map(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.maps().into_iter().find(|(known, _)| *known == name).map(|(_, held)| held.map())
    }

    /// Whether these maps are what is pinned, and every other map is pinned that belongs to them.
    pub(super) fn is_pinned(&self) -> bool {
        let own = self.maps();
        let is_own = |name: &&&str| own.iter().any(|(known, _)| known == *name);
        let is_there = |name: &&str| self.pins.map(name).exists();
        own.iter().all(|(name, held)| held.is_pinned_at(&self.pins.map(name)))
            && maps::STATE.iter().filter(|name| !is_own(name)).all(is_there)
            && self.pins.policy_map(self.meta.read(0).generation, maps::OFFERED).exists()
    }

    /// Pins these maps again, where something else or nothing is pinned in their place.
    pub(super) fn pin_again(&self) -> Result<()> {
        for (name, held) in self.maps() {
            let path = self.pins.map(name);
            if held.is_pinned_at(&path) {
                continue;
            }
            pins::remove_pin(&path)?;
            sys::pin(held.map(), &path).with_context(|| format!("cannot pin {}", path.display()))?;
        }
        Ok(())
    }

    /// Where the state is pinned.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The key under which sources are hashed: the same for as long as anything is attached.
    pub fn hash_key(&self) -> HashKey {
        self.meta.read(0).key
    }

    pub(super) fn meta(&self) -> &Mapped<Meta> {
        &self.meta
    }

    pub(super) fn interface_entries(&self) -> &Mapped<Interface> {
        &self.interfaces
    }

    pub(super) fn service_entries(&self) -> &Mapped<Service> {
        &self.services
    }

    fn kill_cell(&self, scope: Scope) -> &Word {
        let kills = self.kills.get(0);
        match scope {
            Scope::Host => &kills.host,
            Scope::Interface(slot) => &kills.interfaces[slot],
            Scope::Service(slot) => &kills.services[slot],
        }
    }

    /// The kill of a scope, held or not.
    pub fn kill(&self, scope: Scope) -> KillWord {
        KillWord(self.kill_cell(scope).load())
    }

    /// Commands or lifts a kill. In force for the next packet on every CPU.
    pub fn set_kill(&self, scope: Scope, word: KillWord) {
        self.kill_cell(scope).store(word.0);
    }

    fn override_cell(&self, slot: Option<usize>) -> &Word {
        let control = self.control.get(0);
        match slot {
            None => &control.host_override,
            Some(slot) => &control.services[slot].override_word,
        }
    }

    /// A person's override, of one service or of everything.
    pub fn override_of(&self, service: Option<usize>) -> OverrideWord {
        OverrideWord(self.override_cell(service).load())
    }

    /// Commands or lifts an override.
    pub fn set_override(&self, service: Option<usize>, word: OverrideWord) {
        self.override_cell(service).store(word.0);
    }

    /// Replaces an override only if it is still the one that was read, so that a person's newer word is never lost.
    /// Returns whether it was replaced.
    pub fn refresh_override(&self, service: Option<usize>, seen: OverrideWord, new: OverrideWord) -> bool {
        self.override_cell(service).compare_exchange(seen.0, new.0) == seen.0
    }

    /// The loop's cutoff of a service.
    pub fn cutoff(&self, service: usize) -> Cutoff {
        self.control.get(0).services[service].cutoff()
    }

    /// Sets the loop's cutoff of a service.
    pub fn set_cutoff(&self, service: usize, cutoff: impl Into<Cutoff>) {
        self.control.get(0).services[service].set_cutoff(cutoff);
    }

    /// When the daemon's lease lapses, in nanoseconds of CLOCK_MONOTONIC; 0: no daemon ever held one.
    pub fn lease(&self) -> u64 {
        self.control.get(0).lease.load()
    }

    /// Renews the lease until `deadline`, or gives it up.
    pub fn set_lease(&self, deadline: u64) {
        self.control.get(0).lease.store(deadline);
    }

    /// Every interface that has a slot.
    pub fn interfaces(&self) -> Vec<InterfaceState> {
        (0..MAX_INTERFACES)
            .filter_map(|slot| {
                let entry = self.interfaces.read(slot);
                if entry.index == 0 {
                    return None;
                }
                let before = chain::before_ours(&self.pins, slot, entry.index);
                Some(InterfaceState {
                    slot,
                    name: name_of(&entry.name),
                    index: entry.index,
                    mode: AttachedMode::from_abi(entry.mode),
                    dry_run: entry.dry_run != 0,
                    posture: match entry.posture {
                        Policy::POSTURE_HOLD => Posture::Hold,
                        Policy::POSTURE_CLOSED => Posture::Closed,
                        _ => Posture::Open,
                    },
                    attachment: self.attachment(slot, &entry),
                    is_in_chain: matches!(before, Ok(Some(_))),
                    before: before.ok().map(Option::unwrap_or_default),
                })
            })
            .collect()
    }

    /// Reads back from the kernel whether our programs hold the interface.
    fn attachment(&self, slot: usize, entry: &Interface) -> Attachment {
        for (way, expected) in Way::BOTH.into_iter().zip(entry.programs) {
            let broken = |what: &str| Attachment::Broken(format!("{what} ({way:?})"));
            match self.held_program(way, slot, entry.index) {
                Err(what) => return broken(&what),
                // Where a run died, or is not done yet, its own program may be in force before it is noted.
                Ok(program) if program != expected && self.pins.own_program(way, slot, program).is_none() => {
                    return broken(&format!("program {program} was put in place of shedder's {expected}"));
                }
                Ok(_) => {}
            }
        }
        Attachment::Whole
    }

    /// The id of the program that a link or a filter of ours holds on an interface, or why there is none.
    fn held_program(&self, way: Way, slot: usize, interface: u32) -> Result<u32, String> {
        if let Ok(link) = sys::get_pinned(&self.pins.link(way, slot)) {
            return match sys::link_state(link.as_fd()) {
                Err(error) => Err(format!("the link cannot be read: {error}")),
                Ok(state) if state.interface == 0 => Err("the link holds no interface any more".into()),
                Ok(state) => Ok(state.program),
            };
        }
        // Where the kernel has no link for the way out, there is no pin.
        match (way, Filter::find(interface, self.owner())) {
            (Way::Egress, Ok(Some(filter))) => Ok(filter.program),
            (Way::Egress, Err(error)) => Err(format!("the filter cannot be read: {error}")),
            _ => Err("the pinned link is gone".into()),
        }
    }

    /// Whose filters of this directory of pins are.
    pub(super) fn owner(&self) -> Owner {
        self.meta.held().id()
    }

    /// Every service that has a slot.
    pub fn services(&self) -> Vec<ServiceState> {
        (0..MAX_SERVICES)
            .filter_map(|slot| {
                let entry = self.services.read(slot);
                (entry.name[0] != 0).then(|| ServiceState { slot, name: name_of(&entry.name), entry })
            })
            .collect()
    }

    /// Stores what the daemon has to report of a service.
    pub fn report_service(&self, slot: usize, observed: u64, observed_at: u64, permille: u64) {
        // Word by word: the rest of the entry is written where services change.
        // SAFETY: each takes the place of a field in an entry that is mapped, and reads nothing.
        self.services.write_word(slot, |entry| unsafe { &raw mut (*entry).observed }, observed);
        // SAFETY: as above.
        self.services.write_word(slot, |entry| unsafe { &raw mut (*entry).observed_at }, observed_at);
        // SAFETY: as above.
        self.services.write_word(slot, |entry| unsafe { &raw mut (*entry).permille }, permille);
    }

    /// The counters of an interface, summed over the CPUs.
    pub fn counters(&self, slot: usize) -> InterfaceCounters {
        self.counters.read(slot).fold(InterfaceCounters::default(), add)
    }

    /// Sets the counters of an interface to zero.
    pub(super) fn clear_counters(&self, slot: usize) {
        self.counters.clear(slot);
    }

    /// The distribution of offered work in force, to be read again and again.
    pub fn offered(&self) -> Result<OfferedWork> {
        let path = self.pins.policy_map(self.meta.read(0).generation, maps::OFFERED);
        Ok(OfferedWork { map: ByCpu::open(&path)? })
    }

    /// What the programs in force measured, to be read again and again.
    pub fn measurements(&self) -> Result<Measurements> {
        let measured = self.pins.policy_map(self.meta.read(0).generation, maps::MEASURED);
        Measurements::open(&measured, &self.pins)
    }

    /// Arms the reflex of a service anew, or disarms it, and hands back to the loop: late answers count from 0 again.
    pub fn set_reflex(&self, service: usize, word: ReflexWord) {
        let control = &self.control.get(0).services[service];
        control.reflex.store(word.0);
        control.late.store(0);
    }

    /// The reflex of a service, and the late answers since it was armed.
    pub fn reflex(&self, service: usize) -> (ReflexWord, u64) {
        let control = &self.control.get(0).services[service];
        (ReflexWord(control.reflex.load()), control.late.load())
    }

    /// The fraction of a service's flows that is measured, above 0 to 1.
    pub fn measured_share(&self, service: usize) -> f64 {
        1.0 - self.control.get(0).services[service].skip.load() as f64 / SKIP_ALL
    }

    /// Sets the fraction of a service's flows that is measured, held to 1/65,536 to 1.
    pub fn set_measured_share(&self, service: usize, share: f64) {
        let skip = (1.0 - share.clamp(1.0 / 65536.0, 1.0)) * SKIP_ALL;
        self.control.get(0).services[service].skip.store(skip as u64);
    }

    /// How many sources have state in the tables of buckets, and how many are proven, at `now`. Reads some megabytes.
    pub fn count_sources(&self, now: u64) -> Result<(u64, u64)> {
        let live_buckets = |name| -> Result<u64> {
            let table: Mapped<Set> = Mapped::open(&self.pins.map(name))?;
            // A minute is the longest burst that a configuration can give.
            Ok((0..table.len()).map(|set| bucket::live(table.get(set), now, 60_000_000_000) as u64).sum())
        };
        let tracked = [maps::PACKETS, maps::BYTES, maps::NEW_FLOWS].into_iter().map(live_buckets);
        let tracked = tracked.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0);
        let proven: Mapped<Set> = Mapped::open(&self.pins.map(maps::PROVEN))?;
        let proven = (0..proven.len()).map(|set| memory::live(proven.get(set), now) as u64).sum();
        Ok((tracked, proven))
    }
}

/// The counts of offered work, by service and priority.
pub struct OfferedWork {
    map: ByCpu<Offered>,
}

impl OfferedWork {
    /// What was offered to a service (none: to the traffic of no service) since its programs were loaded, summed over
    /// the CPUs; wraps. Nothing for a service that this policy does not know.
    pub fn of(&self, service: Option<usize>) -> [u32; PRIORITIES as usize] {
        let mut sum = [0u32; PRIORITIES as usize];
        let none = self.map.len() - 1;
        if service.is_none_or(|slot| slot < none) {
            for cpu in self.map.read(service.unwrap_or(none)) {
                by_cpu::add(&mut sum, &cpu.by_priority);
            }
        }
        sum
    }

    /// What was offered to anybody.
    pub fn of_all(&self) -> [u32; PRIORITIES as usize] {
        let mut sum = [0u32; PRIORITIES as usize];
        for service in (0..self.map.len() - 1).map(Some).chain([None]) {
            by_cpu::add(&mut sum, &self.of(service));
        }
        sum
    }
}

fn add(mut sum: InterfaceCounters, OfInterface { counters: cpu, .. }: OfInterface) -> InterfaceCounters {
    let add_cells = |sum: &mut [Cell], cells: &[Cell]| {
        for (sum, cell) in sum.iter_mut().zip(cells) {
            sum.packets += cell.packets;
            sum.bytes += cell.bytes;
        }
    };
    add_cells(&mut sum.ingress, &cpu.ingress);
    add_cells(&mut sum.ingress_dry, &cpu.ingress_dry);
    add_cells(&mut sum.egress, &cpu.egress);
    add_cells(&mut sum.egress_dry, &cpu.egress_dry);
    for (sum, event) in sum.events.iter_mut().zip(cpu.events) {
        *sum += event;
    }
    sum
}

/// A name from a map, without the zeros behind it.
fn name_of(bytes: &[u8; NAME_LEN]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A name as a map keeps it; what is too long is cut.
pub(super) fn name_bytes(name: &str) -> [u8; NAME_LEN] {
    let mut bytes = [0; NAME_LEN];
    let length = name.len().min(NAME_LEN - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}
