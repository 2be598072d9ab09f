//! Removal, also of what a process that was killed left behind.

use super::namespace::{NAMES, path};
use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A network's bpffs, in its directory.
pub(super) const BPFFS: &str = "bpf";

/// Where networks have their directories. Only root can write there, so that what is found in it can be trusted.
const REGISTRY: &str = "/run/shedder-tests";

/// Every name in the registry and among the namespaces begins with this.
const PREFIX: &str = "shedder-";

/// [`REGISTRY`], made where it is not there. A test of what others may do can open its own network's directory to them, and
/// shows nothing where they do not come as far as that.
pub(super) fn registry() -> Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .create(REGISTRY)
        .and_then(|()| std::fs::set_permissions(REGISTRY, Permissions::from_mode(0o711)))
        .with_context(|| format!("creating {REGISTRY}: networks are for root"))?;
    Ok(REGISTRY.into())
}

/// A process, told from later ones with the same id by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    /// Clock ticks since boot.
    started: u64,
}

impl Owner {
    pub(super) fn this_process() -> Owner {
        let pid = std::process::id();
        Owner { pid, started: started(pid).unwrap_or_default() }
    }

    /// What the names of all that it owns begin with.
    pub(super) fn prefix(self) -> String {
        format!("{PREFIX}{}-{}-", self.pid, self.started)
    }

    /// Whose `name` is; none: not a name of ours.
    fn of(name: &str) -> Option<Owner> {
        let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
        let owner = Owner { pid: parts.next()?.parse().ok()?, started: parts.next()?.parse().ok()? };
        parts.next()?;
        Some(owner)
    }

    fn is_alive(self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// When a process started, in clock ticks since boot.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, a parenthesis and spaces too, so fields are counted from behind it. The
    // first of them is the third of proc_pid_stat(5), and the one that is wanted its twenty-second.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// Removes the networks of processes that are no longer there. What cannot be removed is left for the next time.
pub fn clean_leftovers() {
    for name in dead(NAMES) {
        remove_namespace(&name);
    }
    for name in dead(REGISTRY) {
        let dir = Path::new(REGISTRY).join(name);
        let _ = umount2(&dir.join(BPFFS), MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir_all(&dir);
    }
}

/// Names in `dir` whose owners are not alive.
fn dead(dir: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Owner::of(name).is_some_and(|owner| !owner.is_alive()))
        .collect()
}

/// Kills the processes in a namespace of ours, and removes it with its interfaces.
pub(super) fn remove_namespace(name: &str) {
    let path = path(name);
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let left = processes_in(&path);
        if left.is_empty() || Instant::now() >= deadline {
            break;
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // The interfaces by hand: a thread that has not quite ended would keep the namespace, and them, a moment longer.
    if let Ok(file) = File::open(&path) {
        let removal = std::thread::spawn(move || {
            if nix::sched::setns(&file, CloneFlags::CLONE_NEWNET).is_ok() {
                remove_interfaces();
            }
        });
        let _ = removal.join();
    }
    let _ = std::process::Command::new("ip").args(["netns", "delete", name]).output();
}

/// Removes the veth interfaces of the namespace that the calling thread is in.
fn remove_interfaces() {
    let Ok(interfaces) = nix::net::if_::if_nameindex() else { return };
    for interface in interfaces.iter().filter_map(|interface| interface.name().to_str().ok()) {
        if interface.starts_with("veth") {
            let _ = std::process::Command::new("ip").args(["link", "delete", interface]).output();
        }
    }
}

/// Processes whose network namespace is the one at `path`, this one excepted, and the dead that are not reaped.
fn processes_in(path: &Path) -> Vec<Pid> {
    let Ok(namespace) = std::fs::metadata(path) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid: &i32| pid != std::process::id() as i32)
        .filter(|pid| {
            std::fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|of| (of.dev(), of.ino()) == (namespace.dev(), namespace.ino()))
        })
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_owner() {
        let owner = Owner { pid: 12, started: 345 };
        assert_eq!(Owner::of(&format!("{}a-label-0-server", owner.prefix())), Some(owner));
        for foreign in
            ["shedder", "shedder-", "shedder-12", "shedder-12-345", "shedder-x-345-a", "other-12-345-a"]
        {
            assert_eq!(Owner::of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn only_the_same_process_is_alive() {
        let this = Owner::this_process();
        assert!(this.is_alive());
        assert!(!Owner { started: this.started + 1, ..this }.is_alive());
    }
}
