//! Making the table in which the programs find a prefix.

use bytemuck::Zeroable;
use shedder_common::prefix::{PREFIX_WAYS, Prefix, PrefixHash, PrefixSet};

/// Multipliers that are tried before the table is made larger.
const TRIES: u64 = 64;

/// Puts each prefix into a set that has room for it, its entry the place that it has among `prefixes`, counted from
/// `first`. The prefixes are distinct.
pub(super) fn table<P: Prefix>(prefixes: &[P], first: u32) -> (PrefixHash, Vec<PrefixSet<P>>) {
    let mut sets = prefixes.len().next_power_of_two();
    loop {
        for turn in 0..TRIES {
            // The golden ratio's multiples spread well what differs in few bits; where one does not, another does.
            let multiplier = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * turn + 1);
            let hash = PrefixHash { multiplier, mask: sets as u64 - 1 };
            if let Some(table) = place(prefixes, first, &hash) {
                return (hash, table);
            }
        }
        sets *= 2;
    }
}

/// The table under this hash; none where more prefixes want a set than it has room for.
fn place<P: Prefix>(prefixes: &[P], first: u32, hash: &PrefixHash) -> Option<Vec<PrefixSet<P>>> {
    let mut table = vec![PrefixSet::zeroed(); hash.mask as usize + 1];
    for (prefix, entry) in prefixes.iter().zip(first..) {
        let set = &mut table[hash.set_of(prefix) as usize];
        let free = (0..PREFIX_WAYS).find(|&way| set.entries[way] == 0)?;
        (set.prefixes[free], set.entries[free]) = (*prefix, entry);
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shedder_common::abi::{Prefix4, Prefix6};
    use std::collections::BTreeSet;

    fn finds_its_own_and_no_other<P: Prefix + std::fmt::Debug>(own: &[P], others: &[P]) {
        let (hash, table) = table(own, 7);
        let find = |prefix: &P| table[hash.set_of(prefix) as usize].find(prefix);
        for (prefix, entry) in own.iter().zip(7..) {
            assert_eq!(find(prefix), entry, "{prefix:?}");
        }
        for other in others.iter().filter(|other| !own.contains(other)) {
            assert_eq!(find(other), 0, "{other:?}");
        }
    }

    fn v4(bits: u64, length: u32) -> Prefix4 {
        Prefix4 { address: (bits as u32) & u32::MAX.checked_shl(32 - length).unwrap_or(0), length }
    }

    fn v6(high: u64, low: u64, length: u64) -> Prefix6 {
        let mask = u128::MAX.checked_shl(128 - length as u32).unwrap_or(0);
        let bits = (u128::from(high) << 64 | u128::from(low)) & mask;
        Prefix6 { high: (bits >> 64) as u64, low: bits as u64, length }
    }

    fn distinct<P: Prefix>(prefixes: Vec<P>, key: impl Fn(&P) -> (u64, u64, u64)) -> Vec<P> {
        let mut seen = BTreeSet::new();
        prefixes.into_iter().filter(|prefix| seen.insert(key(prefix))).collect()
    }

    proptest! {
        #[test]
        fn every_prefix_is_found_and_nothing_else(
            own in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..=32), 0..200),
            others in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..=32), 0..200),
        ) {
            let of_4 = |all: &[(u64, u64, u32)]| {
                let all = all.iter().map(|&(bits, _, length)| v4(bits, length)).collect();
                distinct(all, |p: &Prefix4| (p.address.into(), 0, p.length.into()))
            };
            let of_6 = |all: &[(u64, u64, u32)]| {
                let all = all.iter().map(|&(high, low, length)| v6(high, low, u64::from(4 * length))).collect();
                distinct(all, |p: &Prefix6| (p.high, p.low, p.length))
            };
            finds_its_own_and_no_other(&of_4(&own), &of_4(&others));
            finds_its_own_and_no_other(&of_6(&own), &of_6(&others));
        }
    }

    /// What differs in few bits, and those the same for all: networks side by side, and one address's every length.
    #[test]
    fn regular_prefixes_have_a_table_that_is_not_much_larger_than_they_are() {
        let beside: Vec<_> = (0..20_000u64).map(|net| v4(0x0a00_0000 + (net << 8), 24)).collect();
        let lengths: Vec<_> = (0..=32).map(|length| v4(0xc000_0201, length)).collect();
        let beside_6: Vec<_> = (0..20_000).map(|net| v6(0x2001_0db8 << 32 | net, 0, 64)).collect();
        let hosts_6: Vec<_> = (0..20_000).map(|host| v6(0x2001_0db8 << 32, host, 128)).collect();
        for prefixes in [&beside, &lengths] {
            finds_its_own_and_no_other(prefixes, &[v4(0, 0), v4(0x0a00_0000, 23), v4(1, 32)]);
            assert!(table(prefixes, 1).1.len() <= 16 * prefixes.len());
        }
        for prefixes in [&beside_6, &hosts_6] {
            finds_its_own_and_no_other(prefixes, &[v6(0, 0, 0), v6(0x2001_0db8 << 32, 0, 63)]);
            assert!(table(prefixes, 1).1.len() <= 16 * prefixes.len());
        }
    }

    #[test]
    fn no_prefix_needs_one_empty_set() {
        assert_eq!(table::<Prefix4>(&[], 1).1, [PrefixSet::zeroed()]);
        finds_its_own_and_no_other(&[], &[v4(0, 0)]);
    }
}
