//! What moves no deadline, on a machine of the test's own: steps of the system clock, and sleep.

use crate::{BARE, Talk};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use shedder_tests::{endpoint, privileged};
use std::fs;
use std::time::Duration;

/// For how long kills are commanded: commands take seconds where they are emulated.
const LASTING: Duration = Duration::from_secs(20);

/// How late a kill may end.
const LATE: Duration = Duration::from_millis(50);

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).unwrap().into()
}

fn monotonic() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Nobody's clock is changed, and nobody's machine is put to sleep, but the guest's.
fn insist_on_a_guest() {
    assert!(
        std::env::var_os("SHEDDER_GUEST").is_some(),
        "this steps the clock of the machine and puts it to sleep: `cargo xtask kernels` runs it in a guest"
    );
}

/// Kills for a while, does something, and sees the kill hold until its deadline and no longer.
fn a_kill_outlasts(shedder: &Shedder<'_>, talk: &Talk, what: impl FnOnce()) {
    let before = monotonic();
    shedder.ok(&["kill", "--for", &format!("{}s", LASTING.as_secs())]);
    let (earliest, latest) = (before + LASTING, monotonic() + LASTING + LATE);
    what();
    loop {
        let asked = monotonic();
        let passes = talk.passes();
        if passes == (true, true) {
            let early = earliest.saturating_sub(monotonic());
            assert_eq!(early, Duration::ZERO, "the kill ended too early");
            return;
        }
        assert!(asked < latest, "the kill holds {:?} after its deadline", asked - latest);
    }
}

#[test]
#[ignore = "`cargo xtask kernels` runs it on other kernels"]
fn no_step_of_the_system_clock_moves_a_deadline() {
    if !privileged::require() {
        return;
    }
    insist_on_a_guest();
    let network = Network::new("clock-step").unwrap();
    let shedder = Shedder::new(&network);
    let talk = Talk::between(&network);
    shedder.attach(BARE);
    // On by more than the kill lasts, back by more than it has lasted, and far into the past.
    for seconds in [3_600, -7_200, -86_400_000] {
        a_kill_outlasts(&shedder, &talk, || {
            let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
            let stepped = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
            clock_settime(ClockId::CLOCK_REALTIME, stepped).unwrap();
        });
    }
}

#[test]
#[ignore = "`cargo xtask kernels` runs it on other kernels"]
fn a_machine_that_slept_goes_on_with_its_kill_and_its_daemon() {
    if !privileged::require() {
        return;
    }
    insist_on_a_guest();
    let network = Network::new("clock-sleep").unwrap();
    let shedder = Shedder::new(&network);
    let talk = Talk::between(&network);
    let mut daemon = shedder.ready_daemon(BARE).unwrap();
    a_kill_outlasts(&shedder, &talk, || {
        let slept = || {
            let monotonic = monotonic();
            read(ClockId::CLOCK_BOOTTIME) - monotonic
        };
        let before = (slept(), read(ClockId::CLOCK_BOOTTIME));
        fs::write("/sys/class/rtc/rtc0/wakealarm", "+5").expect("an alarm that wakes the machine");
        fs::write("/sys/power/state", "mem").expect("the machine sleeps, and wakes");
        let after = (slept(), read(ClockId::CLOCK_BOOTTIME));
        let (gone, slept) = (after.1 - before.1, after.0 - before.0);
        println!("slept: {gone:?}, of which the monotonic clock leaves out {slept:?}");
        assert!(gone > Duration::from_secs(3), "it did not sleep");
    });
    until("the daemon to be ready", || endpoint::is_ready(&network.server));
    shedder.ok(&["kill"]);
    assert_eq!(talk.passes(), (false, false));
    shedder.ok(&["resume"]);
    assert!(daemon.stop(Duration::from_secs(60)).unwrap().success(), "{}", daemon.output());
}
