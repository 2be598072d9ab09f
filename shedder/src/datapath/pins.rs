//! Where what shedder keeps in the kernel is pinned.
//!
//! ```text
//! /sys/fs/bpf/shedder/            locked by whoever changes what is attached
//!   maps/KILLS ...                state: lives as long as anything is attached
//!   policy/<generation>/          policy: what one configuration made
//!     PREFIXES4 ...
//!     ingress-<slot> egress-<slot>   programs
//!   links/ingress-<slot> egress-<slot>
//!   push                          a symbolic link to the daemon's push socket
//! ```

use super::fault;
use super::filter;
use super::sys;
use anyhow::{Context, Result, anyhow, bail};
use shedder_common::abi::maps;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Of the directories of pins: nobody else may look into them, lock them, or take anything out.
const DIRECTORY_MODE: u32 = 0o700;

/// Which way a program judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// XDP.
    Ingress,
    /// tcx.
    Egress,
}

impl Way {
    pub(super) const BOTH: [Way; 2] = [Way::Ingress, Way::Egress];

    fn name(self) -> &'static str {
        match self {
            Way::Ingress => "ingress",
            Way::Egress => "egress",
        }
    }
}

/// A directory of pins on a BPF file system.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Where the pins are unless another place is named.
    pub const DEFAULT: &'static str = "/sys/fs/bpf/shedder";

    /// The pins under `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Pins {
        Pins { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the pins can be made in again where somebody removes them: the directory around theirs, if it is on the same
    /// BPF file system.
    pub fn surroundings(&self) -> &Path {
        let is_bpffs = |path: &&Path| sys::is_bpffs(path).unwrap_or(false);
        self.root.parent().filter(is_bpffs).unwrap_or(&self.root)
    }

    /// The process that has the right to change what is attached; none: nobody, or one that this one cannot see.
    pub fn holder(&self) -> Option<i32> {
        sys::lock_holder(&self.root).ok().flatten()
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Whether the directory is there.
    ///
    /// # Errors
    /// A sentence where this user may not know.
    pub fn exist(&self) -> Result<bool> {
        let root = self.root.display();
        self.root.try_exists().with_context(|| format!("cannot look at {root}: this needs root"))
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub(super) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub(super) fn policies(&self) -> PathBuf {
        self.root.join("policy")
    }

    pub(super) fn policy(&self, generation: u64) -> PathBuf {
        self.policies().join(generation.to_string())
    }

    pub(super) fn policy_map(&self, generation: u64, name: &str) -> PathBuf {
        self.policy(generation).join(name)
    }

    pub(super) fn program(&self, generation: u64, way: Way, slot: usize) -> PathBuf {
        self.policy(generation).join(format!("{}-{slot}", way.name()))
    }

    pub(super) fn link(&self, way: Way, slot: usize) -> PathBuf {
        self.links().join(format!("{}-{slot}", way.name()))
    }

    /// Of a link that is to take the place of the one on the way out, until it has.
    pub(super) fn first_link(&self, slot: usize) -> PathBuf {
        self.links().join(format!("{}-{slot}-first", Way::Egress.name()))
    }

    /// Makes the directory, and locks it against every other process that would change what is attached.
    pub(super) fn create_and_lock(&self) -> Result<File> {
        if !sys::may_attach() {
            bail!("this changes what the kernel runs, and needs {}", sys::PRIVILEGES);
        }
        let parent = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let is_bpffs =
            sys::is_bpffs(parent).with_context(|| format!("cannot look at {}", parent.display()))?;
        if !is_bpffs {
            bail!(
                "{} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`, or name a directory on \
                 one with --bpffs",
                self.root.display()
            );
        }
        make_directory(&self.root)?;
        self.require_own()?;
        self.lock()
    }

    /// Refuses a directory that others may change, in which nothing would be safe: on a BPF file system that was mounted
    /// without a mode anybody may make one, before the first start.
    fn require_own(&self) -> Result<()> {
        let root = self.root.display();
        let metadata = fs::metadata(&self.root).with_context(|| format!("cannot look at {root}"))?;
        let us = nix::unistd::geteuid().as_raw();
        if metadata.uid() != us {
            bail!(
                "{root} belongs to user {}, who could take away what is pinned in it: remove it, or name another \
                   directory with --bpffs",
                metadata.uid()
            );
        }
        // Open, so that others can lock it, is how an earlier build made it.
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&self.root, Permissions::from_mode(DIRECTORY_MODE))
                .with_context(|| format!("cannot close {root} to others"))?;
        }
        Ok(())
    }

    /// Makes the directories inside.
    pub(super) fn create_directories(&self) -> Result<()> {
        [self.maps(), self.links(), self.policies()].iter().try_for_each(|d| make_directory(d))
    }

    /// Removes the directories again, where nothing is in them.
    pub(super) fn remove_empty_directories(&self) {
        for directory in [self.maps(), self.links(), self.policies()] {
            let _ = fs::remove_dir(directory);
        }
        if !self.maps().exists() {
            let _ = self.remove_noted_sockets();
        }
        let _ = fs::remove_dir(&self.root);
    }

    /// Whether `lock` is the lock of the directory that is there now.
    pub(super) fn is_locked_by(&self, lock: &File) -> bool {
        sys::is_still(lock, &self.root)
    }

    /// Locks the directory, which must exist.
    pub(super) fn lock(&self) -> Result<File> {
        let lock = sys::lock(&self.root).with_context(|| format!("cannot lock {}", self.root.display()))?;
        lock.with_context(|| {
            format!(
                "another shedder holds {}: stop that one first (`shedder status` shows what it does), or name another \
                 directory with --bpffs",
                self.root.display()
            )
        })
    }

    /// Removes every generation of policy but `keep`.
    pub(super) fn remove_policies_but(&self, keep: Option<u64>) -> Result<()> {
        for entry in entries(&self.policies())? {
            if entry.file_name().is_none_or(|name| name.to_str() != keep.map(|n| n.to_string()).as_deref()) {
                remove_directory(&entry)?;
            }
        }
        Ok(())
    }

    /// Removes the generations of policy that are neither `noted` as in force nor have any of these programs in them: what runs
    /// that died have left, which would use up the memory that the next one needs.
    pub(super) fn remove_dead_policies(&self, noted: u64, in_force: &[u32]) -> Result<()> {
        let is_program =
            |pin: &&PathBuf| Way::BOTH.iter().any(|way| is_named(pin, |name| name.starts_with(way.name())));
        let is_in_force = |pin: &PathBuf| {
            let id = sys::get_pinned(pin).and_then(|program| sys::program_id(program.as_fd()));
            id.is_ok_and(|id| in_force.contains(&id))
        };
        for generation in entries(&self.policies())? {
            let is_kept = is_named(&generation, |name| name == noted.to_string())
                || entries(&generation)?.iter().filter(is_program).any(is_in_force);
            if !is_kept {
                remove_directory(&generation)?;
            }
        }
        Ok(())
    }

    /// Removes the filters that belong to these pins, in the caller's network namespace.
    pub(super) fn remove_filters(&self) -> Result<()> {
        match sys::get_pinned(&self.map(maps::META)) {
            Ok(meta) => filter::sweep(sys::map_shape(meta.as_fd())?.id, |_| false),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("cannot open the map that filters are named after"),
        }
    }

    /// Makes the directory of a generation of policy.
    pub(super) fn create_policy(&self, generation: u64) -> Result<()> {
        make_directory(&self.policy(generation))
    }

    /// Removes a generation of policy, whole or not.
    pub(super) fn remove_policy(&self, generation: u64) -> Result<()> {
        remove_directory(&self.policy(generation))
    }

    /// The youngest generation of policy of which anything is pinned; 0: none.
    pub(super) fn last_generation(&self) -> Result<u64> {
        let number = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(entries(&self.policies())?.into_iter().filter_map(number).max().unwrap_or(0))
    }

    /// The program with this id, if it is pinned in any generation of policy: a run that died, or is not done yet, may have
    /// put one in force that is not the noted one.
    pub(super) fn own_program(&self, way: Way, slot: usize, id: u32) -> Option<OwnedFd> {
        let name = format!("{}-{slot}", way.name());
        let generations = entries(&self.policies()).ok()?;
        let mut programs = generations.into_iter().filter_map(|of| sys::get_pinned(&of.join(&name)).ok());
        programs.find(|program| sys::program_id(program.as_fd()).is_ok_and(|own| own == id))
    }

    /// Removes everything.
    pub(super) fn remove_all(&self) -> Result<()> {
        for link in entries(&self.links())? {
            remove_link(&link)?;
        }
        self.remove_filters()?;
        // Whoever ends before all of it is gone leaves maps that are not whole, and not some that seem to be.
        remove_pin(&self.map(maps::META))?;
        self.remove_policies_but(None)?;
        for directory in [self.links(), self.maps(), self.policies()] {
            remove_directory(&directory)?;
        }
        self.remove_noted_sockets()?;
        remove_directory(&self.root)
    }
}

/// What lies in a directory; nothing where it does not exist.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", directory.display())),
    };
    listing
        .map(|entry| Ok(entry.with_context(|| format!("cannot list {}", directory.display()))?.path()))
        .collect()
}

fn is_named(path: &Path, is_so: impl Fn(&str) -> bool) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(is_so)
}

fn make_directory(directory: &Path) -> Result<()> {
    let make = || DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    fault::point().and_then(|()| make()).map_err(|error| match error.kind() {
        ErrorKind::ReadOnlyFilesystem => read_only(directory),
        _ => anyhow!(error).context(format!(
            "cannot make {}: this needs root, and a BPF file system that is writable",
            directory.display()
        )),
    })
}

/// What to do about a file system that cannot be written.
pub(super) fn read_only(path: &Path) -> anyhow::Error {
    anyhow!(
        "the BPF file system of {} is read-only: remount it with `mount -o remount,rw` and the place where it is \
         mounted, /sys/fs/bpf unless --bpffs says otherwise",
        path.display()
    )
}

/// Removes a directory and the pins in it.
fn remove_directory(directory: &Path) -> Result<()> {
    for pin in entries(directory)? {
        remove_pin(&pin)?;
    }
    match fault::point().and_then(|()| fs::remove_dir(directory)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Takes the program of a pinned link off its interface, and removes the pin; nothing where there is none.
pub(super) fn remove_link(pin: &Path) -> Result<()> {
    if let Ok(link) = sys::get_pinned(pin) {
        fault::point()?;
        // Refused where the interface is gone: then it holds nothing.
        let _ = sys::link_detach(link.as_fd());
    }
    remove_pin(pin)
}

/// Removes a pin; nothing where there is none.
pub(super) fn remove_pin(pin: &Path) -> Result<()> {
    match fault::point().and_then(|()| fs::remove_file(pin)) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Err(read_only(pin)),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", pin.display()))
        }
        _ => Ok(()),
    }
}
