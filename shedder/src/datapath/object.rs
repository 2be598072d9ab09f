//! The object of the programs: its maps made or adopted, and its programs handed to the kernel.
//!
//! aya parses and relocates it. What aya's own loader cannot do is to let a program reach a map's value by its address, as it
//! reaches a global variable: here every array is made of one value, and a program that names it is given the address of that.

use super::sys::{self, MapShape};
use anyhow::{Context, Result, anyhow, bail};
use aya::maps::MapData;
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, bpf_insn, bpf_map_type};
use aya_obj::{EbpfSectionKind, Function, Object as Parsed, Program};
use shedder_common::abi::Policy;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// The programs, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shedder-ebpf"));

/// An instruction that loads 64 bits, which are in it and in the one behind it.
const LOAD_64: u8 = 0x18;

/// The programs of one load, which can be handed to the kernel, and the maps that they name.
pub(super) struct Object {
    programs: HashMap<String, (Program, Function)>,
    btf: Option<OwnedFd>,
    /// The programs name them by their descriptors.
    _maps: Vec<MapData>,
}

/// What a load gives a map in place of what the object says.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The map itself, where it is open: its pin may be taken away at any moment, and another map in its place would know of no kill.
    pub(super) open: Option<BorrowedFd<'a>>,
    /// Where it is pinned, or is to be; none: it is for these programs alone.
    pub(super) pin: Option<PathBuf>,
    /// How many entries it has; none: as many as the object says.
    pub(super) entries: Option<u32>,
    /// How often it has each of them.
    pub(super) copies: u32,
    /// The entry that is the programs' first: those before it are none of theirs.
    pub(super) first: u32,
}

/// A program that the kernel did not take.
#[derive(Debug)]
pub(super) struct Refused {
    /// Its name.
    pub(super) program: String,
    /// The kernel's error.
    pub(super) error: io::Error,
    /// What the verifier said.
    pub(super) log: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel did not take the program {}", self.program)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Object {
    /// Freezes `policy` into the programs, and makes or adopts their maps, of which `plan` says where and how large.
    ///
    /// # Errors
    /// Where the kernel makes no such map, or what is pinned in its place has another shape.
    pub(super) fn open<'a>(policy: &Policy, plan: impl Fn(&str) -> Plan<'a>) -> Result<Object> {
        const NO_OBJECT: &str = "the programs in this build cannot be read";
        let mut parsed = Parsed::parse(OBJECT).context(NO_OBJECT)?;
        let policy = ("POLICY", (bytemuck::bytes_of(policy), true));
        parsed.patch_map_data([policy].into()).context("the programs in this build have no policy")?;
        // What tools tell of a program; it runs without.
        let btf = match aya::features().btf() {
            Some(features) => parsed.fixup_and_sanitize_btf(features).context(NO_OBJECT)?,
            None => None,
        };
        let btf = btf.and_then(|btf| sys::load_btf(&btf.to_bytes()).ok());

        let mut maps = Vec::new();
        let mut arrays = HashMap::new();
        for (name, mut map) in parsed.maps.drain() {
            let Plan { open, pin, entries, copies, first } = plan(&name);
            let entries = entries.unwrap_or(map.max_entries()).saturating_mul(copies);
            let entry_size = map.value_size();
            if is_table(&map) {
                let bytes = entry_size.checked_mul(entries);
                map.set_value_size(
                    bytes.with_context(|| format!("the map {name} has no room for {entries} entries"))?,
                );
                map.set_max_entries(1);
            } else {
                map.set_max_entries(entries);
            }
            lie_on_a_page(&mut map);
            let made = match (open, &pin) {
                (Some(open), _) => adopt(open.try_clone_to_owned()?, &name, &map)?,
                (None, Some(pin)) => adopt_or_make(&name, &map, pin)?,
                (None, None) => make(&name, &map)?,
            };
            if is_table(&map) {
                arrays.insert(made.fd().as_fd().as_raw_fd(), first * entry_size);
            }
            maps.push((name, map, made));
        }
        let text = parsed.functions.keys().map(|(section, _)| *section).collect();
        let named = maps.iter().map(|(name, map, made)| (name.as_str(), made.fd().as_fd().as_raw_fd(), map));
        parsed.relocate_maps(named, &text).context(NO_OBJECT)?;
        parsed.functions.values_mut().for_each(|function| name_values(&mut function.instructions, &arrays));
        parsed.relocate_calls(&text).context(NO_OBJECT)?;
        parsed.sanitize_functions(aya::features());

        let programs = parsed.programs.into_iter().filter_map(|(name, program)| {
            let function = parsed.functions.get(&program.function_key())?.clone();
            Some((name, (program, function)))
        });
        let programs = programs.collect();
        Ok(Object { programs, btf, _maps: maps.into_iter().map(|(_, _, made)| made).collect() })
    }

    /// Hands a program to the kernel, again where the verifier gave up because this process was stopped or traced meanwhile.
    ///
    /// # Errors
    /// [`Refused`], where the kernel does not take it.
    pub(super) fn load(&self, name: &str) -> Result<OwnedFd> {
        const ATTEMPTS: usize = 10;
        let (program, function) =
            self.programs.get(name).with_context(|| format!("the object has no program {name}"))?;
        let btf = self.btf.as_ref().map(AsFd::as_fd);
        let attempt = || sys::load_program(name, program, function, btf);
        let is_disturbed = |error: &io::Error| error.raw_os_error() == Some(libc::EAGAIN);
        let mut loaded = attempt();
        for _ in 1..ATTEMPTS {
            match &loaded {
                Err((error, _)) if is_disturbed(error) => loaded = attempt(),
                _ => break,
            }
        }
        loaded.map_err(|(error, log)| anyhow!(Refused { program: name.into(), error, log }))
    }
}

/// Whether the map is an array of the object's own, which programs reach by the address of its value.
fn is_table(map: &aya_obj::Map) -> bool {
    map.map_type() == bpf_map_type::BPF_MAP_TYPE_ARRAY as u32 && map.data().is_empty()
}

/// Has the kernel begin the policy on a page, as it does memory that processes can share, and not somewhere on a cache line: its
/// first lines are read with every packet.
fn lie_on_a_page(map: &mut aya_obj::Map) {
    if let aya_obj::Map::Legacy(map) = map
        && map.section_kind == EbpfSectionKind::Rodata
    {
        map.def.map_flags |= BPF_F_MMAPABLE;
    }
}

/// Puts the addresses of their values, so many bytes into each, in place of the maps themselves.
fn name_values(instructions: &mut [bpf_insn], arrays: &HashMap<RawFd, u32>) {
    for at in 1..instructions.len() {
        let load = &mut instructions[at - 1];
        if load.code == LOAD_64
            && load.src_reg() == BPF_PSEUDO_MAP_FD as u8
            && let Some(&bytes) = arrays.get(&load.imm)
        {
            load.set_src_reg(BPF_PSEUDO_MAP_VALUE as u8);
            instructions[at].imm = bytes as i32;
        }
    }
}

fn make(name: &str, map: &aya_obj::Map) -> Result<MapData> {
    let made = MapData::create(map.clone(), name, None)?;
    if matches!(map.section_kind(), EbpfSectionKind::Data | EbpfSectionKind::Rodata) {
        let fd = made.fd().as_fd();
        // SAFETY: the map was just made of these data, and has a value of their length.
        unsafe { sys::write_value(fd, map.data()) }
            .with_context(|| format!("cannot write the map {name}"))?;
        if map.section_kind() == EbpfSectionKind::Rodata {
            sys::freeze(fd).with_context(|| format!("cannot freeze the map {name}"))?;
        }
    }
    Ok(made)
}

/// The map that is pinned there; where none is, one that is made and pinned.
fn adopt_or_make(name: &str, map: &aya_obj::Map, pin: &Path) -> Result<MapData> {
    let pinned = match sys::get_pinned(pin) {
        Ok(pinned) => pinned,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = make(name, map)?;
            sys::pin(made.fd().as_fd(), pin).with_context(|| format!("cannot pin {}", pin.display()))?;
            return Ok(made);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", pin.display())),
    };
    adopt(pinned, &pin.display().to_string(), map)
}

/// A map that is there, if it has the shape that the programs want.
fn adopt(there: OwnedFd, name: &str, map: &aya_obj::Map) -> Result<MapData> {
    let found = sys::map_shape(there.as_fd())?;
    let wanted = MapShape {
        id: found.id,
        kind: map.map_type(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
    };
    if found != wanted {
        bail!(
            "{name} is a map of another shape ({found:?}) than this build's ({wanted:?}): run the `shedder detach` of the build \
             that made it, then attach again"
        );
    }
    Ok(MapData::from_fd(there)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_named_by_the_address_of_their_value_and_other_maps_by_themselves() {
        const ARRAY: RawFd = 5;
        const OTHER: RawFd = 6;
        let load = |source: u32, number| {
            // SAFETY: plain data, for which all zeros are valid.
            let mut load: [bpf_insn; 2] = unsafe { std::mem::zeroed() };
            (load[0].code, load[0].imm, load[1].imm) = (LOAD_64, number, 77);
            load[0].set_src_reg(source as u8);
            load
        };
        // The array, another map, and a number that is no map.
        let mut instructions =
            [load(BPF_PSEUDO_MAP_FD, ARRAY), load(BPF_PSEUDO_MAP_FD, OTHER), load(0, ARRAY)].concat();
        name_values(&mut instructions, &HashMap::from([(ARRAY, 8)]));
        let named: Vec<_> = instructions.iter().map(|i| (u32::from(i.src_reg()), i.imm)).collect();
        let expected =
            [(BPF_PSEUDO_MAP_VALUE, ARRAY), (0, 8), (BPF_PSEUDO_MAP_FD, OTHER), (0, 77), (0, ARRAY), (0, 77)];
        assert_eq!(named, expected);
    }
}
