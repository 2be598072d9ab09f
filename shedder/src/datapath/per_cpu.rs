//! A pinned array map with a value for each CPU, read again and again into the same memory.

use super::sys;
use anyhow::{Context, Result, anyhow, bail};
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A per-CPU array map of `T`.
#[derive(Debug)]
pub(super) struct PerCpu<T> {
    map: OwnedFd,
    id: u32,
    entries: usize,
    /// Of one entry, by CPU.
    values: Mutex<Vec<T>>,
}

impl<T: bytemuck::Pod> PerCpu<T> {
    /// Opens the pinned map at `path`, whose values must have the size of `T`.
    pub(super) fn open(path: &Path) -> Result<PerCpu<T>> {
        // The kernel copies in steps of eight bytes.
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let map = sys::get_pinned(path)
            .with_context(|| format!("cannot open the pinned map {}", path.display()))?;
        let shape = sys::map_shape(map.as_fd())?;
        if !shape.is_per_cpu_array() || shape.value_size as usize != size_of::<T>() {
            bail!(
                "{} is not the map that this build knows: it was made by another build; run that build's `shedder detach`, \
                 then attach again",
                path.display()
            );
        }
        Ok(PerCpu { map, id: shape.id, entries: shape.max_entries as usize, values: Mutex::default() })
    }

    /// How many entries the map has.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// The kernel's id of the map.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The map itself.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Calls `with` with an entry, as each CPU has it.
    pub(super) fn read<R>(&self, index: usize, with: impl FnOnce(&[T]) -> R) -> Result<R> {
        // Whatever a panic has left there is overwritten.
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.resize(possible_cpus()?, T::zeroed());
        let memory = bytemuck::cast_slice_mut(&mut values);
        // SAFETY: as the map has the size of value that `open` asked for, the kernel writes that for each CPU there can be.
        unsafe { sys::read_entry(self.map.as_fd(), index as u32, memory) }
            .with_context(|| format!("cannot read entry {index} of a map of {}", self.entries))?;
        Ok(with(&values))
    }

    /// Sets an entry to zeros on every CPU.
    pub(super) fn clear(&self, index: usize) -> Result<()> {
        let zeros = vec![T::zeroed(); possible_cpus()?];
        // SAFETY: as in `read`; the kernel reads as much.
        unsafe { sys::write_entry(self.map.as_fd(), index as u32, bytemuck::cast_slice(&zeros)) }
            .with_context(|| format!("cannot clear entry {index} of a map of {}", self.entries))
    }
}

/// Adds counts that wrap.
pub(super) fn add(sum: &mut [u32], counts: &[u32]) {
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum = sum.wrapping_add(*count);
    }
}

/// How many CPUs there can be, and so how many values an entry has.
fn possible_cpus() -> Result<usize> {
    static CPUS: OnceLock<usize> = OnceLock::new();
    if let Some(&cpus) = CPUS.get() {
        return Ok(cpus);
    }
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, error)| anyhow!(error).context(format!("cannot read {path}")))?;
    Ok(*CPUS.get_or_init(|| cpus))
}
