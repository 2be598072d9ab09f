//! A limit on memory that is reached while attaching: at each map and program in turn, as ever more is allowed. What the
//! kernel makes for a process is charged to its control group, as what the process itself uses is.

use crate::scarcity::until_enough;
use crate::{BARE, DENY, both_ways};
use anyhow::{Context, Result};
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A control group of the memory controller, of version 1: below this process's own. Dropped, it is removed.
struct Group(PathBuf);

impl Group {
    /// Makes one; none where the machine has no such controller.
    fn make(name: &str) -> Result<Option<Group>> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let is_of_memory = |fields: &Vec<&str>| {
            fields[2] == "cgroup" && fields[3].split(',').any(|option| option == "memory")
        };
        let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let Some(mount) = mounts.filter(|fields| fields.len() > 3).find(is_of_memory) else {
            return Ok(None);
        };
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.split_once(":memory:")).map_or("", |(_, path)| path);
        // In a container its path may be that of the machine outside.
        let root = Path::new(mount[1]);
        let parent = Some(root.join(own.trim_start_matches('/'))).filter(|path| path.is_dir());
        let group = parent.unwrap_or_else(|| root.to_owned()).join(name);
        fs::create_dir(&group).with_context(|| format!("making the control group {}", group.display()))?;
        Ok(Some(Group(group)))
    }

    /// What is in it may use so many bytes, in the kernel and by itself.
    fn limit(&self, bytes: u64) {
        fs::write(self.0.join("memory.limit_in_bytes"), bytes.to_string()).unwrap();
    }

    /// Has a command begin in it.
    fn take(&self, command: &mut Command) {
        let processes = self.0.join("cgroup.procs");
        // SAFETY: between fork and exec it opens a file and writes to it, with what was made before.
        unsafe { command.pre_exec(move || fs::write(&processes, "0")) };
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_limit_on_memory_that_is_reached_anywhere_while_attaching_refuses_it_whole_and_keeps_a_kill() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("memory").unwrap();
    let Some(group) = Group::make(network.server.name()).unwrap() else {
        println!("left out: this machine has no memory controller of cgroup version 1");
        return;
    };
    let shedder = Shedder::new(&network);
    let config = shedder.config(DENY);
    let attempts = || {
        (8..200).map(|halves| {
            let limit = halves * (512 << 10);
            group.limit(limit);
            let mut command = shedder.command(&["attach", "--config", config.to_str().unwrap()]);
            group.take(&mut command);
            (format!("{limit} bytes"), command)
        })
    };
    until_enough(&shedder, attempts());
    shedder.ok(&["detach"]);
    assert!(!shedder.pins().exists());

    shedder.attach(BARE);
    let both = both_ways(&network, 1_000);
    both.iter().for_each(Traffic::arrive_more);
    shedder.ok(&["kill"]);
    let killed = now();
    shedder.config(DENY);
    until_enough(&shedder, attempts());
    for traffic in &both {
        assert_eq!(traffic.arrived_since(killed), 0, "packets passed under the kill");
    }
    shedder.ok(&["resume"]);
    both.iter().for_each(Traffic::arrive_more);
    shedder.ok(&["detach"]);
}
