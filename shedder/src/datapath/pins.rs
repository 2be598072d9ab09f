//! Where what shedder keeps in the kernel is pinned.
//!
//! ```text
//! /sys/fs/bpf/shedder/            locked by whoever changes what is attached
//!   maps/KILLS ...                state: lives as long as anything is attached
//!   policy/<generation>/          policy: what one configuration made
//!     PREFIXES4 ...
//!     ingress-<slot> egress-<slot>   programs
//!   links/ingress-<slot> egress-<slot>
//! ```

use super::sys;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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

    /// Whether the directory is there.
    ///
    /// # Errors
    /// A sentence where this user may not know.
    pub fn exist(&self) -> Result<bool> {
        let root = self.root.display();
        self.root.try_exists().with_context(|| format!("cannot look at {root}: this needs root"))
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
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
        self.root.join("links").join(format!("{}-{slot}", way.name()))
    }

    /// Makes the directories, and locks them against every other process that would change what is attached.
    pub(super) fn create_and_lock(&self) -> Result<File> {
        if !sys::may_attach() {
            bail!(
                "this changes what the kernel runs, and needs root, or CAP_BPF together with CAP_NET_ADMIN"
            );
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
        for directory in [self.root.join("maps"), self.root.join("links"), self.policies()] {
            fs::create_dir_all(&directory).with_context(|| {
                format!(
                    "cannot make {}: this needs root, and a BPF file system that is writable",
                    directory.display()
                )
            })?;
        }
        self.lock()
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

    /// Removes everything.
    pub(super) fn remove_all(&self) -> Result<()> {
        self.remove_policies_but(None)?;
        for directory in [self.root.join("links"), self.root.join("maps"), self.policies()] {
            remove_directory(&directory)?;
        }
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

/// Removes a directory and the pins in it.
fn remove_directory(directory: &Path) -> Result<()> {
    for pin in entries(directory)? {
        remove_pin(&pin)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a pin; nothing where there is none.
pub(super) fn remove_pin(pin: &Path) -> Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", pin.display()))
        }
        _ => Ok(()),
    }
}
