//! What aya does not offer of `bpf(2)`, and the clocks.

use super::fault;
use aya_obj::generated::{
    BPF_F_XDP_HAS_FRAGS, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_attach_type, bpf_attr, bpf_cmd,
    bpf_link_info, bpf_map_info, bpf_prog_info, bpf_prog_type,
};
use aya_obj::{Function, Program, ProgramSection};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// Whether `fs` is a BPF file system, by the magic of `statfs(2)`.
pub(super) fn is_bpffs(path: &Path) -> io::Result<bool> {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let found = nix::sys::statfs::statfs(path)?;
    Ok(found.filesystem_type().0 as i64 & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Nanoseconds of CLOCK_MONOTONIC, the clock that the programs read: the kernel's own, also where this process lives in a
/// time namespace, whose clock is ahead of it or behind.
pub fn monotonic() -> u64 {
    static AHEAD: OnceLock<i64> = OnceLock::new();
    let ahead = AHEAD.get_or_init(|| {
        // A kernel without time namespaces has no such file.
        let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        monotonic_offset(&offsets).unwrap_or(0)
    });
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
    (Duration::from(now).as_nanos() as u64).wrapping_add_signed(-ahead)
}

/// By how many nanoseconds the monotonic clock of a time namespace is ahead of the kernel's, from `timens_offsets`.
fn monotonic_offset(offsets: &str) -> Option<i64> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// How often the coarse clock moves: what the kernel counts as a tick.
pub(super) fn coarse_tick() -> Duration {
    let tick = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    tick.expect("CLOCK_MONOTONIC_COARSE exists").into()
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: the attributes live across the call, and every pointer in them was taken from something that does too.
    let returned =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut bpf_attr, mem::size_of::<bpf_attr>()) };
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of plain data, for which all zeros are valid.
    unsafe { mem::zeroed() }
}

fn owned(descriptor: i64) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}

/// Opens a pinned object.
pub(super) fn get_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// Opens the program with this id.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr).map(owned)
}

/// Loads the description of programs that tools read.
pub(super) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_7.btf = btf.as_ptr() as u64;
    attr.__bindgen_anon_7.btf_size = btf.len() as u32;
    bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr).map(owned)
}

/// Loads a program. Where the kernel does not take it, what the verifier said is there as well.
pub(super) fn load_program(
    name: &str,
    program: &Program,
    function: &Function,
    btf: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, (io::Error, String)> {
    // The verifier's last words, and how far it came: not what it thought of each instruction.
    const LOG_STATS: u32 = 4;
    const LOG_SIZE: usize = 1 << 16;
    let mut attr = zeroed_attr();
    // SAFETY: one part of a union of plain data that is zeroed, from which only what is written here is read.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    let closed_by_zero = load.prog_name.len() - 1;
    for (to, from) in load.prog_name[..closed_by_zero].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    match program.section {
        ProgramSection::Xdp { frags, .. } => {
            load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
            load.expected_attach_type = bpf_attach_type::BPF_XDP as u32;
            load.prog_flags = if frags { BPF_F_XDP_HAS_FRAGS } else { 0 };
        }
        _ => load.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32,
    }
    load.insns = function.instructions.as_ptr() as u64;
    load.insn_cnt = function.instructions.len() as u32;
    load.license = program.license.as_ptr() as u64;
    let functions = function.func_info.func_info_bytes();
    let lines = one_for_each_place(&function.line_info.line_info_bytes(), function.line_info_rec_size);
    if let Some(btf) = btf {
        load.prog_btf_fd = btf.as_raw_fd() as u32;
        load.func_info = functions.as_ptr() as u64;
        load.func_info_cnt = function.func_info.len() as u32;
        load.func_info_rec_size = function.func_info_rec_size as u32;
        load.line_info = lines.as_ptr() as u64;
        load.line_info_cnt = (lines.len() / function.line_info_rec_size.max(1)) as u32;
        load.line_info_rec_size = function.line_info_rec_size as u32;
    }
    let error = match bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) {
        Ok(program) => return Ok(owned(program)),
        Err(error) => error,
    };
    let mut log = vec![0u8; LOG_SIZE];
    attr.__bindgen_anon_3.log_buf = log.as_mut_ptr() as u64;
    attr.__bindgen_anon_3.log_size = LOG_SIZE as u32;
    attr.__bindgen_anon_3.log_level = LOG_STATS;
    match error.raw_os_error() {
        // Not the verifier's.
        Some(libc::EPERM | libc::ENOMEM | libc::EAGAIN) => Err((error, String::new())),
        _ => match bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr) {
            Ok(program) => Ok(owned(program)),
            Err(error) => {
                let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
                Err((error, String::from_utf8_lossy(said).into_owned()))
            }
        },
    }
}

/// Records of source lines, `length` bytes each, without those at whose place another follows, as it does where inline assembly is
/// empty: the kernel takes one for each.
fn one_for_each_place(records: &[u8], length: usize) -> Vec<u8> {
    // The place comes first.
    let place =
        |record: &[u8]| u32::from_ne_bytes(*record.first_chunk().expect("a record is longer than its place"));
    let records: Vec<&[u8]> = records.chunks_exact(length.max(4)).collect();
    let followed = records.iter().zip(records.iter().skip(1).map(Some).chain([None]));
    let kept = followed.filter(|(record, next)| next.is_none_or(|next| place(next) != place(record)));
    kept.flat_map(|(record, _)| record.iter().copied()).collect()
}

/// Forbids this process and every other to write to a map.
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr).map(drop)
}

/// Runs an XDP program once on a frame. Its action.
pub(super) fn run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    let mut attr = zeroed_attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: what was asked with is what is answered with.
    Ok(unsafe { attr.test.retval })
}

/// Pins an object.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    fault::point()?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Takes a link's program off its interface, at once: where the last reference to a link goes, that is done later.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Puts another program behind a link, in one step.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    fault::point()?;
    let mut attr = zeroed_attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Attaches an XDP program to an interface in this mode.
pub(super) fn link_xdp(program: BorrowedFd<'_>, interface: u32, is_native: bool) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = interface;
    attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attr.link_create.flags = if is_native { XDP_FLAGS_DRV_MODE } else { XDP_FLAGS_SKB_MODE };
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// A program of the tcx chain of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chained {
    pub(super) program: u32,
    /// The id of the link that holds it; zero: none does.
    pub(super) link: u32,
}

/// The programs that judge what leaves an interface of the caller's network namespace, the first first; none where the
/// kernel has no tcx.
pub(super) fn tcx_on_the_way_out(interface: u32) -> io::Result<Vec<Chained>> {
    // As many as the kernel takes.
    const MOST: usize = 64;
    let (mut programs, mut links) = ([0u32; MOST], [0u32; MOST]);
    let mut attr = zeroed_attr();
    attr.query.__bindgen_anon_1.target_ifindex = interface;
    attr.query.attach_type = bpf_attach_type::BPF_TCX_EGRESS as u32;
    attr.query.prog_ids = programs.as_mut_ptr() as u64;
    attr.query.link_ids = links.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.count = MOST as u32;
    match bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr) {
        Ok(_) => {}
        // No tcx, no interface, none that has ever had a program.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENODEV | libc::ENOENT)) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    }
    // SAFETY: what was asked with is what is answered with.
    let query = unsafe { attr.query };
    // SAFETY: the kernel has written how many there are.
    let count = unsafe { query.__bindgen_anon_2.count } as usize;
    let chain = programs.into_iter().zip(links).take(count);
    Ok(chain.map(|(program, link)| Chained { program, link }).collect())
}

/// The name of a program, for which it has to be opened: that takes CAP_SYS_ADMIN.
pub(super) fn program_name(id: u32) -> io::Result<String> {
    let info: bpf_prog_info = info(program_by_id(id)?.as_fd())?;
    let name: Vec<u8> = info.name.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Fills `T`, which must be the kernel's description of the kind of object that `object` is.
fn info<T>(object: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: only used with the three structures below, which are plain data.
    let mut info: T = unsafe { mem::zeroed() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = mem::size_of::<T>() as u32;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    /// Zero: the interface is gone, or the link was detached by force.
    pub(super) interface: u32,
    pub(super) program: u32,
    /// Its own id.
    pub(super) link: u32,
}

/// What an XDP or tcx link is attached to now.
pub(super) fn link_state(link: BorrowedFd<'_>) -> io::Result<LinkState> {
    let info: bpf_link_info = info(link)?;
    // SAFETY: XDP and tcx both begin their part with the interface's index, and all of it was zeroed.
    let interface = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok(LinkState { interface, program: info.prog_id, link: info.id })
}

/// The id of a program.
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    info::<bpf_prog_info>(program).map(|info| info.id)
}

/// The shape of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapShape {
    pub(super) id: u32,
    pub(super) kind: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
}

/// The shape of the map behind a descriptor.
pub(super) fn map_shape(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    let info: bpf_map_info = info(map)?;
    Ok(MapShape { id: info.id, kind: info.type_, value_size: info.value_size, max_entries: info.max_entries })
}

/// Overwrites the value of an array map that has one.
///
/// # Safety
/// `value` is as long as the map's value, which is what the kernel reads.
pub(super) unsafe fn write_value(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let first = 0u32;
    let mut attr = zeroed_attr();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = &raw const first as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// The link type (`ARPHRD_`) of an interface of the caller's network namespace, which `/sys` need not show.
pub(super) fn link_type(interface: &str) -> io::Result<u16> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: plain data, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the kernel reads the name, closed by a zero, and writes an address, all inside `request`.
    let returned = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) };
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this is the part that the kernel has just written.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

/// What [`may_attach`] asks for, as an error says it.
pub(super) const PRIVILEGES: &str = "root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN together";

/// Whether this process may load and attach programs, by its effective capabilities. Where they cannot be read, the
/// kernel will say.
pub(super) fn may_attach() -> bool {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    // Without it the verifier follows pointers on the stack less closely than the programs need.
    const CAP_PERFMON: u64 = 1 << 38;
    const CAP_BPF: u64 = 1 << 39;
    const NEEDED: u64 = CAP_BPF | CAP_PERFMON | CAP_NET_ADMIN;
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(held) = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else { return true };
    held & CAP_SYS_ADMIN != 0 || held & NEEDED == NEEDED
}

/// The lock of a directory of pins: held as long as the file lives.
pub(super) fn lock(directory: &Path) -> io::Result<Option<File>> {
    let file = File::open(directory)?;
    match file.try_lock() {
        // Its last holder may have removed the directory between the two calls: another process could lock the next.
        Ok(()) if !is_still(&file, directory) => lock(directory),
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The process that holds the lock of a directory, by the kernel's list of locks.
pub(super) fn lock_holder(directory: &Path) -> io::Result<Option<i32>> {
    let metadata = directory.metadata()?;
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    // Such as `1: FLOCK  ADVISORY  WRITE 812 00:1f:2 0 EOF`.
    let holder = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, "WRITE", pid, found, ..] if found == place => pid.parse().ok(),
            _ => None,
        }
    };
    Ok(std::fs::read_to_string("/proc/locks")?.lines().find_map(holder).filter(|pid| *pid > 0))
}

/// Whether `path` still leads to what was opened there.
pub(super) fn is_still(file: &File, path: &Path) -> bool {
    let place = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), path.metadata()), (Ok(a), Ok(b)) if place(&a) == place(&b))
}

#[cfg(test)]
mod tests {
    use super::{monotonic_offset, one_for_each_place};

    #[test]
    fn of_source_lines_at_one_place_the_last_is_kept() {
        let records = |lines: &[(u32, u32)]| -> Vec<u8> {
            lines
                .iter()
                .flat_map(|(place, line)| [place.to_ne_bytes(), line.to_ne_bytes()].concat())
                .collect()
        };
        let all = records(&[(0, 7), (3, 8), (3, 9), (3, 10), (4, 8), (9, 1), (9, 2)]);
        assert_eq!(one_for_each_place(&all, 8), records(&[(0, 7), (3, 10), (4, 8), (9, 2)]));
        assert!(one_for_each_place(&[], 0).is_empty());
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let offsets = |seconds, nanoseconds| {
            monotonic_offset(&format!(
                "monotonic  {seconds:>10} {nanoseconds:>9}\nboottime            7         0\n"
            ))
        };
        assert_eq!(offsets(0, 0), Some(0));
        assert_eq!(offsets(86_400, 5), Some(86_400_000_000_005));
        assert_eq!(offsets(-2, 500_000_000), Some(-1_500_000_000));
        assert_eq!(monotonic_offset(""), None);
    }
}
