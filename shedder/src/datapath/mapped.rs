//! A pinned table, seen as memory: reads and writes without system calls.

use super::sys;
use anyhow::{Context, Result, bail};
use memmap2::{MmapOptions, MmapRaw};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A table of `T` in this process's memory: an array map of one value, in which the entries lie side by side.
///
/// The kernel and other processes write to it meanwhile. What is shared so is either made of
/// [`Word`](shedder_common::word::Word)s, to which a reference may be had, or is copied out whole.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    memory: MmapRaw,
    entries: usize,
    held: Held,
    of: PhantomData<T>,
}

/// A map that this process holds open: it can be pinned again, where finding it by its id would take CAP_SYS_ADMIN.
#[derive(Debug)]
pub(super) struct Held {
    map: OwnedFd,
    id: u32,
    /// The device and the number of the file that was last found to be its pin.
    pin: Mutex<Option<(u64, u64)>>,
}

impl Held {
    /// The kernel's id of the map.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The map itself.
    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Whether it is what is pinned at `path`. Where that was found before, it takes a look at the file alone: no other file on a
    /// BPF file system gets its number.
    pub(super) fn is_pinned_at(&self, path: &Path) -> bool {
        let Ok(file) = path.metadata() else { return false };
        let file = Some((file.dev(), file.ino()));
        let mut pin = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if *pin != file {
            let pinned = sys::get_pinned(path).and_then(|pinned| sys::map_shape(pinned.as_fd()));
            *pin = file.filter(|_| pinned.is_ok_and(|pinned| pinned.id == self.id));
        }
        pin.is_some()
    }
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
        let held = Held { map, id: shape.id, pin: Mutex::default() };
        Ok(Mapped { memory, entries, held, of: PhantomData })
    }

    /// The map that it lies in.
    pub(super) fn held(&self) -> &Held {
        &self.held
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
    /// A copy of an entry, whose words are read one by one: each is whole, but it may be half of one writer's and half of
    /// another's, where there are several at a time.
    pub(super) fn read(&self, index: usize) -> T {
        const WORD: usize = size_of::<u64>();
        const { assert!(size_of::<T>().is_multiple_of(WORD)) };
        let mut copy = T::zeroed();
        let from = self.at(index).cast::<u64>();
        assert!(from.is_aligned());
        for (place, to) in bytemuck::bytes_of_mut(&mut copy).chunks_exact_mut(WORD).enumerate() {
            // SAFETY: inside the mapping, and aligned as the first word is; every pattern of bits is valid in it.
            let word = unsafe { from.wrapping_add(place).read_volatile() };
            to.copy_from_slice(&word.to_ne_bytes());
        }
        copy
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
