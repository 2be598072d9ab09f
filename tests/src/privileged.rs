//! Whether this machine and user can run privileged tests.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set to 1, privileged tests are skipped where they cannot run; else they fail there.
pub const SKIP: &str = "SHEDDER_SKIP_PRIVILEGED";

/// Names a file to which each privileged test appends a line, `ran NAME` or `skipped NAME`, so that whoever runs many
/// test processes can count them.
pub const LEDGER: &str = "SHEDDER_TEST_LEDGER";

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether the calling test may go on. False: it was counted as skipped, and must return.
///
/// # Panics
/// With one sentence that names what is missing, where it is and [`SKIP`] is not 1.
#[must_use = "a test that is skipped must return"]
pub fn require() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let Some(missing) = MISSING.get_or_init(missing) else {
        enter("ran");
        return true;
    };
    if std::env::var_os(SKIP).is_none_or(|value| value != "1") {
        panic!("this test needs privileges: {missing}; or set {SKIP}=1 to skip such tests");
    }
    SKIPPED.fetch_add(1, Ordering::Relaxed);
    // Past the capture that `eprintln!` is subject to: a skipped test passes, and what passes is not shown.
    let _ = writeln!(std::io::stderr(), "skipped: {}: {missing}", test());
    enter("skipped");
    false
}

/// The test that the calling thread runs.
fn test() -> String {
    std::thread::current().name().unwrap_or("unnamed").into()
}

/// Appends a line to the ledger, where there is one.
///
/// # Panics
/// Where it cannot be written: a test that is not in the ledger would count as one that did not run.
fn enter(what: &str) {
    let Some(path) = std::env::var_os(LEDGER) else { return };
    let line = format!("{what} {}\n", test());
    let ledger = OpenOptions::new().append(true).create(true).open(&path);
    if let Err(error) = ledger.and_then(|mut ledger| ledger.write_all(line.as_bytes())) {
        panic!("{} cannot be written ({error}): let {LEDGER} name a file that can", path.display());
    }
}

/// How many tests of this process were skipped.
pub fn skipped() -> usize {
    SKIPPED.load(Ordering::Relaxed)
}

/// What is missing, as a sentence without its full stop; none: nothing.
pub fn missing() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("run it as root".into());
    }
    if let Err(error) = create_map() {
        return Some(format!(
            "bpf() is refused ({error}): run it with CAP_BPF and CAP_NET_ADMIN, outside a sandbox"
        ));
    }
    // On a thread of its own, which takes the namespace along when it ends.
    let namespace = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join().expect("does not panic");
    if let Err(error) = namespace {
        return Some(format!("network namespaces are refused ({error}): run it with CAP_SYS_ADMIN"));
    }
    if std::process::Command::new("ip").arg("-V").output().is_err() {
        return Some("`ip` is not there: install iproute2".into());
    }
    None
}

/// Makes an array map of one entry, and closes it.
fn create_map() -> std::io::Result<()> {
    /// The head of `union bpf_attr` as BPF_MAP_CREATE reads it.
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let attributes = Attributes { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
    // SAFETY: the kernel reads as many bytes as the third argument says, all of them in `attributes`.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &attributes, size_of::<Attributes>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}
