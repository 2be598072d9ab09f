//! Arrays that are reached without a lookup.

use core::arch::asm;
use core::ptr::with_exposed_provenance;

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::maps::Array;

use crate::env::policy;
use crate::index::opaque;

/// An array of `T` whose entries lie side by side in the one value of its map, on pages that processes can share.
///
/// The address of that value stands in the program, as that of a global variable does: the loader makes such a map of every
/// array, and puts the address of its value in the place of the map. A lookup would go through the stack and ask whether the
/// entry is there, which takes a dozen instructions.
#[repr(transparent)]
pub struct Table<T>(Array<T>);

/// The place of this CPU, below one more than [`Policy::cpu_mask`](shedder_common::abi::Policy::cpu_mask).
#[inline(always)]
fn cpu() -> usize {
    // SAFETY: a helper without arguments. Programs are not moved to another CPU while they run.
    (unsafe { bpf_get_smp_processor_id() } & policy().cpu_mask) as usize
}

impl<T> Table<T> {
    /// A table of so many entries, unless the loader makes it of another size.
    pub const fn with_entries(entries: usize) -> Table<T> {
        Table(Array::with_max_entries(entries as u32, BPF_F_MMAPABLE))
    }

    /// The entry at `index`, which is below the number of entries. The verifier follows the index, and refuses a program that might
    /// reach further.
    #[inline(always)]
    pub fn at(&'static self, index: u32) -> &'static T {
        // SAFETY: the entry is there, and what others write to meanwhile is made of words.
        unsafe { &*self.pointer(index as usize) }
    }

    /// This CPU's own entry, of a table that has one for each CPU.
    #[inline(always)]
    pub fn mine(&'static self) -> *mut T {
        self.pointer(cpu()).cast_mut()
    }

    /// This CPU's own entry for the service in a slot, of a table that has one for each service, or none, and CPU. None: there is no
    /// such slot.
    #[inline(always)]
    pub fn mine_of(&'static self, slot: usize) -> Option<*mut T> {
        let cpus = policy().cpu_mask as usize + 1;
        // One number, of which the verifier need not know how it came about.
        let index = opaque(slot * cpus + cpu());
        if (index as u64) < policy().service_entries { Some(self.pointer(index).cast_mut()) } else { None }
    }

    #[inline(always)]
    fn pointer(&'static self, index: usize) -> *const T {
        let mut address = (&raw const self.0).expose_provenance();
        // SAFETY: adds nothing. The compiler must not take what is read there for what it knows of the map's definition.
        unsafe { asm!("/* {0} */", inout(reg) address, options(nomem, nostack, preserves_flags)) };
        let entries: *const T = with_exposed_provenance(address);
        // SAFETY: what the loader puts here is the address of the first entry, which stays as long as the program does; the
        // verifier makes sure of the rest.
        unsafe { entries.add(index) }
    }
}
