//! Programs of others.

use crate::{BARE, FAILED, NOT_OBEYED, allowed, link, xdp_program};
use shedder_tests::bpf::{self, Hook, Passing, Place};
use shedder_tests::netns::{Network, Options};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::traffic::Traffic;

#[test]
fn an_interface_with_another_xdp_program_is_refused_whole_and_that_program_untouched() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("foreign-xdp", &Options { links: 2, ..Options::default() }).unwrap();
    let shedder = Shedder::new(&network);
    let foreign = Passing::load(Hook::Xdp).unwrap();
    let _held = network.server.run(|| foreign.attach("veth1", Place::First)).unwrap().unwrap();
    let id = foreign.id().unwrap();
    // Its table of packets is larger than that of a configuration without limits.
    let both =
        shedder.config("interfaces = [\"veth0\", \"veth1\"]\n[source]\npackets_per_second = 1000000\n");
    let attach_both = || {
        let said = shedder.fails(FAILED, &["attach", "--config", both.to_str().unwrap()]);
        assert!(said.contains("veth1") && said.contains(&format!("(id {id})")), "{said}");
        assert_eq!(xdp_program(&network, "veth1"), Some(id.into()));
    };

    attach_both();
    assert_eq!(xdp_program(&network, "veth0"), None, "half of it is attached");
    assert_eq!(bpf::pins_under(shedder.pins()).unwrap(), Vec::<std::path::PathBuf>::new());

    // Where something is in force already, it stays.
    shedder.ok(&["attach", "--interface", "veth0"]);
    let before = bpf::objects_under(shedder.pins()).unwrap();
    let program = xdp_program(&network, "veth0");
    attach_both();
    assert_eq!(xdp_program(&network, "veth0"), program, "the refused configuration is in force");
    assert_eq!(bpf::objects_under(shedder.pins()).unwrap(), before);
    shedder.ok(&["kill"]);
}

#[test]
fn tcx_programs_of_others_before_and_after_ours_stay_and_see_packets() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("foreign-tcx").unwrap();
    let interface = &network.link().interface;
    let [before, after] = [(); 2].map(|()| Passing::load(Hook::Egress).unwrap());
    let attach =
        |program: &Passing, place| network.server.run(|| program.attach(interface, place)).unwrap().unwrap();
    let held_after = attach(&after, Place::Last);
    let shedder = Shedder::new(&network);
    shedder.attach(BARE);
    let held_before = attach(&before, Place::First);
    let outward = Traffic::outward_of_both_families(&network, network.link(), 4000, 1_000).unwrap();
    let grow = |program: &Passing| {
        let seen = program.seen().unwrap();
        outward.offer_more();
        program.seen().unwrap() > seen
    };
    assert!(grow(&before) && grow(&after));

    // It hands on to ours, which nobody could know.
    let said = shedder.run(&["kill"]);
    assert_eq!(said.status.code(), Some(NOT_OBEYED), "{said:?}");
    assert!(grow(&before), "what is before ours sees what a kill stops");
    assert!(!grow(&after), "what a kill stops went on to the next program");
    shedder.ok(&["resume"]);

    shedder.attach(&format!("{BARE}[source]\npackets_per_second = 1_000_000\n"));
    assert!(grow(&before) && grow(&after), "after programs were replaced");
    shedder.ok(&["kill"]);
    assert!(!grow(&before) && !grow(&after), "ours is the first again, and what a kill stops went on");
    shedder.ok(&["resume"]);

    shedder.ok(&["detach"]);
    assert!(!link(&shedder, "egress-0").exists());
    for (held, program) in [(&held_before, &before), (&held_after, &after)] {
        let attached = held.attached().unwrap();
        assert!(attached.interface != 0 && attached.program == program.id().unwrap());
        assert!(grow(program), "after ours was detached");
    }
    allowed(&network).arrive_more();
}
