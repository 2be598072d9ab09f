//! Programs of nobody's in particular, and a hand on those of others: what an operator with `bpftool` could do.

use anyhow::{Context, Result};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a program can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP: what arrives, before the kernel's stack.
    Xdp,
    /// tcx: what leaves.
    Egress,
}

/// Where among the programs of a tcx hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all that are there.
    First,
    /// After all that are there.
    Last,
}

/// A program that lets every packet pass, and counts them.
#[derive(Debug)]
pub struct Passing {
    hook: Hook,
    program: OwnedFd,
    count: OwnedFd,
}

/// A program's link to an interface. Dropped and not pinned, it is detached.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// An object in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A program, by its id.
    Program(u32),
    /// A map, by its id.
    Map(u32),
    /// A link, by its id.
    Link(u32),
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The link's id.
    pub link: u32,
    /// The program's id.
    pub program: u32,
    /// The interface's index; 0: the link holds none any more.
    pub interface: u32,
}

impl Passing {
    /// Loads one for this hook. On the way out, the programs behind it are asked as well.
    pub fn load(hook: Hook) -> Result<Passing> {
        match hook {
            Hook::Xdp => Passing::returning(hook, 2),
            Hook::Egress => Passing::returning(hook, TCX_NEXT),
        }
    }

    /// Loads one for the way out that ends the chain: no program behind it sees a packet.
    pub fn load_ending() -> Result<Passing> {
        Passing::returning(Hook::Egress, TCX_PASS)
    }

    fn returning(hook: Hook, pass: i32) -> Result<Passing> {
        let mut attributes = MapCreate { kind: ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
        let count = bpf_object(MAP_CREATE, &mut attributes).context("creating a map")?;
        let (kind, attach_type) = match hook {
            Hook::Xdp => (6, XDP),
            Hook::Egress => (3, TCX_EGRESS),
        };
        let code = [
            // r1 = address of the count, in two instructions; r2 = 1
            instruction(0x18, 2 << 4 | 1, 0, count.as_raw_fd()),
            instruction(0, 0, 0, 0),
            instruction(0xb7, 2, 0, 1),
            // lock *r1 += r2
            instruction(0xdb, 2 << 4 | 1, 0, 0),
            // return
            instruction(0xb7, 0, 0, pass),
            instruction(0x95, 0, 0, 0),
        ];
        let mut attributes = ProgramLoad {
            kind,
            instructions: code.len() as u32,
            code: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            room: [0; 5],
            interface: 0,
            attach_type,
        };
        let program = bpf_object(PROG_LOAD, &mut attributes).context("loading a program")?;
        Ok(Passing { hook, program, count })
    }

    /// Its id.
    pub fn id(&self) -> Result<u32> {
        Ok(head(&self.program)?.id)
    }

    /// How many packets it has seen.
    pub fn seen(&self) -> Result<u64> {
        let (key, mut value) = (0u32, 0u64);
        let mut attributes = Element {
            map: self.count.as_raw_fd() as u32,
            key: (&raw const key) as u64,
            value: (&raw mut value) as u64,
            ..Element::default()
        };
        bpf(MAP_LOOKUP_ELEM, &mut attributes).context("reading a map")?;
        Ok(value)
    }

    /// Attaches it to an interface of the namespace that the calling thread is in. XDP has one place only.
    pub fn attach(&self, interface: &str, place: Place) -> Result<Link> {
        let index = nix::net::if_::if_nametoindex(interface).context("finding an interface")?;
        let (attach_type, flags) = match (self.hook, place) {
            (Hook::Xdp, _) => (XDP, 0),
            (Hook::Egress, Place::First) => (TCX_EGRESS, 1 << 3),
            (Hook::Egress, Place::Last) => (TCX_EGRESS, 1 << 4),
        };
        let program = self.program.as_raw_fd() as u32;
        let mut attributes = LinkCreate { program, interface: index, attach_type, flags, room: [0; 3] };
        let link = bpf_object(LINK_CREATE, &mut attributes);
        Ok(Link(link.with_context(|| format!("attaching a program to {interface}"))?))
    }

    /// Pins it.
    pub fn pin(&self, path: &Path) -> Result<()> {
        pin(&self.program, path)
    }

    /// Puts it behind a pinned link, in place of the program that is there.
    pub fn put_behind(&self, link: &Path) -> Result<()> {
        let link = open(link)?;
        let (link, program) = (link.as_raw_fd() as u32, self.program.as_raw_fd() as u32);
        bpf(LINK_UPDATE, &mut LinkUpdate { link, program, flags: 0, old: 0 }).context("updating a link")?;
        Ok(())
    }
}

impl Link {
    /// Pins it.
    pub fn pin(&self, path: &Path) -> Result<()> {
        pin(&self.0, path)
    }

    /// What it is attached to.
    pub fn attached(&self) -> Result<Attached> {
        attached(&self.0)
    }
}

impl Object {
    /// Whether the kernel still has it.
    pub fn exists(self) -> bool {
        let (command, id) = match self {
            Object::Program(id) => (13, id),
            Object::Map(id) => (14, id),
            Object::Link(id) => (30, id),
        };
        bpf_object(command, &mut ById { id, next: 0, flags: 0 }).is_ok()
    }
}

/// What a pinned link is attached to.
pub fn attached_by(link: &Path) -> Result<Attached> {
    attached(&open(link)?)
}

/// Detaches a pinned link by force: it stays, and holds nothing.
pub fn detach_by_force(link: &Path) -> Result<()> {
    bpf(LINK_DETACH, &mut Descriptor { object: open(link)?.as_raw_fd() as u32, flags: 0 })
        .context("detaching a link")?;
    Ok(())
}

/// Writes one entry of a pinned array map.
pub fn write(map: &Path, index: u32, value: &[u8]) -> Result<()> {
    let map = open(map)?;
    let mut attributes = Element {
        map: map.as_raw_fd() as u32,
        key: (&raw const index) as u64,
        value: value.as_ptr() as u64,
        ..Element::default()
    };
    bpf(MAP_UPDATE_ELEM, &mut attributes).context("writing a map")?;
    Ok(())
}

/// Reads one entry, of as many bytes as `N`, of a pinned array map that is not per CPU.
pub fn read<const N: usize>(map: &Path, index: u32) -> Result<[u8; N]> {
    let value = read_value(map, index)?;
    let size = value.len();
    value.try_into().map_err(|_| anyhow::anyhow!("the map's values have {size} bytes, not {N}"))
}

/// Reads an entry of a pinned array map, however long it is.
pub fn read_value(map: &Path, index: u32) -> Result<Vec<u8>> {
    let map = open(map)?;
    let mut value = vec![0; info::<MapInfo>(&map)?.value_size as usize];
    let mut attributes = Element {
        map: map.as_raw_fd() as u32,
        key: (&raw const index) as u64,
        value: value.as_mut_ptr() as u64,
        ..Element::default()
    };
    bpf(MAP_LOOKUP_ELEM, &mut attributes).context("reading a map")?;
    Ok(value)
}

/// All that is pinned under a directory, and what pinned programs use.
pub fn objects_under(directory: &Path) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    // A symbolic link notes something that is no object of the kernel's.
    for path in pins_under(directory)?.into_iter().filter(|path| !path.is_symlink()) {
        let object = open(&path)?;
        let kind = std::fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd()))?;
        let id = head(&object)?.id;
        match kind.to_str() {
            Some("anon_inode:bpf-map") => objects.push(Object::Map(id)),
            Some("anon_inode:bpf-prog") => {
                objects.push(Object::Program(id));
                objects.extend(maps_of(&object)?.into_iter().map(Object::Map));
            }
            // A link is told after its kind, or after links as such: kernels differ.
            _ => objects.push(Object::Link(id)),
        }
    }
    objects.sort_unstable();
    objects.dedup();
    Ok(objects)
}

/// Every file under a directory; none where it does not exist.
pub fn pins_under(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("listing {}", directory.display()))?,
    };
    let mut pins = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            pins.extend(pins_under(&entry.path())?);
        } else {
            pins.push(entry.path());
        }
    }
    Ok(pins)
}

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

const ARRAY: u32 = 2;
const XDP: u32 = 37;
const TCX_EGRESS: u32 = 47;
const TCX_NEXT: i32 = -1;
const TCX_PASS: i32 = 0;

/// Heads of `union bpf_attr`, as each command reads it; the kernel takes what is left out as zero.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    /// Its log, a kernel version, flags and a name: none.
    room: [u64; 5],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

#[repr(C)]
struct Info {
    object: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
struct Descriptor {
    object: u32,
    flags: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    /// For what the program is to be next to, which is nothing, and what revision of the hook is expected: any.
    room: [u64; 3],
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// How the description of every kind of object begins.
#[repr(C)]
#[derive(Clone, Copy)]
struct Head {
    kind: u32,
    id: u32,
}

/// The head of `struct bpf_link_info`, for XDP and tcx.
#[repr(C)]
#[derive(Clone, Copy)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
    attach_type: u32,
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: u64,
    lengths: [u32; 2],
    code: [u64; 2],
    load_time: u64,
    user: u32,
    map_count: u32,
    maps: u64,
}

/// Plain data that the kernel fills.
trait Plain: Copy {}
impl Plain for Head {}
impl Plain for LinkInfo {}
impl Plain for MapInfo {}
impl Plain for ProgramInfo {}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    let attributes: *mut T = attributes;
    // SAFETY: the kernel reads and writes as many bytes as the third argument says, all of them the attributes'; what
    // pointers among them point to is alive in every caller.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned as i32) }
}

fn bpf_object<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let object = bpf(command, attributes)?;
    // SAFETY: the call made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(object) })
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).context("a path with a zero in it")
}

fn open(path: &Path) -> Result<OwnedFd> {
    let name = c_path(path)?;
    bpf_object(OBJ_GET, &mut Pin { path: name.as_ptr() as u64, object: 0, flags: 0 })
        .with_context(|| format!("opening {}", path.display()))
}

fn pin(object: &OwnedFd, path: &Path) -> Result<()> {
    let name = c_path(path)?;
    bpf(OBJ_PIN, &mut Pin { path: name.as_ptr() as u64, object: object.as_raw_fd() as u32, flags: 0 })
        .with_context(|| format!("pinning to {}", path.display()))?;
    Ok(())
}

fn info_into<T: Plain>(object: &OwnedFd, info: &mut T) -> Result<()> {
    let mut attributes = Info {
        object: object.as_raw_fd() as u32,
        length: size_of::<T>() as u32,
        info: (&raw mut *info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes).context("reading an object's description")?;
    Ok(())
}

fn info<T: Plain>(object: &OwnedFd) -> Result<T> {
    // SAFETY: made of integers, for which all zeros are valid.
    let mut info: T = unsafe { std::mem::zeroed() };
    info_into(object, &mut info)?;
    Ok(info)
}

fn head(object: &OwnedFd) -> Result<Head> {
    info(object)
}

fn attached(link: &OwnedFd) -> Result<Attached> {
    let info: LinkInfo = info(link)?;
    Ok(Attached { link: info.id, program: info.program, interface: info.interface })
}

fn maps_of(program: &OwnedFd) -> Result<Vec<u32>> {
    let mut ids = [0u32; 64];
    // SAFETY: made of integers, for which all zeros are valid.
    let mut info: ProgramInfo = unsafe { std::mem::zeroed() };
    info.map_count = ids.len() as u32;
    info.maps = ids.as_mut_ptr() as u64;
    info_into(program, &mut info)?;
    Ok(ids[..(info.map_count as usize).min(ids.len())].to_vec())
}

/// `struct bpf_insn`: operation, registers (source above destination), offset, immediate.
fn instruction(operation: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(operation)
        | u64::from(registers) << 8
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}
