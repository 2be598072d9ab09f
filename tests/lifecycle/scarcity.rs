//! Too little of something while attaching: refused whole, and nothing half attached.

use crate::{BARE, DENY, FAILED, NOT_ATTACHED, denied, status, xdp_program};
use nix::sys::resource::{Resource, setrlimit};
use shedder_tests::flood::now;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use shedder_tests::{bpf, privileged};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How the dynamic loader ends a process whose libraries it has no room for.
const NOT_STARTED: i32 = 127;

/// Attaches with ever more of a resource.
fn limited(
    shedder: &Shedder<'_>,
    resource: Resource,
    limits: impl Iterator<Item = u64>,
) -> impl Iterator<Item = (String, Command)> {
    let config = shedder.config(DENY);
    limits.map(move |limit| {
        let mut command = shedder.command(&["attach", "--config", config.to_str().unwrap()]);
        // SAFETY: between fork and exec it makes one system call.
        unsafe { command.pre_exec(move || Ok(setrlimit(resource, limit, limit)?)) };
        (format!("{resource:?} {limit}"), command)
    })
}

/// Makes these attempts to attach until one succeeds, each with more of something than the one before. Each other is refused
/// whole, and says why.
pub(crate) fn until_enough(shedder: &Shedder<'_>, attempts: impl Iterator<Item = (String, Command)>) {
    let network = shedder.network();
    let mut refusals = BTreeMap::<String, u32>::new();
    let mut ended = 0;
    for (what, mut command) in attempts {
        let before = (bpf::objects_under(shedder.pins()).unwrap(), xdp_program(network, "veth0"));
        let output = command.output().unwrap();
        if output.status.success() {
            println!("{ended} ended, then enough with {what}; refused: {refusals:#?}");
            assert!(ended > 0 || !refusals.is_empty(), "the least was enough");
            return;
        }
        if output.status.code().is_none() {
            // It was ended for want of memory, and could take nothing back: what was held is held, by it or as before.
            ended += 1;
            if before.1.is_some() {
                assert!(xdp_program(network, "veth0").is_some(), "{what}: {output:?}");
            } else {
                let cleared = shedder.run(&["detach"]);
                assert!(matches!(cleared.status.code(), Some(0 | NOT_ATTACHED)), "{what}: {cleared:?}");
            }
            continue;
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.code() == Some(NOT_STARTED) {
            // How much the loader needs depends on how the binary was built.
            ended += 1;
            continue;
        }
        assert_eq!(output.status.code(), Some(FAILED), "{what}: {said}");
        let after = (bpf::objects_under(shedder.pins()).unwrap(), xdp_program(network, "veth0"));
        assert_eq!(after, before, "{what}: {said}");
        *refusals.entry(said).or_default() += 1;
    }
    panic!("nothing was enough");
}

#[test]
fn too_few_descriptors_or_too_little_memory_refuse_an_attachment_whole() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("scarce").unwrap();
    let shedder = Shedder::new(&network);
    for what_is_there in [false, true] {
        if what_is_there {
            shedder.attach(BARE);
        }
        until_enough(&shedder, limited(&shedder, Resource::RLIMIT_NOFILE, (6..).step_by(4)));
        shedder.attach(BARE);
        let limits = (16..).step_by(8).map(|megabytes| megabytes << 20);
        until_enough(&shedder, limited(&shedder, Resource::RLIMIT_AS, limits));
        shedder.ok(&["kill"]);
        shedder.ok(&["detach"]);
        assert!(!shedder.pins().exists());
    }
}

#[test]
fn a_disk_that_is_full_is_no_obstacle_to_a_kill_and_refuses_a_daemon_whole() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("full").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(DENY);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for command in [&["kill"][..], &["resume"], &["kill"]] {
        let ended = shedder.command(command).stdout(full()).stderr(full()).status().unwrap();
        assert!(ended.success(), "{command:?}: {ended:?}");
    }
    assert_eq!(status(&shedder)["kill"]["active"], true);
    shedder.ok(&["resume"]);
    let start = now();
    assert_eq!(denied(&network).arrived_since(start), 0);

    // A file system that has no room for the push socket.
    let disk = network.dir().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = nix::mount::mount(
        Some("tmpfs"),
        &disk,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("nr_inodes=1"),
    );
    mounted.unwrap();
    let push = disk.join("push.sock");
    let config = shedder.config(&format!(
        "interfaces = [\"$IF\"]\n[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 80\nsignal = {{ kind = \"push\" }}\n\
         [endpoint]\npush = \"{}\"\n",
        push.display()
    ));
    let before = bpf::objects_under(shedder.pins()).unwrap();
    let said = shedder.fails(FAILED, &["run", "--config", config.to_str().unwrap()]);
    nix::mount::umount(&disk).unwrap();
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(bpf::objects_under(shedder.pins()).unwrap(), before);
}
