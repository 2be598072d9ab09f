//! A pinned table in which every CPU has entries of its own.

use super::mapped::Mapped;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::OnceLock;

/// A table of `T` with an entry for each CPU, those of one index side by side.
#[derive(Debug)]
pub(super) struct ByCpu<T> {
    pub(super) table: Mapped<T>,
    cpus: usize,
}

impl<T: bytemuck::Pod> ByCpu<T> {
    /// Maps the pinned map at `path`.
    pub(super) fn open(path: &Path) -> Result<ByCpu<T>> {
        let table = Mapped::open(path)?;
        let cpus = places()? as usize;
        if !table.len().is_multiple_of(cpus) {
            bail!(
                "the map {} has {} entries, which is not a multiple of the {cpus} CPUs that this machine may have: it was made \
                 by another build; run that build's `shedder detach`, then attach again",
                path.display(),
                table.len()
            );
        }
        Ok(ByCpu { table, cpus })
    }

    /// How many entries each CPU has.
    pub(super) fn len(&self) -> usize {
        self.table.len() / self.cpus
    }

    /// Copies of an entry, as each CPU has it.
    pub(super) fn read(&self, index: usize) -> impl Iterator<Item = T> {
        self.places_of(index).map(|place| self.table.read(place))
    }

    /// Sets an entry to zeros on every CPU.
    pub(super) fn clear(&self, index: usize) {
        self.places_of(index).for_each(|place| self.table.write(place, &T::zeroed()));
    }

    fn places_of(&self, index: usize) -> impl Iterator<Item = usize> {
        (index * self.cpus..).take(self.cpus)
    }
}

/// Adds counts that wrap.
pub(super) fn add(sum: &mut [u32], counts: &[u32]) {
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum = sum.wrapping_add(*count);
    }
}

/// For how many CPUs such a table has place: a power of two, no less than one more than the highest number of a CPU that there
/// can be.
pub(super) fn places() -> Result<u32> {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    static PLACES: OnceLock<u32> = OnceLock::new();
    if let Some(&places) = PLACES.get() {
        return Ok(places);
    }
    let possible = std::fs::read_to_string(POSSIBLE).with_context(|| format!("cannot read {POSSIBLE}"))?;
    let places =
        places_for(&possible).with_context(|| format!("{POSSIBLE} is no list of CPUs: {possible:?}"))?;
    Ok(*PLACES.get_or_init(|| places))
}

/// Of a list of CPUs as the kernel prints it, such as `0-3,8-11`.
fn places_for(possible: &str) -> Option<u32> {
    let highest: u32 = possible.trim().rsplit([',', '-']).next()?.parse().ok()?;
    highest.checked_add(1)?.checked_next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::places_for;

    #[test]
    fn there_is_a_place_for_the_highest_cpu() {
        let places = ["0\n", "0-1\n", "0-2\n", "0-3,8-11\n", "0,64\n"].map(places_for);
        assert_eq!(places, [1, 2, 4, 16, 128].map(Some));
        assert_eq!(["", "\n", "0-", "all"].map(places_for), [None; 4]);
    }
}
