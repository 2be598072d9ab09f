//! Counts tests: those that cargo reports, and among them those that needed privileges.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

/// How many tests ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Passed, those that skipped themselves included.
    pub(crate) passed: u64,
    /// Marked `#[ignore]`.
    pub(crate) ignored: u64,
}

impl Tally {
    /// Adds what a line of `cargo test`'s output says, if it is a summary.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let count = |noun: &str| -> u64 {
            counts
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(noun)?.trim().parse().ok())
                .unwrap_or(0)
        };
        self.passed += count("passed");
        self.ignored += count("ignored");
    }
}

/// How many privileged tests ran, and how many skipped themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Privileged {
    /// Did their work.
    pub(crate) ran: usize,
    /// Were told not to.
    pub(crate) skipped: usize,
}

impl Privileged {
    /// Reads the ledger that the tests write (`shedder_tests::privileged::LEDGER`), because the harness prints nothing
    /// of a test that passes, and counts one that skipped itself as passed. One that no test wrote is empty.
    pub(crate) fn read(ledger: &Path) -> Result<Privileged> {
        match std::fs::read_to_string(ledger) {
            Ok(lines) => Ok(Privileged::count(&lines)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Privileged::default()),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", ledger.display())),
        }
    }

    fn count(lines: &str) -> Privileged {
        let count = |verb: &str| lines.lines().filter(|line| line.starts_with(verb)).count();
        Privileged { ran: count("ran "), skipped: count("skipped ") }
    }
}

impl fmt::Display for Privileged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "privileged: {} ran, {} skipped", self.ran, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_add_up_and_other_lines_do_not_count() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "   Doc-tests shedder",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 12.50s",
            "test that says 7 passed",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 42, ignored: 1 });
    }

    #[test]
    fn failed_runs_count_what_passed() {
        let mut tally = Tally::default();
        tally.read(
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        assert_eq!(tally, Tally { passed: 5, ignored: 0 });
    }

    #[test]
    fn the_ledger_tells_ran_from_skipped() {
        let privileged = Privileged::count("ran kill::survives\nskipped kill::by_name\nran kill::total\n");
        assert_eq!(privileged, Privileged { ran: 2, skipped: 1 });
        assert_eq!(privileged.to_string(), "privileged: 2 ran, 1 skipped");
    }

    #[test]
    fn no_ledger_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Privileged::read(&folder.path().join("ledger")).unwrap(), Privileged::default());
        assert!(Privileged::read(folder.path()).is_err());
    }
}
