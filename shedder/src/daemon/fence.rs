//! What the daemon gives up, so that whoever takes it over gets as little as possible.
//!
//! [`begin`] comes before the configuration is read, and [`Fence::complete`] once what takes a privilege is done. Both act on
//! the calling thread and on those that it starts: there may be no other thread yet.

use crate::datapath::Pins;
use anyhow::{Context, Result, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What attaching takes, at a reload and where an interface comes back as well as at the start.
const KEPT: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];

/// What only the start takes: a priority, a port below 1024, and taking the rest out of the bounding set.
const STARTING: [Capability; 3] =
    [Capability::CAP_SYS_NICE, Capability::CAP_NET_BIND_SERVICE, Capability::CAP_SETPCAP];

/// System calls that no part of the daemon makes, and that somebody inside it would begin with.
const REFUSED: &[libc::c_long] = &[
    // Other programs, and other processes' memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_memfd_create,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Another view of the file system, which would be outside the fence around files.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    // Namespaces, in which it would be root again.
    libc::SYS_unshare,
    libc::SYS_setns,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    // Large and little used parts of the kernel.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// What the daemon may still do to files.
#[derive(Debug)]
pub(super) struct Fence {
    /// Directories beneath which files may be made, changed and removed; none: anywhere.
    inside: Option<Vec<PathBuf>>,
    /// Held open so that `shedder status` finds it: see [`Privileges`](super::Privileges::files_fenced).
    _ruleset: Option<OwnedFd>,
}

/// Gives up every capability that not even the start takes, and the right to gain any by running a program.
///
/// # Errors
/// Where the kernel refuses, which is known of none.
pub fn begin() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context("cannot give up gaining privileges")?;
    keep(&KEPT.into_iter().chain(STARTING).collect())
}

impl Fence {
    /// Gives up the rest, and leaves files to be changed only around the pins and where the push socket lies. Where the
    /// kernel has no Landlock or no seccomp, that is said in the log, and the daemon runs without it: a host in trouble
    /// needs its daemon more than its daemon needs a fence.
    ///
    /// # Errors
    /// Where the kernel refuses to take capabilities.
    pub(super) fn complete(pins: &Pins, push: &Path) -> Result<Fence> {
        for capability in caps::all().into_iter().filter(|capability| !KEPT.contains(capability)) {
            // Only with CAP_SETPCAP. Without it the bounding set is its starter's choice, and `status` shows it.
            if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false)
                && let Err(error) = caps::drop(None, CapSet::Bounding, capability)
            {
                tracing::debug!(%capability, %error, "stays in the bounding set");
            }
        }
        keep(&KEPT.into_iter().collect())?;
        if let Err(error) = filter_system_calls() {
            tracing::warn!("system calls are not filtered: {error:#}");
        }
        let inside: Vec<PathBuf> = [Some(pins.surroundings()), push.parent()]
            .into_iter()
            .flatten()
            .map(Path::to_owned)
            .filter(|directory| directory.is_dir())
            .collect();
        match fence_files(&inside) {
            Ok(ruleset) => Ok(Fence { inside: Some(inside), _ruleset: ruleset }),
            Err(error) => {
                tracing::warn!("files are not fenced: {error:#}");
                Ok(Fence { inside: None, _ruleset: None })
            }
        }
    }

    /// Whether a socket may be made at `path`.
    pub(super) fn admits(&self, path: &Path) -> bool {
        self.inside.as_ref().is_none_or(|inside| inside.iter().any(|directory| path.starts_with(directory)))
    }
}

/// Leaves of the thread's capabilities only these, in every set but the bounding one.
fn keep(wanted: &CapsHashSet) -> Result<()> {
    let held = caps::read(None, CapSet::Permitted).context("cannot read the capabilities")?;
    let mut left: CapsHashSet = held.intersection(wanted).copied().collect();
    // Where somebody grants what holds the other two in place of them.
    if KEPT.iter().any(|capability| !held.contains(capability)) && held.contains(&Capability::CAP_SYS_ADMIN) {
        left.insert(Capability::CAP_SYS_ADMIN);
    }
    let set = || {
        caps::clear(None, CapSet::Ambient)?;
        caps::clear(None, CapSet::Inheritable)?;
        caps::set(None, CapSet::Effective, &left)?;
        caps::set(None, CapSet::Permitted, &left)
    };
    set().context("cannot give up capabilities")
}

/// Files may be made, changed and removed nowhere but inside these directories; none may be executed; no other port may be
/// listened on; no process outside may be sent a signal. As much of it as the kernel knows.
fn fence_files(inside: &[PathBuf]) -> Result<Option<OwnedFd>> {
    const LATEST: ABI = ABI::V6;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_write(LATEST) | AccessFs::Execute)?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(inside, AccessFs::from_write(LATEST)))?;
    let shown = ruleset.try_clone().context("cannot keep the ruleset open")?;
    let fenced = ruleset.restrict_self()?;
    ensure!(fenced.ruleset != RulesetStatus::NotEnforced, "the kernel offers no Landlock");
    Ok(shown.into())
}

fn filter_system_calls() -> Result<()> {
    let filter = |rules, errno: libc::c_int| -> Result<()> {
        let target = std::env::consts::ARCH.try_into()?;
        let refusal = SeccompAction::Errno(errno as u32);
        let program: BpfProgram =
            SeccompFilter::new(rules, SeccompAction::Allow, refusal, target)?.try_into()?;
        Ok(seccompiler::apply_filter(&program)?)
    };
    // Its flags lie in memory, where no filter can see them. Where it is not there, threads are made by `clone`.
    filter(BTreeMap::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, vec![])).collect();
    let user = libc::CLONE_NEWUSER as u64;
    let makes_user = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(user), user)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![makes_user])?]);
    filter(rules, libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::process::Command;

    /// Behind a fence, on a thread that ends with it.
    fn fenced<T: Send>(pins: &Path, push: &Path, work: impl FnOnce(&Fence) -> T + Send) -> T {
        let work = || {
            begin().unwrap();
            let fence = Fence::complete(&Pins::new(pins), push).unwrap();
            work(&fence)
        };
        std::thread::scope(|scope| {
            scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    #[test]
    fn behind_the_fence_files_change_only_inside_and_nothing_runs() {
        let place = tempfile::tempdir().unwrap();
        let [pins, push, outside] = ["pins", "run", "outside"].map(|name| place.path().join(name));
        [&pins, &push, &outside].into_iter().for_each(|directory| fs::create_dir(directory).unwrap());
        fs::write(outside.join("kept"), "text").unwrap();
        fenced(&pins, &push.join("push.sock"), |fence| {
            let denied =
                |what: &str, kind: ErrorKind| assert_eq!(kind, ErrorKind::PermissionDenied, "{what}");
            for inside in [&pins, &push] {
                fs::write(inside.join("made"), "text").unwrap();
                fs::remove_file(inside.join("made")).unwrap();
            }
            denied("making a file", fs::write(outside.join("made"), "text").unwrap_err().kind());
            denied("changing a file", fs::write(outside.join("kept"), "other").unwrap_err().kind());
            denied("removing a file", fs::remove_file(outside.join("kept")).unwrap_err().kind());
            assert_eq!(fs::read(outside.join("kept")).unwrap(), b"text", "reading is free");
            denied("running a program", Command::new("/bin/true").status().unwrap_err().kind());
            denied("listening", TcpListener::bind(("127.0.0.1", 0)).unwrap_err().kind());
            // A namespace of users would be a place to be root in.
            let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER);
            assert_eq!(made, Err(nix::errno::Errno::EPERM));
            let held = caps::read(None, CapSet::Permitted).unwrap();
            assert!(held.iter().all(|capability| KEPT.contains(capability)), "{held:?}");
            assert!(fence.admits(&push.join("other.sock")) && !fence.admits(&outside.join("push.sock")));
            // Threads can be made all the same.
            std::thread::spawn(|| ()).join().unwrap();
        });
    }
}
