//! What somebody may have meant.

/// The candidate nearest to `word`, if one is near enough that a slip of the fingers may have turned it into
/// `word`: at most a third of its characters are wrong.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter(|candidate| word.len().abs_diff(candidate.len()) <= candidate.len())
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions, substitutions and swaps of neighbours turn `a` into `b`, case aside: the
/// restricted Damerau-Levenshtein distance (Damerau 1964, Levenshtein 1966), by dynamic programming on three rows.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("lease", "laese"), 1);
        assert_eq!(distance("Lease", "lease"), 0);
    }

    #[test]
    fn the_nearest_is_near() {
        let keys = ["interfaces", "mode", "lease", "kp", "ki"];
        assert_eq!(nearest("interface", keys), Some("interfaces"));
        assert_eq!(nearest("Moed", keys), Some("mode"));
        assert_eq!(nearest("kp_", keys), Some("kp"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"lease".repeat(100_000), keys), None);
    }
}
