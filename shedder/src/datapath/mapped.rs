//! A pinned table, seen as memory: reads and writes without system calls.

use super::sys;
use anyhow::{Context, Result, bail};
use memmap2::{MmapOptions, MmapRaw};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A table of `T` in this process's memory: an array map of one value, in which the entries lie side by side.
///
/// The kernel and other processes write to it meanwhile. What is shared so is either made of
/// [`Word`](shedder_common::word::Word)s, to which a reference may be had, or is copied out whole.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    memory: MmapRaw,
    entries: usize,
    id: u32,
    map: OwnedFd,
    of: PhantomData<T>,
}

/// Types of which every field is a `Word`, so that a shared reference to memory that others change is sound.
///
/// # Safety
/// All bytes of the type belong to words.
pub(super) unsafe trait Words {}

// SAFETY: `abi` makes each of these of words, and asserts their size.
unsafe impl Words for shedder_common::abi::Kills {}
// SAFETY: as above.
unsafe impl Words for shedder_common::abi::Control {}
// SAFETY: as above.
unsafe impl Words for shedder_common::bucket::Set {}
// SAFETY: as above.
unsafe impl Words for shedder_common::abi::FlowSet {}

impl<T> Mapped<T> {
    /// Maps the pinned map at `path`, whose value must be one or more of `T`.
    pub(super) fn open(path: &Path) -> Result<Mapped<T>> {
        let map = sys::get_pinned(path)
            .with_context(|| format!("cannot open the pinned map {}", path.display()))?;
        let shape = sys::map_shape(map.as_fd())?;
        let bytes = shape.value_size as usize;
        if shape.max_entries != 1 || !bytes.is_multiple_of(size_of::<T>()) {
            bail!(
                "the map {} has {} values of {} bytes where this build has one, a multiple of {}: it was made by another \
                 build; run that build's `shedder detach`, then attach again",
                path.display(),
                shape.max_entries,
                bytes,
                size_of::<T>()
            );
        }
        let entries = bytes / size_of::<T>();
        let memory = MmapOptions::new().len(bytes).map_raw(&map).with_context(|| {
            format!("cannot map {} into memory: is the bpffs mounted read-only?", path.display())
        })?;
        Ok(Mapped { memory, entries, id: shape.id, map, of: PhantomData })
    }

    /// The kernel's id of the map.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The map itself: it can be pinned again, where finding it by its id would take CAP_SYS_ADMIN.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// How many entries the table has.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    fn at(&self, index: usize) -> *mut T {
        assert!(index < self.entries, "entry {index} of a table of {}", self.entries);
        const { assert!(align_of::<T>() <= 4096) };
        // SAFETY: the offset lies inside the mapping, by the assertion.
        unsafe { self.memory.as_mut_ptr().cast::<T>().add(index) }
    }
}

impl<T: Words> Mapped<T> {
    /// An entry.
    pub(super) fn get(&self, index: usize) -> &T {
        // SAFETY: inside the mapping, aligned by it, and made of words alone; the mapping lives as long as `self`.
        unsafe { &*self.at(index) }
    }
}

impl<T: bytemuck::Pod> Mapped<T> {
    /// A copy of an entry. It may be half of one writer's and half of another's: only one writer at a time holds the
    /// lock under which entries like these are written.
    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: inside the mapping and aligned; plain data, for which every pattern of bits is valid.
        unsafe { self.at(index).read_volatile() }
    }

    /// Overwrites one word of an entry, which `field` finds, and leaves the rest to its other writers.
    pub(super) fn write_word(&self, index: usize, field: impl FnOnce(*mut T) -> *mut u64, value: u64) {
        let word = field(self.at(index));
        let entry = self.at(index) as usize;
        assert!(word.is_aligned() && (entry..entry + size_of::<T>() - 7).contains(&(word as usize)));
        // SAFETY: aligned and inside the entry, by the assertion; every pattern of bits is valid in it.
        unsafe { word.write_volatile(value) }
    }

    /// Overwrites an entry.
    pub(super) fn write(&self, index: usize, value: &T) {
        // SAFETY: as in `read`.
        unsafe { self.at(index).write_volatile(*value) }
    }
}
