//! Attaching, attaching again, and detaching.

use crate::{BARE, DENY, NOT_ATTACHED, denied, link, xdp_program};
use shedder_tests::bpf::{self, Hook, Object, Passing, Place};
use shedder_tests::flood::now;
use shedder_tests::netns::{Network, Options};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use std::fs;
use std::os::unix::process::CommandExt;

/// The kernel frees what nobody uses a moment after the last let go of it.
fn wait_until_gone(objects: &[Object]) {
    until("every program, map and link to be gone", || objects.iter().all(|object| !object.exists()));
}

#[test]
fn detach_leaves_no_pin_link_program_or_map_and_says_so_when_nothing_is_attached() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("detach", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    shedder
        .attach("interfaces = [\"veth0\", \"veth1\"]\n[[rule]]\nsources = [\"192.0.2.0/24\"]\ndeny = true\n");
    let objects = bpf::objects_under(shedder.pins()).unwrap();
    for (kind, least) in [("Program", 4), ("Map", 16), ("Link", 4)] {
        let of_kind = objects.iter().filter(|object| format!("{object:?}").starts_with(kind)).count();
        assert!(of_kind >= least, "{of_kind} of {least}: {objects:?}");
    }
    assert!(objects.iter().all(|object| object.exists()));

    // One interface alone, first: the rest stays.
    shedder.ok(&["detach", "--interface", "veth1"]);
    assert_eq!(xdp_program(&network, "veth1"), None);
    assert!(xdp_program(&network, "veth0").is_some());

    shedder.ok(&["detach"]);
    assert!(!shedder.pins().exists(), "{:?}", bpf::pins_under(shedder.pins()));
    assert_eq!(xdp_program(&network, "veth0"), None);
    wait_until_gone(&objects);

    let said = shedder.fails(NOT_ATTACHED, &["detach"]);
    assert!(said.contains("nothing is attached"), "{said}");
}

#[test]
fn another_configuration_replaces_the_programs_behind_the_same_links_without_a_gap() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("replace").unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach(DENY);
    let links = ["ingress-0", "egress-0"].map(|name| link(&shedder, name));
    let read = || links.each_ref().map(|link| bpf::attached_by(link).unwrap());
    let denied = denied(&network);
    denied.offer_more();
    let start = now();
    for rate in 1..=5 {
        let before = read();
        shedder.attach(&format!("{DENY}[source]\npackets_per_second = {}\n", rate * 1_000_000));
        for (before, after) in before.into_iter().zip(read()) {
            assert_eq!(after.link, before.link, "the link was made anew");
            assert_ne!(after.program, before.program, "the program is still the old one");
            until("the old program to be gone", || !Object::Program(before.program).exists());
        }
    }
    assert_eq!(denied.arrived_since(start), 0, "denied packets arrived while programs were replaced");
    assert_eq!(fs::read_dir(shedder.pins().join("policy")).unwrap().count(), 1, "old policies are left");
}

#[test]
fn an_interface_that_is_not_named_any_more_is_let_go_of() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("let-go", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    shedder.attach("interfaces = [\"veth0\", \"veth1\"]\n");
    let let_go =
        [bpf::attached_by(&link(&shedder, "ingress-1")), bpf::attached_by(&link(&shedder, "egress-1"))]
            .map(|attached| Object::Link(attached.unwrap().link));
    let kept = bpf::attached_by(&link(&shedder, "ingress-0")).unwrap().link;
    shedder.attach(BARE);
    assert_eq!(xdp_program(&network, "veth1"), None);
    wait_until_gone(&let_go);
    assert_eq!(bpf::attached_by(&link(&shedder, "ingress-0")).unwrap().link, kept);
}

/// What a run leaves that dies at the worst moments.
#[test]
fn what_a_run_left_that_died_while_attaching_is_no_obstacle() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("died-attaching", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);

    // Before it had marked its maps as whole.
    shedder.attach(BARE);
    let meta = shedder.pins().join("maps/META");
    bpf::write(&meta, 0, &[0; 48]).unwrap();
    let objects = bpf::objects_under(shedder.pins()).unwrap();
    let said = shedder.fails(NOT_ATTACHED, &["status"]);
    assert!(said.contains("nothing is attached"), "{said}");
    shedder.attach(BARE);
    shedder.ok(&["kill"]);
    shedder.ok(&["resume"]);
    wait_until_gone(&objects);

    // With the next generation half pinned, the old one in force.
    let next = shedder.pins().join("policy/2");
    fs::create_dir(&next).unwrap();
    let passing = Passing::load(Hook::Xdp).unwrap();
    passing.pin(&next.join("ingress-0")).unwrap();
    shedder.attach(BARE);
    shedder.ok(&["kill"]);
    shedder.ok(&["resume"]);

    // With the link of an interface pinned, which it had not noted yet, and which is not wanted any more.
    let stray = network.server.run(|| passing.attach("veth1", Place::First)).unwrap().unwrap();
    stray.pin(&link(&shedder, "ingress-7")).unwrap();
    let stray_id = Object::Link(stray.attached().unwrap().link);
    drop(stray);
    shedder.attach(BARE);
    wait_until_gone(&[stray_id]);
    assert_eq!(xdp_program(&network, "veth1"), None);

    shedder.ok(&["detach"]);
    assert!(!shedder.pins().exists());
}

/// Capabilities, by their numbers in `capabilities(7)`'s header.
const NET_ADMIN: i32 = 12;
const PERFMON: i32 = 38;
const BPF: i32 = 39;

/// Runs shedder with no other capabilities than these, as the unit for systemd does.
fn run_with(shedder: &Shedder<'_>, capabilities: &'static [i32], arguments: &[&str]) -> std::process::Output {
    const LAST: i32 = 40;
    let mut command = shedder.command(arguments);
    let drop_others = || {
        for capability in (0..=LAST).filter(|capability| !capabilities.contains(capability)) {
            // SAFETY: no memory is involved. What this process itself may not drop stays dropped.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec it calls nothing but prctl.
    unsafe { command.pre_exec(drop_others) };
    command.output().unwrap()
}

#[test]
fn three_capabilities_are_enough_and_one_less_is_told() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("capabilities").unwrap();
    let shedder = Shedder::new(&network);
    let config = shedder.config(BARE);
    let attach = ["attach", "--config", config.to_str().unwrap()];
    for too_few in [&[BPF, NET_ADMIN][..], &[BPF, PERFMON], &[PERFMON, NET_ADMIN], &[]] {
        let output = run_with(&shedder, too_few, &attach);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{too_few:?}: {output:?}");
        assert!(said.contains("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"), "{too_few:?}: {said}");
    }
    let enough = &[BPF, PERFMON, NET_ADMIN];
    // Twice: what replaces programs opens those that it replaces.
    for arguments in [&attach[..], &attach, &["kill"], &["resume"], &["status"], &["detach"]] {
        let output = run_with(&shedder, enough, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}
