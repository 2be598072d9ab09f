//! Attaching, adopting, replacing and detaching.

use super::chain;
use super::fault;
use super::filter::{self, Filter, Owner};
use super::hold::{Hold, attach_on_the_way_out, link_first};
use super::load::{Generation, Programs, io_error_of, require_kernel};
use super::mapped::Mapped;
use super::pins::{Pins, Way, entries, remove_link, remove_pin};
use super::policy::{compile, mode_fits};
use super::state::{State, name_bytes};
use super::{AttachedMode, Attachment, InterfaceState, Scope, netlink, sys};
use crate::config::{Config, Mode, Protocol, Signal};
use anyhow::{Context, Result, anyhow, bail};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, SchedClassifier, XdpMode};
use bytemuck::Zeroable;
use shedder_common::abi::{
    ABI_VERSION, Interface, Kills, MAGIC, MAX_INTERFACES, MAX_SERVICES, Meta, Service, maps,
};
use shedder_common::hash::HashKey;
use shedder_common::words::{KillWord, OverrideWord, ReflexWord};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The right to change what is attached under one directory of pins: held by at most one process.
#[derive(Debug)]
pub struct Datapath {
    pins: Pins,
    lock: File,
}

impl Drop for Datapath {
    fn drop(&mut self) {
        // A directory that was made for nothing goes again; one with anything in it stays.
        if self.pins.is_locked_by(&self.lock) {
            self.pins.remove_empty_directories();
        }
    }
}

/// An interface that is to be held, found on this machine.
struct Target {
    name: String,
    index: u32,
    slot: usize,
}

impl Datapath {
    /// Takes the right to change what is attached, and makes the directory of pins.
    ///
    /// # Errors
    /// A sentence where the directory is on no BPF file system, cannot be written, or is held by another process.
    pub fn claim(pins: &Pins) -> Result<Datapath> {
        Ok(Datapath { lock: pins.create_and_lock()?, pins: pins.clone() })
    }

    /// Notes that this process is about to make its push socket at `path`: where it is killed, whoever detaches removes that.
    ///
    /// # Errors
    /// A sentence where the directory of pins cannot be written.
    pub fn note_socket(&self, path: &Path) -> Result<()> {
        self.pins.note_socket(path)
    }

    /// As [`Datapath::install`], where `live` is in force by this process: should its pins have been removed or exchanged, they
    /// are made again first. Else the maps would be made anew, without the kills that are in force.
    ///
    /// # Errors
    /// As [`Datapath::install`]; and where the directory cannot be written, or another process has taken it meanwhile.
    pub fn reinstall(&mut self, config: &Config, live: &State) -> Result<State> {
        if !self.holds(live) {
            self.restore(live)?;
        }
        self.install_over(config, Some(live))
    }

    /// Pins the maps of `state` again: what is commanded, counted and attached goes on with the same maps.
    fn restore(&mut self, state: &State) -> Result<()> {
        if !self.pins.is_locked_by(&self.lock) {
            self.lock = self.pins.create_and_lock()?;
        }
        self.pins.create_directories()?;
        state.pin_again()
    }

    /// Puts the configuration in force on its interfaces: attaches where nothing is, replaces in one step what an
    /// earlier build or configuration attached, and lets go of interfaces that it no longer names. State (buckets,
    /// counters, kills, overrides) is carried on.
    ///
    /// All or nothing: where an interface cannot be taken, what was in force before is in force again.
    ///
    /// # Errors
    /// A sentence that names the interface and the cause.
    pub fn install(&self, config: &Config) -> Result<State> {
        self.install_over(config, None)
    }

    /// As [`Datapath::install`], where `live` is in force: it counts, whatever becomes of its pins meanwhile.
    fn install_over(&self, config: &Config, live: Option<&State>) -> Result<State> {
        if config.interfaces.is_empty() {
            bail!("no interface is named: give `interfaces = [...]` in the configuration, or --interface");
        }
        require_kernel()?;
        let found = config.interfaces.iter().map(|name| Ok((name.clone(), interface_index(name)?)));
        let found = found.collect::<Result<Vec<_>>>()?;
        self.pins.create_directories()?;
        let adopted = if live.is_none() { self.adopt_state()? } else { None };
        let state = live.or(adopted.as_ref());
        let key = match state {
            Some(state) => state.meta().read(0).key,
            None => new_key()?,
        };
        let targets = assign_slots(state, found)?;
        if let Some(state) = state {
            keep_kills(state, config, &targets)?;
        }
        self.refuse_taken(&targets)?;
        let slots = service_slots(config, state)?;
        let compiled = compile(config, &slots, key, sys::coarse_tick());
        // Behind what a run that died left, of which programs may be in force.
        let number = self.pins.last_generation()? + 1;
        if let Some(state) = state {
            let mut in_force = self.behind_links()?;
            for target in &targets {
                let filter = Filter::find(target.index, state.owner());
                in_force.extend(filter.context("cannot read the filters on the way out")?.map(|f| f.program));
            }
            self.pins.remove_dead_policies(state.meta().read(0).generation, &in_force)?;
        }
        let generation = Generation { number, compiled: &compiled, pins: &self.pins, state };

        let mut retired = Vec::new();
        let installed = self
            .pins
            .create_policy(number)
            .and_then(|()| generation.retire_resized_state(&mut retired))
            .and_then(|()| self.install_generation(&generation, config, &targets, &slots, key));
        match installed {
            Ok(state) => {
                // There is no way back from what is in force. What stays now is removed by the next installation.
                if let Err(error) = self.tidy(&state, number, &targets) {
                    tracing::error!("in force, but not all that it replaces could be removed: {error:#}");
                }
                Ok(state)
            }
            Err(error) => {
                // The error to tell is the first.
                for map in retired {
                    if let Err(error) = map.reinstate() {
                        tracing::error!("cannot take back a step of a configuration that failed: {error:#}");
                    }
                }
                let _ = self.pins.remove_policy(number);
                if state.is_none() {
                    let _ = self.pins.remove_all();
                }
                Err(error)
            }
        }
    }

    /// Holds again those interfaces of the configuration in force that are not held any more, with the programs that are
    /// pinned for them: nothing has to be loaded. Each for itself, so that one which is missing is no reason to leave
    /// another. Returns how many were taken.
    ///
    /// # Errors
    /// A sentence where any could not be; those that could, are held.
    pub fn hold_again(&self, state: &State, config: &Config) -> (usize, Result<()>) {
        let mut found = Vec::new();
        let mut failed = Ok(());
        for name in &config.interfaces {
            match interface_index(name) {
                Ok(index) => found.push((name.clone(), index)),
                Err(error) => failed = Err(error),
            }
        }
        let targets = match assign_slots(Some(state), found) {
            Ok(targets) => targets,
            Err(error) => return (0, Err(error)),
        };
        let mut held = 0;
        for target in targets.iter().filter(|target| !is_held(state, target)) {
            match self.hold_one_again(state, config, target) {
                Ok(()) => held += 1,
                Err(error) => failed = Err(error.context(format!("cannot attach to {}", target.name))),
            }
        }
        (held, failed)
    }

    fn hold_one_again(&self, state: &State, config: &Config, target: &Target) -> Result<()> {
        let old = state.interface_entries().read(target.slot);
        if old.index == 0 {
            bail!("it has no programs yet");
        }
        let mut programs = Programs::pinned(&self.pins, state.meta().read(0).generation, target.slot)?;
        let mut undo = Vec::new();
        match hold(&self.pins, target, &mut programs, config.mode, state, &mut undo) {
            Ok(entry) => {
                let Interface { dry_run, posture, .. } = old;
                state.interface_entries().write(target.slot, &Interface { dry_run, posture, ..entry });
                Ok(())
            }
            Err(error) => {
                undo.into_iter().rev().for_each(|step| step.apply(state));
                Err(error)
            }
        }
    }

    /// Refuses interfaces that another XDP program holds, before anything is loaded: a daemon whose interface was taken
    /// meanwhile asks again five times a second.
    fn refuse_taken(&self, targets: &[Target]) -> Result<()> {
        let own = self.behind_links()?;
        for target in targets {
            let found =
                netlink::xdp_on(target.index).context("cannot ask for the XDP program that is there")?;
            if found.is_some_and(|found| !own.contains(&found.id)) {
                return Err(taken(target, found).context(format!("cannot attach to {}", target.name)));
            }
        }
        Ok(())
    }

    /// The ids of the programs behind the links that are pinned.
    fn behind_links(&self) -> Result<Vec<u32>> {
        let program = |pin: PathBuf| Some(sys::link_state(sys::get_pinned(&pin).ok()?.as_fd()).ok()?.program);
        Ok(entries(&self.pins.links())?.into_iter().filter_map(program).collect())
    }

    /// The state that is there already, if any is. What a first attachment that died left is removed.
    fn adopt_state(&self) -> Result<Option<State>> {
        match State::open(&self.pins) {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.is::<super::NotAttached>() => {
                self.refuse_to_lose_kills()?;
                for link in entries(&self.pins.links())? {
                    remove_link(&link)?;
                }
                self.pins.remove_filters()?;
                for map in entries(&self.pins.maps())? {
                    remove_pin(&map)?;
                }
                self.pins.remove_policies_but(None)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A run that died while it attached for the first time left no kill: where there is one, the pins were meddled with.
    fn refuse_to_lose_kills(&self) -> Result<()> {
        let killed = Mapped::<Kills>::open(&self.pins.map(maps::KILLS)).is_ok_and(|kills| {
            let Kills { host, interfaces, services } = kills.get(0);
            [host].into_iter().chain(interfaces).chain(services).any(|word| KillWord(word.load()).is_set())
        });
        if killed && !entries(&self.pins.links())?.is_empty() {
            bail!(
                "the pin of the map {} is missing under {}, and a kill is in force, which attaching anew would lift: \
                 where it may end, `shedder detach`, then attach",
                maps::META,
                self.pins.root().display()
            );
        }
        Ok(())
    }

    fn install_generation(
        &self,
        generation: &Generation<'_>,
        config: &Config,
        targets: &[Target],
        slots: &[u8],
        key: HashKey,
    ) -> Result<State> {
        let mut loaded = Vec::new();
        for target in targets {
            loaded.push((target, generation.load(target.slot)?));
        }
        generation.fill()?;
        fault::point()?;
        if let Some(state) = generation.state
            && !state.is_pinned()
        {
            state.pin_again()?;
        }
        let state = self.finish_maps(key)?;
        loaded.iter().try_for_each(|(_, programs)| programs.shake_hands())?;

        let mut undo = Vec::new();
        let held = loaded.iter_mut().try_for_each(|(target, programs)| {
            let old = state.interface_entries().read(target.slot);
            if old.index == 0 {
                // A command that came too late for the slot's last interface is none for the next.
                state.set_kill(Scope::Interface(target.slot), KillWord::NONE);
                state.clear_counters(target.slot);
            }
            let mut entry = hold(&self.pins, target, programs, config.mode, &state, &mut undo)
                .with_context(|| format!("cannot attach to {}", target.name))?;
            entry.dry_run = config.dry_run as u32;
            entry.posture = generation.compiled.policy.posture;
            fault::point()?;
            undo.push(Undo::Entry(target.slot, old));
            state.interface_entries().write(target.slot, &entry);
            Ok(())
        });
        if let Err(error) = held.and_then(|()| Ok(fault::point()?)) {
            undo.into_iter().rev().for_each(|step| step.apply(&state));
            return Err(error);
        }
        name_services(&state, config, slots);
        // SAFETY: takes the place of a field in an entry that is mapped, and reads nothing.
        state.meta().write_word(0, |meta| unsafe { &raw mut (*meta).generation }, generation.number);
        Ok(state)
    }

    /// Removes what is not in force any more, behind a generation that is.
    fn tidy(&self, state: &State, generation: u64, targets: &[Target]) -> Result<()> {
        self.pins.remove_policies_but(Some(generation))?;
        for old in state.interfaces() {
            if targets.iter().all(|target| target.slot != old.slot) {
                self.release(state, old.slot)?;
            }
        }
        self.remove_strays(targets, state.owner())
    }

    /// Removes what a run which died had attached, and not noted yet, to interfaces that are not wanted.
    fn remove_strays(&self, targets: &[Target], owner: Owner) -> Result<()> {
        let wanted = |pin: &PathBuf| {
            let is_of =
                |target: &Target| Way::BOTH.iter().any(|way| self.pins.link(*way, target.slot) == *pin);
            targets.iter().any(is_of)
        };
        let mut strays = entries(&self.pins.links())?.into_iter().filter(|pin| !wanted(pin));
        strays.try_for_each(|pin| remove_link(&pin))?;
        filter::sweep(owner, |interface| targets.iter().any(|target| target.index == interface))
    }

    /// Marks the maps as whole, where the load has just made them, and opens them.
    fn finish_maps(&self, key: HashKey) -> Result<State> {
        let meta = Mapped::<Meta>::open(&self.pins.map(maps::META))?;
        if meta.read(0).magic == 0 {
            meta.write(0, &Meta { magic: 0, abi: 0, key, generation: 0 });
            // Last, and at once: from here on they are whole.
            let mark = bytemuck::cast([MAGIC, ABI_VERSION]);
            meta.write_word(0, |meta| meta.cast(), mark);
        }
        State::open(&self.pins)
    }

    /// Lets go of the interface in a slot: detaches, and forgets its kill and its counters.
    fn release(&self, state: &State, slot: usize) -> Result<()> {
        for way in Way::BOTH {
            remove_link(&self.pins.link(way, slot))?;
        }
        remove_link(&self.pins.first_link(slot))?;
        if let Some(filter) = Filter::find(state.interface_entries().read(slot).index, state.owner())? {
            filter.remove().context("cannot remove the filter on the way out")?;
        }
        fault::point()?;
        state.set_kill(Scope::Interface(slot), KillWord::NONE);
        state.interface_entries().write(slot, &Interface::zeroed());
        state.clear_counters(slot);
        Ok(())
    }

    /// Detaches from these interfaces (none named: from all), and removes every pin where nothing is left attached.
    /// Returns the names of what was detached.
    ///
    /// # Errors
    /// A sentence where an interface that is named is not held.
    pub fn detach(&self, names: &[String]) -> Result<Vec<String>> {
        // Maps that cannot be read, of another build or broken, are no reason to stay.
        let Ok(state) = State::open(&self.pins) else {
            if !names.is_empty() {
                bail!(
                    "the pins under {} cannot be read: detach everything, naming no interface",
                    self.pins.root().display()
                );
            }
            self.pins.remove_all()?;
            return Ok(Vec::new());
        };
        let held = state.interfaces();
        if let Some(stranger) =
            names.iter().find(|name| held.iter().all(|interface| &&interface.name != name))
        {
            let held: Vec<&str> = held.iter().map(|interface| interface.name.as_str()).collect();
            bail!("{stranger} is not attached; attached are: {}", held.join(", "));
        }
        let (gone, left): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|interface| names.is_empty() || names.contains(&interface.name));
        for interface in &gone {
            self.release(&state, interface.slot)?;
        }
        if left.is_empty() {
            self.pins.remove_all()?;
        }
        Ok(gone.into_iter().map(|interface| interface.name).collect())
    }

    /// Whether the maps of `state` are still those that are pinned, where this process has the right to change them.
    pub fn holds(&self, state: &State) -> bool {
        self.pins.is_locked_by(&self.lock) && state.is_pinned()
    }

    /// Whether everything that the configuration names is among what is `held`: what is missing, as sentences.
    pub fn drift(&self, held: &[InterfaceState], config: &Config) -> Vec<String> {
        let lacks = |name: &String| -> Option<String> {
            let index = match index_of(name) {
                Ok(index) => index,
                Err(error) => return Some(error.to_string()),
            };
            let Some(interface) =
                held.iter().find(|interface| &interface.name == name || interface.index == index)
            else {
                return Some(format!("{name} is not attached"));
            };
            match &interface.attachment {
                Attachment::Broken(why) => Some(format!("{name} is not held: {why}")),
                Attachment::Whole if interface.index != index => {
                    Some(format!("{name} was deleted and made again, and is not attached yet"))
                }
                Attachment::Whole if interface.is_in_chain => None,
                // The index of a link is that of its interface in the namespace to which this was moved.
                Attachment::Whole => match netlink::xdp_on(index) {
                    Ok(None) => Some(format!(
                        "{name} is not attached: the interface that was, is in another network namespace"
                    )),
                    _ => None,
                },
            }
        };
        config.interfaces.iter().filter_map(lacks).collect()
    }
}

/// The index of an interface that shedder can hold.
///
/// # Errors
/// A sentence where there is none of that name, or it has no Ethernet header.
pub fn interface_index(name: &str) -> Result<u32> {
    let index = index_of(name)?;
    const ETHERNET: u16 = 1;
    const LOOPBACK: u16 = 772;
    let kind = sys::link_type(name).with_context(|| format!("cannot read the link type of {name}"))?;
    if kind != ETHERNET && kind != LOOPBACK {
        bail!("{name} has no Ethernet header (link type {kind}): attach to the interface underneath it");
    }
    Ok(index)
}

fn index_of(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name)
        .map_err(|_| anyhow!("there is no interface {name}: `ip -br link` lists those that there are"))
}

fn new_key() -> Result<HashKey> {
    let mut key = HashKey::default();
    let bytes = bytemuck::bytes_of_mut(&mut key);
    // SAFETY: the buffer is ours, and as long as its length says.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if filled != size_of::<HashKey>() as isize {
        bail!("the kernel gave no random bytes: {}", std::io::Error::last_os_error());
    }
    Ok(HashKey::new(key.add, key.multiply))
}

/// Gives each interface a slot: the one in which it is held, whatever it was called then, else the one of its name, else
/// a free one.
fn assign_slots(state: Option<&State>, found: Vec<(String, u32)>) -> Result<Vec<Target>> {
    slots_of(&state.map(State::interfaces).unwrap_or_default(), found)
}

fn slots_of(held: &[InterfaceState], found: Vec<(String, u32)>) -> Result<Vec<Target>> {
    let by_index = |index: u32| {
        held.iter()
            .find(|known| known.index == index && known.attachment == Attachment::Whole)
            .map(|k| k.slot)
    };
    let mut slots: Vec<Option<usize>> = found.iter().map(|(_, index)| by_index(*index)).collect();
    for at in 0..found.len() {
        let named = held.iter().find(|known| known.name == found[at].0).map(|known| known.slot);
        // Another interface may have had this name, and be held under a new one.
        slots[at] = slots[at].or(named.filter(|slot| !slots.contains(&Some(*slot))));
    }
    let mut free = (0..MAX_INTERFACES).filter(|slot| held.iter().all(|interface| interface.slot != *slot));
    found
        .into_iter()
        .zip(slots)
        .map(|((name, index), slot)| {
            let slot = slot
                .or_else(|| free.next())
                .with_context(|| format!("no more than {MAX_INTERFACES} interfaces can be held"))?;
            Ok(Target { name, index, slot })
        })
        .collect()
}

/// Whether an interface is held in its slot, here and under its name.
fn is_held(state: &State, target: &Target) -> bool {
    let entry = state.interfaces().into_iter().find(|interface| interface.slot == target.slot);
    entry.is_some_and(|entry| {
        entry.attachment == Attachment::Whole
            && entry.index == target.index
            && entry.name == target.name
            && netlink::xdp_on(target.index).is_ok_and(|found| found.is_some())
    })
}

/// Refuses a configuration under which something would pass that a kill in force stops: only a person lifts a kill.
fn keep_kills(state: &State, config: &Config, targets: &[Target]) -> Result<()> {
    let now = sys::monotonic();
    let holds = |scope| state.kill(scope).is_set() && state.kill(scope).holds(now);
    let interfaces = state.interfaces();
    let services = state.services();
    let is_any = holds(Scope::Host)
        || interfaces.iter().any(|interface| holds(Scope::Interface(interface.slot)))
        || services.iter().any(|service| holds(Scope::Service(service.slot)));
    const REFUSED: &str = "a kill is in force, and the new configuration would let pass what it stops";
    if is_any && config.dry_run && interfaces.iter().any(|interface| !interface.dry_run) {
        bail!("{REFUSED}: a dry run drops nothing; `shedder resume` first");
    }
    let let_go = interfaces.iter().find(|interface| {
        targets.iter().all(|target| target.slot != interface.slot)
            && interface.attachment == Attachment::Whole
            && (holds(Scope::Host) || holds(Scope::Interface(interface.slot)))
    });
    if let Some(InterfaceState { name, .. }) = let_go {
        bail!(
            "{REFUSED}: it does not name {name}; `shedder resume` first, or `shedder detach --interface {name}`"
        );
    }
    let gone = services.iter().find(|service| {
        config.services.iter().all(|one| one.name != service.name) && holds(Scope::Service(service.slot))
    });
    if let Some(service) = gone {
        let name = &service.name;
        bail!("{REFUSED}: it has no service {name}; `shedder resume --service {name}` first");
    }
    Ok(())
}

/// Gives each service a slot: the one that its name had, else a free one.
fn service_slots(config: &Config, state: Option<&State>) -> Result<Vec<u8>> {
    let known = state.map(State::services).unwrap_or_default();
    let stays = |slot: usize| {
        known.iter().any(|s| s.slot == slot && config.services.iter().any(|c| c.name == s.name))
    };
    // Slots that nobody had come first: until the new names are written, the words of the old ones hold.
    let had = |slot: &usize| known.iter().any(|service| service.slot == *slot);
    let unused = (0..MAX_SERVICES).filter(|slot| !had(slot));
    let mut free = unused.chain((0..MAX_SERVICES).filter(|slot| had(slot) && !stays(*slot)));
    let slot_of = |name: &str, free: &mut dyn Iterator<Item = usize>| {
        let old = known.iter().find(|service| service.name == name).map(|service| service.slot);
        old.or_else(|| free.next()).map(|slot| slot as u8)
    };
    let slots = config.services.iter().map(|service| slot_of(&service.name, &mut free));
    slots
        .collect::<Option<Vec<_>>>()
        .with_context(|| format!("no more than {MAX_SERVICES} services can be held"))
}

/// Writes who has which slot, and clears the words of slots that change hands.
fn name_services(state: &State, config: &Config, slots: &[u8]) {
    let known = state.services();
    for slot in 0..MAX_SERVICES {
        let new =
            config.services.iter().zip(slots).find(|(_, owner)| **owner as usize == slot).map(|(s, _)| s);
        let old = known.iter().find(|service| service.slot == slot);
        if old.map(|service| service.name.as_str()) != new.map(|service| service.name.as_str()) {
            state.set_kill(Scope::Service(slot), KillWord::NONE);
            state.set_override(Some(slot), OverrideWord::NONE);
            state.set_cutoff(slot, shedder_common::class::SHED_NOTHING);
            state.set_reflex(slot, ReflexWord::NONE);
            state.set_measured_share(slot, 1.0);
        }
        let Some(new) = new else {
            if old.is_some() {
                state.service_entries().write(slot, &Service::zeroed());
            }
            continue;
        };
        let same = old.filter(|old| old.name == new.name).map(|old| old.entry).unwrap_or(Service::zeroed());
        let entry = Service {
            name: name_bytes(&new.name),
            port: new.port,
            protocol: match new.protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
            },
            class: new.class as u8,
            signal: match new.signal {
                Signal::None => Service::SIGNAL_NONE,
                Signal::Passive { .. } => Service::SIGNAL_PASSIVE,
                Signal::Probe { .. } => Service::SIGNAL_PROBE,
                Signal::Push => Service::SIGNAL_PUSH,
            },
            every_packet: (new.shed == crate::config::Shed::Packets) as u8,
            target: new.target.as_nanos() as u64,
            ..same
        };
        state.service_entries().write(slot, &entry);
    }
}

/// A step that was taken, and how to take it back.
enum Undo {
    /// A link was made and pinned.
    Made(PathBuf),
    /// A filter was made.
    MadeFilter(Filter),
    /// This was held before.
    Replaced(Hold, OwnedFd),
    /// This XDP program was attached in another mode before, by a link that was pinned here.
    Moved { pin: PathBuf, interface: u32, mode: AttachedMode, program: OwnedFd },
    /// An entry said this before.
    Entry(usize, Interface),
}

impl Undo {
    fn apply(self, state: &State) {
        let undone = match self {
            Undo::Made(pin) => remove_link(&pin),
            Undo::MadeFilter(filter) => filter.remove().map_err(anyhow::Error::from),
            Undo::Replaced(hold, program) => hold.replace(program.as_fd()).map_err(anyhow::Error::from),
            Undo::Moved { pin, interface, mode, program } => remove_link(&pin).and_then(|()| {
                let link = sys::link_xdp(program.as_fd(), interface, mode == AttachedMode::Native)?;
                Ok(sys::pin(link.as_fd(), &pin)?)
            }),
            Undo::Entry(slot, entry) => {
                state.interface_entries().write(slot, &entry);
                Ok(())
            }
        };
        if let Err(error) = undone {
            tracing::error!("cannot take back a step of an attachment that failed: {error:#}");
        }
    }
}

/// Puts the programs on an interface, both ways. What was done is in `undo`, also where it fails.
fn hold(
    pins: &Pins,
    target: &Target,
    programs: &mut Programs,
    mode: Mode,
    state: &State,
    undo: &mut Vec<Undo>,
) -> Result<Interface> {
    let mut entry = Interface { index: target.index, name: name_bytes(&target.name), ..Interface::zeroed() };
    let [ingress, egress] = Way::BOTH.map(|way| pins.link(way, target.slot));
    let found = netlink::xdp_on(target.index).context("cannot ask for the XDP program that is there")?;
    let link = Hold::by_link(&ingress, target.index)?;
    let program = &mut programs.ingress;
    entry.programs[0] = program_id(program.fd()?)?;
    match (link, found) {
        (Some(link), Some(found)) if link.program()? == found.id => {
            let own = |id| pins.own_program(Way::Ingress, target.slot, id);
            if mode_fits(mode, found.mode) {
                undo.extend(replace(link, program.fd()?, own)?);
                entry.mode = found.mode.to_abi();
            } else {
                let before = own(found.id).map_or_else(|| sys::program_by_id(found.id), Ok);
                let before = before.context("cannot open the program that is attached")?;
                drop(link);
                entry.mode =
                    change_mode(program, target, (mode, found.mode), &ingress, before, state, undo)?.to_abi();
            }
        }
        (link, _) => {
            if link.is_some() {
                // It holds an interface of this index in another network namespace, and the other link does so too.
                drop(link);
                remove_link(&egress)?;
            }
            remove_link(&ingress)?;
            entry.mode = attach_xdp(program, target, mode, &ingress)?.to_abi();
            undo.push(Undo::Made(ingress));
        }
    }

    let program = &mut programs.egress;
    entry.programs[1] = program_id(program.fd()?)?;
    let first = pins.first_link(target.slot);
    // Of a run that died: ours is in force without it.
    remove_link(&first)?;
    let before = chain::before_ours(pins, target.slot, target.index)
        .context("cannot ask for the programs on the way out")?
        .unwrap_or_default();
    match Hold::on_the_way_out(&egress, target.index, state.owner())? {
        // The kernel takes no program twice: the one that is there already stays where it is.
        Some(Hold::Link(link))
            if !before.is_empty() && sys::link_state(link.as_fd())?.program != entry.programs[1] =>
        {
            let own = |id| pins.own_program(Way::Egress, target.slot, id);
            undo.extend(go_first(program, &target.name, link, (&first, &egress), own)?)
        }
        Some(hold) => {
            undo.extend(replace(hold, program.fd()?, |id| pins.own_program(Way::Egress, target.slot, id))?)
        }
        None => {
            remove_link(&egress)?;
            let place = (target.name.as_str(), target.index);
            undo.push(match attach_on_the_way_out(program, place, &egress, state.owner())? {
                Some(filter) => Undo::MadeFilter(filter),
                None => Undo::Made(egress),
            });
        }
    }
    Ok(entry)
}

/// Goes over to another mode, for which the kernel wants the old program off first: for that moment nothing is judged.
fn change_mode(
    program: &mut aya::programs::Xdp,
    target: &Target,
    (wanted, old): (Mode, AttachedMode),
    pin: &Path,
    before: OwnedFd,
    state: &State,
    undo: &mut Vec<Undo>,
) -> Result<AttachedMode> {
    let now = sys::monotonic();
    let holds = |scope| state.kill(scope).is_set() && state.kill(scope).holds(now);
    let services = state.services();
    let mut scopes = [Scope::Host, Scope::Interface(target.slot)]
        .into_iter()
        .chain(services.iter().map(|service| Scope::Service(service.slot)));
    if scopes.any(holds) {
        bail!(
            "a kill is in force, and to leave {} mode would lift it for a moment: `shedder resume` first, or keep the mode",
            old.name()
        );
    }
    undo.push(Undo::Moved { pin: pin.into(), interface: target.index, mode: old, program: before });
    remove_link(pin)?;
    attach_xdp(program, target, wanted, pin)
}

fn program_id(program: &aya::programs::ProgramFd) -> Result<u32> {
    sys::program_id(program.as_fd()).context("cannot read a program's id")
}

/// Puts a program in place of the one that is held, in one step. `own` finds that one by its id if it is pinned: opening
/// another, which somebody put there, takes CAP_SYS_ADMIN. Without it there is no way back to that one, and what takes its
/// place stays where a later step fails.
fn replace(
    hold: Hold,
    program: &aya::programs::ProgramFd,
    own: impl Fn(u32) -> Option<OwnedFd>,
) -> Result<Option<Undo>> {
    let before = held_before(&hold, own)?;
    hold.replace(program.as_fd()).context("the kernel refused to replace the program")?;
    Ok(before.map(|before| Undo::Replaced(hold, before)))
}

/// Opens the program that is held, where that is allowed.
fn held_before(hold: &Hold, own: impl Fn(u32) -> Option<OwnedFd>) -> Result<Option<OwnedFd>> {
    let id = hold.program()?;
    match own(id) {
        Some(own) => Ok(Some(own)),
        None => match sys::program_by_id(id) {
            Ok(other) => Ok(Some(other)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error).context("cannot open the program that is attached"),
        },
    }
}

/// Puts a program first among those that judge what leaves, in place of one of ours that others are before: by a link of
/// its own, since none can be moved, which takes the other's pin. For a moment both judge, so that there is none without.
fn go_first(
    program: &mut SchedClassifier,
    interface: &str,
    old: OwnedFd,
    (first, pin): (&Path, &Path),
    own: impl Fn(u32) -> Option<OwnedFd>,
) -> Result<Option<Undo>> {
    let old = Hold::Link(old);
    let before = held_before(&old, own)?;
    link_first(program, interface, first)?;
    let link = fault::point().and_then(|()| {
        let link = sys::get_pinned(first)?;
        std::fs::rename(first, pin)?;
        Ok(link)
    });
    let link = match link {
        Ok(link) => link,
        Err(error) => {
            // The error to tell is the first.
            let _ = remove_link(first);
            return Err(error).context("cannot exchange the egress link");
        }
    };
    tracing::info!(interface, "others were before shedder on the way out: it is the first again");
    if let Hold::Link(old) = &old {
        let _ = sys::link_detach(old.as_fd());
    }
    Ok(before.map(|before| Undo::Replaced(Hold::Link(link), before)))
}

/// Attaches the XDP program and pins its link.
fn attach_xdp(
    program: &mut aya::programs::Xdp,
    target: &Target,
    mode: Mode,
    pin: &Path,
) -> Result<AttachedMode> {
    fault::point()?;
    let mut attach = |mode| program.attach_to_if_index(target.index, mode);
    let (id, attached) = match mode {
        Mode::Generic => (attach(XdpMode::Skb).map_err(|e| refused(e, target))?, AttachedMode::Generic),
        Mode::Native => (attach(XdpMode::Driver).map_err(|e| refused(e, target))?, AttachedMode::Native),
        Mode::Auto => match attach(XdpMode::Driver) {
            Ok(id) => (id, AttachedMode::Native),
            Err(error) if is_taken(&error) => return Err(refused(error, target)),
            Err(error) => {
                tracing::warn!(
                    interface = target.name,
                    "native mode refused ({}): attaching in generic mode, which costs more per packet",
                    cause(&error)
                );
                (attach(XdpMode::Skb).map_err(|e| refused(e, target))?, AttachedMode::Generic)
            }
        },
    };
    let link: FdLink = program
        .take_link(id)?
        .try_into()
        .context("the kernel made no XDP link: Linux 5.9 or later is needed")?;
    fault::point()?;
    link.pin(pin).context("cannot pin the ingress link")?;
    Ok(attached)
}

fn errno(error: &ProgramError) -> Option<i32> {
    io_error_of(error).and_then(|error| error.raw_os_error())
}

fn cause(error: &ProgramError) -> String {
    io_error_of(error).map_or_else(|| error.to_string(), |error| error.to_string())
}

/// Whether another XDP program holds the interface.
fn is_taken(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::EEXIST))
}

/// What to do where another XDP program is on the interface.
fn taken(target: &Target, who: Option<netlink::XdpProgram>) -> anyhow::Error {
    let name = &target.name;
    let who = who.map_or_else(String::new, |program| format!(" (id {})", program.id));
    anyhow!(
        "another XDP program{who} is attached to {name}, and is left alone: see `ip -d link show {name}`; take it off \
         with `ip link set {name} xdp off` if it is not wanted"
    )
}

/// Why the kernel refused the XDP program, and what to do.
fn refused(error: ProgramError, target: &Target) -> anyhow::Error {
    let name = &target.name;
    if is_taken(&error) {
        return taken(target, netlink::xdp_on(target.index).ok().flatten());
    }
    match errno(&error) {
        Some(libc::EOPNOTSUPP) => anyhow!(
            "the driver of {name} cannot run XDP in native mode ({}): use `mode = \"auto\"` or `mode = \"generic\"`",
            cause(&error)
        ),
        Some(libc::EPERM) => anyhow!("attaching needs {}", sys::PRIVILEGES),
        _ => anyhow!("the kernel refused the XDP program: {}", cause(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Posture;

    fn held(slot: usize, name: &str, index: u32) -> InterfaceState {
        InterfaceState {
            slot,
            name: name.into(),
            index,
            mode: AttachedMode::Native,
            dry_run: false,
            posture: Posture::Open,
            attachment: Attachment::Whole,
            before: Some(Vec::new()),
            is_in_chain: true,
        }
    }

    fn slots(held: &[InterfaceState], found: &[(&str, u32)]) -> Vec<usize> {
        let found = found.iter().map(|(name, index)| (name.to_string(), *index)).collect();
        slots_of(held, found).unwrap().into_iter().map(|target| target.slot).collect()
    }

    #[test]
    fn an_interface_keeps_its_slot_by_what_it_is_then_by_its_name() {
        let both = [held(0, "a", 1), held(1, "b", 2)];
        assert_eq!(slots(&both, &[("b", 2), ("a", 1)]), [1, 0]);
        // Renamed into each other; made again; and a new one.
        assert_eq!(slots(&both, &[("a", 2), ("b", 1)]), [1, 0]);
        assert_eq!(slots(&both, &[("a", 7), ("b", 2)]), [0, 1]);
        assert_eq!(slots(&both, &[("c", 7), ("a", 1)]), [2, 0]);
    }

    #[test]
    fn no_two_interfaces_have_the_same_slot_where_one_has_the_old_name_of_the_other() {
        let one = [held(0, "a", 1)];
        assert_eq!(slots(&one, &[("a", 3), ("b", 1)]), [1, 0]);
        assert_eq!(slots(&one, &[("b", 1), ("a", 3)]), [0, 1]);
    }
}
