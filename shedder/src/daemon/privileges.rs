//! What the daemon that is running may do, as the kernel tells it, not as the daemon does.

use caps::Capability;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What a process may do, over all its threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Privileges {
    /// Its process id.
    pub pid: i32,
    /// What some thread has, or could give itself.
    pub capabilities: BTreeSet<String>,
    /// What some thread could have from a program that it runs.
    pub bounding: BTreeSet<String>,
    /// Whether no thread can gain any by running a program.
    pub no_new_privileges: bool,
    /// Whether a filter refuses some system calls of every thread.
    pub system_calls_filtered: bool,
    /// Whether the process holds a Landlock ruleset, as the daemon does once it is enforced: the kernel tells nobody
    /// which one a process lives under.
    pub files_fenced: bool,
}

impl Privileges {
    /// Of a process; none where there is none any more, or it may not be looked at.
    pub fn of(pid: i32) -> Option<Privileges> {
        let process = Path::new("/proc").join(pid.to_string());
        let threads = fs::read_dir(process.join("task")).ok()?.filter_map(Result::ok);
        let threads: Vec<_> =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).collect();
        let threads: Vec<BTreeMap<&str, &str>> = threads.iter().map(|text| fields(text)).collect();
        let is_everywhere = |field, value| threads.iter().all(|thread| thread.get(field) == Some(&value));
        (!threads.is_empty()).then(|| Privileges {
            pid,
            capabilities: union(&threads, &["CapPrm", "CapEff", "CapInh", "CapAmb"]),
            bounding: union(&threads, &["CapBnd"]),
            no_new_privileges: is_everywhere("NoNewPrivs", "1"),
            system_calls_filtered: is_everywhere("Seccomp", "2"),
            files_fenced: holds_ruleset(&process),
        })
    }
}

/// Of `/proc/PID/status`, by name.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect()
}

fn union(threads: &[BTreeMap<&str, &str>], sets: &[&str]) -> BTreeSet<String> {
    let words = threads.iter().flat_map(|thread| sets.iter().filter_map(|set| thread.get(set)));
    let bits = words.fold(0, |bits, word| bits | u64::from_str_radix(word, 16).unwrap_or(0));
    let known: BTreeMap<u8, Capability> = caps::all().into_iter().map(|one| (one.index(), one)).collect();
    let name = |bit: u8| known.get(&bit).map_or_else(|| format!("CAP_{bit}"), ToString::to_string);
    (0..64).filter(|bit| bits >> bit & 1 == 1).map(name).collect()
}

fn holds_ruleset(process: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.any(|target| target.to_string_lossy().contains("landlock-ruleset"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_described_by_all_its_threads() {
        let first = fields("CapPrm:\t0000000000000001\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
        let second = fields("CapPrm:\t8000000000000000\nCapEff:\t0000000000001000\nNoNewPrivs:\t0\n");
        let union = union(&[first, second], &["CapPrm", "CapEff"]);
        assert_eq!(union.into_iter().collect::<Vec<_>>(), ["CAP_63", "CAP_CHOWN", "CAP_NET_ADMIN"]);
    }

    #[test]
    fn this_process_is_found_and_one_that_is_none_is_not() {
        let own = Privileges::of(std::process::id() as i32).expect("this process runs");
        assert!(!own.files_fenced && !own.system_calls_filtered);
        assert_eq!(Privileges::of(i32::MAX), None);
    }
}
