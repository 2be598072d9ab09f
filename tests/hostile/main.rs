//! What is promised when input is hostile, a promise a module: packets from an attacker, and a control plane that is flooded,
//! starved or taken over. The rest is promised elsewhere: any bytes at all by the fuzz targets (`fuzz`), the kernel's
//! verdict against the host's in `packets.rs`, any configuration in `shedder/src/config/tests.rs`.

mod attackers;
mod churn;
mod endpoint;
mod privileges;
mod probes;
mod push;
mod strangers;

use shedder_tests::process::Process;
use shedder_tests::wait;
use std::fs;
use std::path::PathBuf;

/// What a process takes of the host.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    /// Bytes of memory.
    memory: u64,
    /// Open descriptors.
    descriptors: usize,
}

fn proc_of(process: &Process, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{file}", process.pid()))
}

impl Footprint {
    fn of(process: &Process) -> Footprint {
        let status = fs::read_to_string(proc_of(process, "status")).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        let descriptors = fs::read_dir(proc_of(process, "fd")).expect("the daemon runs").count();
        Footprint { memory: kilobytes << 10, descriptors }
    }
}

/// Waits until the daemon holds no more descriptors than this.
fn settle(daemon: &Process, descriptors: usize) {
    wait::until("what was open is closed again", || Footprint::of(daemon).descriptors <= descriptors);
}
