//! (28) What the daemon keeps after its start, and that everything it does later works with that.

use super::{Footprint, proc_of};
use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::endpoint;
use shedder_tests::netns::{self, Network};
use shedder_tests::privileged;
use shedder_tests::process::Process;
use shedder_tests::shedder::{Shedder, binary};
use shedder_tests::wait;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;

/// CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.
const KEPT: u64 = 1 << 39 | 1 << 38 | 1 << 12;

/// A daemon that does all that takes a right: attaches, listens, and is pushed to.
fn config(network: &Network, push: &str) -> String {
    format!(
        "interfaces = [\"$IF\"]\n[endpoint]\npush = \"{}/{push}\"\n[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 80\n\
         target = \"50ms\"\nsignal = {{ kind = \"push\" }}\n",
        network.dir().display()
    )
}

/// What the kernel says of each thread of the daemon.
fn threads(daemon: &Process) -> Vec<BTreeMap<String, String>> {
    let threads = fs::read_dir(proc_of(daemon, "task")).expect("the daemon runs");
    let status = |thread: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    threads.map(status).collect()
}

fn status(shedder: &Shedder<'_>) -> Value {
    serde_json::from_str(&shedder.status().expect("it is attached")).unwrap()
}

fn assert_fenced(daemon: &Process, shedder: &Shedder<'_>) {
    let threads = threads(daemon);
    assert!(threads.len() >= 4, "the main thread, the loop and the runtime");
    for thread in &threads {
        let name = &thread["Name"];
        let set = |set: &str| u64::from_str_radix(&thread[set], 16).unwrap();
        assert_eq!((set("CapPrm"), set("CapEff"), set("CapBnd")), (KEPT, KEPT, KEPT), "{name}");
        assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{name}");
        assert_eq!((thread["NoNewPrivs"].as_str(), thread["Seccomp"].as_str()), ("1", "2"), "{name}");
    }
    // And so says `status`, which asks the kernel as well.
    let told = &status(shedder)["daemon"]["privileges"];
    let kept = serde_json::json!(["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    assert_eq!(told["pid"], daemon.pid().as_raw());
    assert_eq!((&told["capabilities"], &told["bounding"]), (&kept, &kept));
    for fence in ["no_new_privileges", "system_calls_filtered", "files_fenced"] {
        assert_eq!(told[fence], true, "{fence}");
    }
    let text = shedder.ok(&["status"]);
    assert!(text.contains("no new privileges, system calls filtered, files fenced"), "{text}");
}

fn reloads(network: &Network) -> [f64; 2] {
    let metrics = endpoint::Metrics::scrape(&network.server).unwrap();
    ["shedder_config_reloads_total", "shedder_config_reload_failures_total"]
        .map(|name| metrics.value(name, &[]))
}

/// Everything that a daemon may have to do after its start.
fn assert_lives(network: &Network, shedder: &Shedder<'_>, daemon: &Process) {
    let is_held = || {
        let status = status(shedder);
        status["daemon"]["alive"] == true && status["interfaces"][0]["attached"] == true
    };
    // A reload, which loads programs, with a rule that changes what they are.
    let [reloaded, _] = reloads(network);
    shedder.config(&format!("{}[newcomers]\npackets_per_second = 5_000\n", config(network, "push.sock")));
    daemon.signal(Signal::SIGHUP).unwrap();
    wait::until("the reload", || reloads(network)[0] > reloaded);
    // The interface goes, and comes back.
    netns::ip(&network.server, &format!("link delete {}\n", network.link().interface)).unwrap();
    wait::until("the interface to be missed", || !is_held());
    network.make(network.links()).unwrap();
    wait::until("the interface to be held again", is_held);
    // The pins are removed: some of them, then all with their directory.
    shedder.ok(&["kill"]);
    for gone in [shedder.pins().join("maps"), shedder.pins().to_owned()] {
        // The daemon may be making some of them again from the time before.
        wait::until("the pins to be removed", || fs::remove_dir_all(&gone).is_ok());
        wait::until("the pins to be made again", || shedder.status().is_some() && is_held());
    }
    assert_eq!(status(shedder)["kill"]["active"], true, "the kill that was in force");
    shedder.ok(&["resume"]);
    // It is told latencies.
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"api 12ms", network.dir().join("push.sock")).unwrap();
    assert_fenced(daemon, shedder);
}

#[test]
fn a_daemon_of_root_keeps_what_attaching_takes_and_nothing_else() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("fenced").unwrap();
    let shedder = Shedder::new(&network);
    let mut daemon = shedder.daemon(&config(&network, "push.sock")).unwrap();
    assert_fenced(&daemon, &shedder);
    assert_lives(&network, &shedder, &daemon);
    daemon.stop(std::time::Duration::from_secs(30)).unwrap();
    assert!(shedder.status().is_none(), "it detached");
    assert!(!shedder.pins().exists());
}

/// As the unit in `docs/` starts it: it has three capabilities from its first instruction.
#[test]
fn a_daemon_of_the_unit_does_all_that_one_of_root_does() {
    if !privileged::require() {
        return;
    }
    let unit = include_str!("../../docs/shedder.service");
    let line =
        unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("the unit's set");
    let set: Vec<String> = line.split(' ').map(|name| name.replace("CAP_", "+").to_lowercase()).collect();
    let network = Network::new("unit").unwrap();
    let shedder = Shedder::new(&network);
    let file = shedder.config(&config(&network, "push.sock"));
    let mut command = network.server.command("setpriv");
    command
        .args(["--no-new-privs", "--inh-caps=-all", "--bounding-set"])
        .arg(format!("-all,{}", set.join(",")));
    command.arg(binary()).arg("run").arg("--config").arg(file).arg("--bpffs").arg(shedder.pins());
    let mut daemon = network.start("daemon", command).unwrap();
    wait::until("the daemon", || {
        assert!(daemon.ended().unwrap().is_none(), "{}", daemon.output());
        shedder.status().is_some_and(|status| status.contains("\"alive\":true"))
    });
    assert_fenced(&daemon, &shedder);
    assert_lives(&network, &shedder, &daemon);
}

#[test]
fn a_reload_that_would_need_a_gap_in_the_fence_is_refused_and_the_old_one_stays() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("gap").unwrap();
    let shedder = Shedder::new(&network);
    let daemon = shedder.daemon(&config(&network, "run/push.sock")).unwrap();
    let open = Footprint::of(&daemon).descriptors;
    shedder.config(&config(&network, "elsewhere/push.sock"));
    daemon.signal(Signal::SIGHUP).unwrap();
    wait::until("the refusal", || reloads(&network)[1] == 1.0);
    assert!(daemon.output().contains("restart"), "{}", daemon.output());
    assert!(network.dir().join("run/push.sock").exists() && !network.dir().join("elsewhere").exists());
    super::settle(&daemon, open);
}
