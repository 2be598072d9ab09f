//! The command line: what each command promises, with and without a daemon, and what it says of bad input.

use nix::sys::signal::Signal;
use serde_json::Value;
use shedder_tests::bpf::{Hook, Passing, Place};
use shedder_tests::flood::{self, Receiver, Sender};
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::netns::{Link, Network, Options};
use shedder_tests::privileged;
use shedder_tests::shedder::{Shedder, binary};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Two services, a lifeline, and no limits.
const SERVICES: &str = r#"
interfaces = ["$IF"]
lease = "500ms"
[[lifeline]]
peers = ["10.77.0.2/32"]
ports = [22]
[[service]]
name = "web"
protocol = "tcp"
port = 8080
target = "50ms"
signal = { kind = "none" }
[[service]]
name = "dns"
protocol = "udp"
port = 5300
target = "50ms"
signal = { kind = "none" }
"#;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/example.toml");

/// The example of the design.
const DESIGN: &str = r#"
interfaces = ["eth0"]
mode = "auto"
dry_run = false
posture = "open"
lease = "2s"
[source]
packets_per_second = 10_000
bytes_per_second = 50_000_000
new_flows_per_second = 200
burst = "100ms"
ipv6_prefix = 64
[newcomers]
packets_per_second = 50_000
proven_for = "1h"
[[lifeline]]
peers = ["192.0.2.0/24", "2001:db8::/32"]
ports = [22]
[[rule]]
sources = ["203.0.113.0/24"]
class = "critical"
packets_per_second = 100_000
[[rule]]
sources = ["198.51.100.0/24"]
deny = true
[[service]]
name = "api"
protocol = "tcp"
port = 8080
class = "normal"
target = "50ms"
quantile = 0.99
shed = "new-flows"
signal = { kind = "probe", url = "http://127.0.0.1:8080/" }
[control]
interval = "20ms"
kp = 0.4
admission_floor = 0.02
[endpoint]
listen = "127.0.0.1:9477"
"#;

/// Three mistakes, on lines 2, 3 and 5.
const MISTAKEN: &str = "interfaces = [\"$IF\"]\nmode = \"fast\"\nlease = 2\n[source]\nbursts = \"1s\"\n";

const LONG: Duration = Duration::from_secs(30);

/// Runs the binary where there is nothing to attach to.
fn plain(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--bpffs", "/nonexistent/shedder"]);
    command.output().expect("shedder can be started")
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("shedder prints text");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// What a command prints with `--json`: one object on one line. It must end with `code`.
fn json_of(shedder: &Shedder<'_>, code: i32, arguments: &[&str]) -> Value {
    let output = shedder.run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "shedder {arguments:?}: {output:?}");
    parse_line(&output)
}

fn parse_line(output: &Output) -> Value {
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let value: Value = serde_json::from_str(&printed).expect("it is JSON");
    assert!(value.is_object(), "{printed}");
    value
}

fn status(shedder: &Shedder<'_>) -> Value {
    json_of(shedder, 0, &["status"])
}

/// Asks for the status until `condition` holds.
fn status_until(shedder: &Shedder<'_>, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LONG;
    loop {
        let status = status(shedder);
        if condition(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what}: {status:#}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A service of a status.
fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    let mut services = status["services"].as_array().expect("a list").iter();
    services.find(|service| service["name"] == name).expect("the service is there")
}

fn attach<'a>(network: &'a Network, config: &str) -> Shedder<'a> {
    let shedder = Shedder::new(network);
    let config = shedder.config(config);
    shedder.ok(&["attach", "--config", config.to_str().unwrap()]);
    shedder
}

// --- Arguments ---------------------------------------------------------------------------------------------------

#[test]
fn arguments_that_cannot_be_meant_end_with_2_and_say_what_is_wanted() {
    for (arguments, wanted) in [
        (&["shed", "101"][..], "0 (shed nothing) to 100 (shed all)"),
        (&["shed", "-1"], "0 (shed nothing) to 100 (shed all)"),
        (&["shed", "nan"], "0 (shed nothing) to 100 (shed all)"),
        (&["shed", "inf"], "0 (shed nothing) to 100 (shed all)"),
        (&["shed", ""], "0 (shed nothing) to 100 (shed all)"),
        (&["shed"], "<PERCENT>"),
        (&["kill", "--for", "0"], "say for example"),
        (&["kill", "--for", "0s"], "say for example"),
        (&["kill", "--for", "ten"], "say for example"),
        (&["kill", "--for", ""], "say for example"),
        (&["kill", "--for=-5s"], "say for example"),
        (&["kill", "--for", "1000000000y"], "longer than 365 days"),
        (&["kill", "--for", "18446744073709551615s 1000ms"], "say for example"),
        (&["shed", "5", "--for", "18446744073709551615s 1000ms"], "say for example"),
        (&["kill", "--interface", "a", "--service", "b"], "cannot be used with"),
        (&["kill", "--interface"], "--interface"),
        (&["resume", "everything"], "everything"),
        (&["run"], "--config <FILE>|--interface <IF>"),
        (&["run", "--dry-run"], "--config <FILE>|--interface <IF>"),
        (&["attach"], "--config <FILE>|--interface <IF>"),
        (&["check"], "<FILE>"),
        (&["completions", "csh"], "bash"),
        (&["explode"], "explode"),
    ] {
        let output = plain(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(out.is_empty(), "{arguments:?}: {out}");
        assert!(err.contains(wanted), "{arguments:?}: {err}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let help = text(&plain(&["--help"]).stdout);
    for command in COMMANDS {
        assert!(help.contains(&format!("  {command} ")), "{command}: {help}");
        let output = plain(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(text(&output.stdout).contains("Usage: shedder"), "{command}");
    }
    let output = Command::new(binary()).arg("--version").output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).starts_with("shedder ")), (Some(0), true));
}

/// Every command of the design.
const COMMANDS: [&str; 11] =
    ["run", "attach", "detach", "kill", "resume", "shed", "auto", "status", "check", "completions", "man"];

#[test]
fn completions_for_every_shell_and_a_manual_page_for_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = plain(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
    }
    let page = text(&plain(&["man"]).stdout);
    assert!(page.contains(".TH shedder") && page.contains("Exit codes"), "{page}");

    let directory = std::env::temp_dir().join(format!("shedder-man-{}", std::process::id()));
    let output = plain(&["man", directory.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let of = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    let pages: Vec<String> = COMMANDS.iter().map(|command| of(&format!("shedder-{command}.1"))).collect();
    let top = of("shedder.1");
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(top.contains(".TH shedder"), "{top}");
    for (command, page) in COMMANDS.iter().zip(pages) {
        assert!(page.contains(&format!("shedder\\-{command}")), "{command}: {page}");
    }
}

#[test]
fn somebody_who_stops_reading_causes_no_panic() {
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["check", EXAMPLE], 0),
        (&["check", EXAMPLE, "--json"], 0),
        (&["check", "/nonexistent/file"], 2),
        (&["status"], 3),
        (&["status", "--json"], 3),
        (&["explode"], 2),
    ] {
        let mut command = Command::new(binary());
        command.args(arguments);
        if !arguments.contains(&"--help") {
            command.args(["--bpffs", "/nonexistent/shedder"]);
        }
        // Pipes whose readers are gone before the first byte.
        let [(_, out), (_, err)] = [std::io::pipe().unwrap(), std::io::pipe().unwrap()];
        let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {status}");
    }
}

// --- check -------------------------------------------------------------------------------------------------------

#[test]
fn check_prints_a_valid_configuration_with_every_default() {
    let directory = scratch("check");
    let design = directory.join("design.toml");
    std::fs::write(&design, DESIGN).unwrap();
    for file in [design.to_str().unwrap(), EXAMPLE] {
        let output = plain(&["check", file]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let whole = text(&output.stdout);
        assert!(
            whole.contains("table = ") && whole.contains("min_samples = "),
            "defaults are shown: {whole}"
        );
        let checked = parse_line(&plain(&["check", file, "--json"]));
        assert_eq!(checked["valid"], true);
        let effective = checked["effective"].as_str().unwrap();
        assert!(effective.contains("min_samples = ") && whole.ends_with(effective), "{effective}");
        // What it prints is a configuration, and the same one.
        let again = directory.join("again.toml");
        std::fs::write(&again, &whole).unwrap();
        assert_eq!(parse_line(&plain(&["check", again.to_str().unwrap(), "--json"])), checked);
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn check_lists_every_mistake_with_its_key_and_line() {
    let directory = scratch("mistakes");
    let file = directory.join("shedder.toml");
    std::fs::write(&file, MISTAKEN).unwrap();
    let file = file.to_str().unwrap();
    let output = plain(&["check", file]);
    let err = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{err}");
    lists_the_mistakes(&err, file);
    let output = plain(&["check", file, "--json"]);
    let failure = parse_line(&output);
    assert_eq!(failure["exit_code"], 2);
    let mistakes = failure["mistakes"].as_array().unwrap();
    let found: Vec<_> =
        mistakes.iter().map(|m| (m["line"].as_u64().unwrap(), m["key"].as_str().unwrap())).collect();
    assert_eq!(found, [(2, "mode"), (3, "lease"), (5, "source.bursts")]);
    std::fs::remove_dir_all(directory).unwrap();
}

/// Each mistake of [`MISTAKEN`] on a line that begins as a compiler's does.
fn lists_the_mistakes(err: &str, file: &str) {
    for (line, key) in [(2, "mode"), (3, "lease"), (5, "source.bursts")] {
        let begin = format!("{file}:{line}:");
        let told = err.lines().any(|told| told.starts_with(&begin) && told.contains(&format!(" {key}: ")));
        assert!(told, "{begin} {key}: {err}");
    }
}

#[test]
fn check_says_what_is_wrong_with_what_is_no_file() {
    let directory = scratch("no-file");
    for (path, why) in [
        (directory.join("nothing.toml"), "does not exist"),
        (directory.clone(), "is a directory"),
        ("/dev/zero".into(), "is larger than"),
    ] {
        let output = plain(&["check", path.to_str().unwrap()]);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(why) && err.contains(path.to_str().unwrap()), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// A directory for one test, which removes it.
fn scratch(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("shedder-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

// --- What cannot be had ------------------------------------------------------------------------------------------

#[test]
fn where_nothing_is_attached_every_command_says_so_and_ends_with_3() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("not-attached").unwrap();
    let shedder = Shedder::new(&network);
    for arguments in [
        &["status"][..],
        &["kill"],
        &["kill", "--service", "web"],
        &["resume"],
        &["shed", "10"],
        &["auto"],
        &["detach"],
    ] {
        let err = shedder.fails(3, arguments);
        assert!(err.contains("nothing is attached") && err.lines().count() == 1, "{arguments:?}: {err}");
        let failure = json_of(&shedder, 3, arguments);
        assert_eq!(failure["exit_code"], 3);
        assert!(failure["error"].as_str().unwrap().contains("nothing is attached"), "{failure}");
        assert!(!shedder.pins().exists(), "{arguments:?} made pins");
    }
}

#[test]
fn who_is_not_root_is_told_so_in_one_sentence() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("not-root").unwrap();
    let shedder = attach(&network, SERVICES);
    let interface = network.link().interface.clone();
    let directory = scratch("not-root");
    // Where everybody may execute it, whatever the modes of the directories above the original.
    let program = directory.join("shedder");
    std::fs::copy(binary(), &program).unwrap();
    for arguments in [
        &["status"][..],
        &["kill"],
        &["resume"],
        &["shed", "10"],
        &["auto"],
        &["detach"],
        &["attach", "--interface", &interface],
        &["run", "--interface", &interface],
    ] {
        let mut command = network.server.command(&program);
        command.args(arguments).arg("--bpffs").arg(shedder.pins());
        let output = as_nobody(&mut command).output().unwrap();
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(err.contains("needs root") && err.lines().count() == 1, "{arguments:?}: {err}");
    }
    std::fs::remove_dir_all(directory).unwrap();
    // Nothing of it had an effect.
    let status = status(&shedder);
    assert_eq!((&status["kill"]["active"], &status["override"]["active"]), (&false.into(), &false.into()));
    assert_eq!(status["interfaces"][0]["attached"], true);
}

/// The command will run without privileges.
fn as_nobody(command: &mut Command) -> &mut Command {
    const NOBODY: u32 = 65534;
    let drop = || {
        // SAFETY: an empty list is read from nowhere.
        let groups = unsafe { libc::setgroups(0, std::ptr::null()) };
        // SAFETY: takes no pointers.
        let group = unsafe { libc::setgid(NOBODY) };
        // SAFETY: takes no pointers.
        let user = unsafe { libc::setuid(NOBODY) };
        if groups | group | user == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only three system calls are made.
    unsafe { command.pre_exec(drop) }
}

#[test]
fn pins_belong_on_a_bpf_file_system() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("no-bpffs").unwrap();
    let interface = network.link().interface.clone();
    let elsewhere = network.dir().join("pins");
    for command in ["attach", "run"] {
        let mut run = network.server.command(binary());
        run.args([command, "--interface", &interface, "--bpffs"]).arg(&elsewhere);
        let output = run.output().unwrap();
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("not on a BPF file system") && err.contains("mount -t bpf"), "{err}");
        assert!(!elsewhere.exists());
    }
}

#[test]
fn an_interface_that_cannot_be_held_is_refused_and_nothing_stays_attached() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("no-interface").unwrap();
    let shedder = Shedder::new(&network);
    let interface = network.link().interface.clone();
    let made = network.server.command("ip").args(["tuntap", "add", "dev", "tun7", "mode", "tun"]).output();
    assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");
    for (name, why) in [
        ("nope0", "there is no interface nope0"),
        ("tun7", "tun7 has no Ethernet header"),
        ("a-name-that-no-interface-can-have", "there is no interface"),
    ] {
        for command in ["attach", "run"] {
            // The first could be held: all or nothing.
            let err = shedder.fails(1, &[command, "--interface", &interface, name]);
            assert!(err.contains(why), "{err}");
            assert!(shedder.status().is_none(), "{command} {name} left something attached");
        }
    }
    shedder.ok(&["attach", "--interface", "lo"]);
    assert_eq!(status(&shedder)["interfaces"][0]["name"], "lo");
}

#[test]
fn a_configuration_that_is_wrong_attaches_nothing() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("bad-config").unwrap();
    let shedder = Shedder::new(&network);
    let directory = network.dir().to_str().unwrap().to_owned();
    for command in ["attach", "run"] {
        let file = shedder.config(MISTAKEN);
        let file = file.to_str().unwrap();
        lists_the_mistakes(&shedder.fails(2, &[command, "--config", file]), file);
        let missing = format!("{directory}/nothing.toml");
        for (path, why) in [(missing.as_str(), "does not exist"), (directory.as_str(), "is a directory")] {
            let err = shedder.fails(2, &[command, "--config", path]);
            assert!(err.contains(why), "{err}");
        }
        for empty in ["", "interfaces = []\n"] {
            let file = shedder.config(empty);
            let err = shedder.fails(2, &[command, "--config", file.to_str().unwrap()]);
            assert!(err.contains("names no interface") && err.contains("--interface"), "{err}");
        }
        assert!(!shedder.pins().exists(), "{command} left pins");
    }
    // The command line's interfaces stand in for the file's.
    let file = shedder.config("");
    shedder.ok(&["attach", "--config", file.to_str().unwrap(), "--interface", &network.link().interface]);
}

#[test]
fn a_name_that_is_not_known_is_told_with_those_that_are() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("names").unwrap();
    let shedder = attach(&network, SERVICES);
    let interface = network.link().interface.clone();
    for command in ["kill", "resume", "detach"] {
        let err = shedder.fails(1, &[command, "--interface", "nope0"]);
        assert!(err.contains("nope0 is not attached") && err.contains(&interface), "{err}");
    }
    for arguments in [&["kill"][..], &["resume"], &["shed", "10"], &["auto"]] {
        let err = shedder.fails(1, &[arguments, &["--service", "nope"]].concat());
        assert!(err.contains("no service nope") && err.contains("web, dns"), "{err}");
    }
    // Of two names one of which is wrong, nothing is done.
    shedder.fails(1, &["kill", "--interface", &interface, "nope0"]);
    assert_eq!(status(&shedder)["interfaces"][0]["kill"]["active"], false);
}

// --- Without a daemon --------------------------------------------------------------------------------------------

#[test]
fn every_command_works_without_a_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("no-daemon").unwrap();
    let shedder = Shedder::new(&network);
    let interface = network.link().interface.clone();
    let config = shedder.config(SERVICES);
    let attached = shedder.ok(&["attach", "--config", config.to_str().unwrap()]);
    assert!(attached.contains(&format!("{interface}: attached, ")), "{attached}");
    let shown = shedder.ok(&["status"]);
    for part in ["none: attached without one", "kill       none", "override   none", "interface  veth0"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    let killed = shedder.ok(&["kill", "--for", "10m", "--total"]);
    for part in ["killed: host: everything, lifelines as well, for 10m", "word written at 2", "verified"] {
        assert!(killed.contains(part), "{part}: {killed}");
    }
    let shown = shedder.ok(&["status"]);
    assert!(
        shown.contains("kill       IN FORCE, TOTAL") && shown.contains("ends by itself in 9m"),
        "{shown}"
    );
    let killed = shedder.ok(&["kill"]);
    assert!(killed.contains("everything but lifelines, until `shedder resume`"), "{killed}");
    assert!(
        shedder.ok(&["status"]).contains("IN FORCE: all but lifelines is dropped; until it is ended by hand")
    );

    shedder.ok(&["kill", "--interface", &interface]);
    shedder.ok(&["kill", "--service", "web", "--for", "1h"]);
    let held = status(&shedder);
    assert_eq!(held["interfaces"][0]["kill"]["active"], true);
    assert_eq!(service(&held, "web")["kill"]["active"], true);
    assert_eq!(service(&held, "dns")["kill"]["active"], false);
    // A name lifts that alone; none lifts all.
    let output = shedder.run(&["resume", "--service", "dns"]);
    let resumed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "the host is killed still: {resumed}");
    for part in ["none of service dns was killed", "STILL KILLED: host, interface veth0, service web"] {
        assert!(resumed.contains(part), "{part}: {resumed}");
    }
    let resumed = shedder.ok(&["resume"]);
    for part in [
        "resumed: host: was killed\n",
        "resumed: interface veth0",
        "resumed: service web",
        "left",
        "verified",
    ] {
        assert!(resumed.contains(part), "{part}: {resumed}");
    }
    let again = shedder.ok(&["resume"]);
    assert!(again.contains("nothing was killed: there was nothing to lift"), "{again}");

    let shed = shedder.ok(&["shed", "30", "--for", "1h"]);
    for part in ["shedding 30 % of everything, for 1h", "too little was offered to say", "verified"] {
        assert!(shed.contains(part), "{part}: {shed}");
    }
    let shown = shedder.ok(&["status"]);
    assert!(
        shown.contains("override   SHEDDING 30.0 %") && shown.contains("by the override of everything"),
        "{shown}"
    );
    let auto = shedder.ok(&["auto"]);
    assert!(auto.contains("override ended: everything") && auto.contains("no daemon is alive"), "{auto}");
    assert!(shedder.ok(&["auto"]).contains("no override was in force"));

    let detached = shedder.ok(&["detach"]);
    assert!(detached.contains("veth0: detached") && detached.contains("nothing is left"), "{detached}");
    assert!(!shedder.pins().exists());
    shedder.fails(3, &["detach"]);
}

#[test]
fn what_was_written_and_is_not_obeyed_ends_with_4_and_says_why() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("not-obeyed").unwrap();
    let shedder = Shedder::new(&network);
    let interface = network.link().interface.clone();
    let config = shedder.config(SERVICES);
    let config = config.to_str().unwrap();
    shedder.ok(&["attach", "--config", config, "--dry-run"]);
    let told = |arguments: &[&str], why: &str| {
        let output = shedder.run(arguments);
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {out}");
        assert!(out.contains("NOT OBEYED") && out.contains(why), "{arguments:?}: {out}");
    };
    told(&["kill"], "runs dry and drops nothing");
    shedder.ok(&["resume"]);
    assert!(shedder.ok(&["shed", "10"]).contains("DRY RUN"));
    shedder.ok(&["auto"]);

    // The same pins, no longer dry.
    shedder.ok(&["attach", "--config", config]);
    shedder.ok(&["kill"]);
    told(&["resume", "--interface", &interface], "the host is still killed");
    shedder.ok(&["resume"]);
    shedder.ok(&["shed", "10"]);
    told(&["shed", "50", "--service", "web"], "an override of everything holds");
    told(&["auto", "--service", "web"], "an override of everything holds");
}

// --- With a daemon -----------------------------------------------------------------------------------------------

/// One service that is pushed to, at a socket in the network's own directory.
fn pushed(network: &Network) -> String {
    format!(
        "interfaces = [\"$IF\"]\nlease = \"500ms\"\n\
         [[service]]\nname = \"web\"\nprotocol = \"tcp\"\nport = 8080\ntarget = \"50ms\"\n\
         signal = {{ kind = \"push\" }}\n\
         [endpoint]\npush = \"{}/push.sock\"\n",
        network.dir().display()
    )
}

/// Pushes `line` every few milliseconds while `work` is done.
fn while_pushing<T>(network: &Network, line: &str, work: impl FnOnce() -> T) -> T {
    let socket = UnixDatagram::unbound().unwrap();
    let path = network.dir().join("push.sock");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Refused while the daemon is not there.
                let _ = socket.send_to(line.as_bytes(), &path);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let stop = StopOnDrop(&stop);
        let done = work();
        drop(stop);
        done
    })
}

/// Also where `work` panics, or the scope would wait for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn every_command_works_beside_a_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("beside-daemon").unwrap();
    let shedder = Shedder::new(&network);
    let interface = network.link().interface.clone();
    let mut daemon = shedder.daemon(&pushed(&network)).unwrap();
    while_pushing(&network, "web 50ms 10", || {
        let seen = status_until(&shedder, "the loop observes", |status| {
            service(status, "web")["observed_seconds"].as_f64() == Some(0.05)
        });
        assert_eq!(service(&seen, "web")["loop"]["live"], true);
        assert_eq!(service(&seen, "web")["in_force"]["by"], "loop");
        let shown = shedder.ok(&["status"]);
        assert!(
            shown.contains("daemon     alive") && shown.contains("latency  50.0ms; target 50.0ms"),
            "{shown}"
        );

        assert_eq!(json_of(&shedder, 0, &["kill"])["obeyed"], true);
        assert_eq!(json_of(&shedder, 0, &["resume"])["lifted"][0]["scope"], "host");
        assert_eq!(
            json_of(&shedder, 0, &["kill", "--interface", &interface])["scope"][0],
            format!("interface {interface}")
        );
        assert_eq!(json_of(&shedder, 0, &["resume"])["obeyed"], true);
        assert_eq!(json_of(&shedder, 0, &["shed", "40", "--service", "web"])["obeyed"], true);
        let seen = status_until(&shedder, "the loop follows the person", |status| {
            service(status, "web")["loop"]["shed_ratio"].as_f64() == Some(0.4)
        });
        assert_eq!(service(&seen, "web")["in_force"]["by"], "override");
        let auto = json_of(&shedder, 0, &["auto", "--service", "web"]);
        assert_eq!((&auto["ended"][0], &auto["daemon_alive"]), (&"service web".into(), &true.into()));
        // A daemon holds the pins: nobody else changes what is attached.
        for arguments in [&["attach", "--interface", interface.as_str()][..], &["detach"]] {
            let err = shedder.fails(1, arguments);
            assert!(err.contains("another shedder holds"), "{err}");
        }
    });
    daemon.stop(LONG).unwrap();
    shedder.fails(3, &["status"]);
}

#[test]
fn a_dead_daemons_figures_are_not_shown_as_live() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("dead-daemon").unwrap();
    for (posture, cutoff) in
        [("open", "768 (nothing is shed)"), ("hold", "of 768"), ("closed", "0 (everything")]
    {
        let shedder = Shedder::new(&network);
        let config = format!("posture = \"{posture}\"\n{}", pushed(&network));
        let mut daemon = shedder.daemon(&config).unwrap();
        while_pushing(&network, "web 500ms 10", || {
            status_until(&shedder, "the loop sheds", |status| {
                service(status, "web")["loop"]["shed_ratio"].as_f64() > Some(0.1)
            });
        });
        daemon.signal(Signal::SIGKILL).unwrap();
        daemon.wait(LONG).unwrap().expect("it was killed");
        let seen = status_until(&shedder, "the lease lapses", |status| status["daemon"]["alive"] == false);
        assert_eq!(seen["posture"], posture);
        let web = service(&seen, "web");
        assert_eq!(
            (&web["observed_seconds"], &web["loop"]["live"]),
            (&Value::Null, &false.into()),
            "{seen:#}"
        );
        assert!(web["loop"]["shed_ratio"].as_f64() > Some(0.1), "what it said last is told as history");
        assert_eq!(web["in_force"]["by"], "posture");
        let shown = shedder.ok(&["status"]);
        for part in ["NOT ALIVE", "latency  unknown: no live daemon", "loop     stopped; ", cutoff] {
            assert!(shown.contains(part), "{posture}: {part}: {shown}");
        }
        shedder.ok(&["detach"]);
    }
}

#[test]
fn a_daemon_whose_log_is_read_no_more_goes_on() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("no-log").unwrap();
    let shedder = Shedder::new(&network);
    let config = shedder.config(SERVICES);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = shedder.command(&["run", "--config", config.to_str().unwrap()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
    let mut daemon = Reaped(command.spawn().unwrap());
    drop(command);
    drop(reader);
    let deadline = Instant::now() + LONG;
    while !shedder.status().is_some_and(|status| status.contains("\"alive\":true")) {
        assert!(daemon.0.try_wait().unwrap().is_none() && Instant::now() < deadline, "it does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
    // What a person does is logged by the control thread; a reload by the main thread.
    shedder.ok(&["shed", "10"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.0.id() as i32), Signal::SIGHUP).unwrap();
    status_until(&shedder, "the lease is renewed", |status| {
        status["daemon"]["lease_remaining_seconds"].as_f64() > Some(0.4)
            && service(status, "web")["loop"]["shed_ratio"].as_f64() == Some(0.1)
    });
    assert!(daemon.0.try_wait().unwrap().is_none(), "it ended");
}

/// Killed and reaped when dropped.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// --- JSON --------------------------------------------------------------------------------------------------------

#[test]
fn json_has_the_fields_that_the_document_lists_and_no_others() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("json").unwrap();
    let shedder = Shedder::new(&network);
    let interface = network.link().interface.clone();
    let mistaken = shedder.config(MISTAKEN).to_str().unwrap().to_owned();
    let mut met: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    let mut meet = |name: &'static str, code: i32, arguments: &[&str]| {
        let printed = json_of(&shedder, code, arguments);
        fields(&printed, String::new(), met.entry(name).or_default());
        if !["status", "check", "error"].contains(&name) {
            assert_eq!(printed["action"], name);
            assert!(printed.get("obeyed").is_none_or(|obeyed| *obeyed == (code == 0)), "{printed}");
        }
    };
    meet("error", 2, &["check", &mistaken]);
    meet("error", 3, &["status"]);
    meet("check", 0, &["check", EXAMPLE]);
    let config = shedder.config(SERVICES).to_str().unwrap().to_owned();
    meet("attach", 0, &["attach", "--config", &config, "--dry-run"]);
    meet("kill", 4, &["kill"]);
    meet("attach", 0, &["attach", "--config", &config]);
    meet("resume", 4, &["resume", "--interface", &interface]);
    meet("kill", 0, &["kill", "--for", "1h", "--service", "web"]);
    meet("resume", 0, &["resume"]);
    meet("shed", 0, &["shed", "10"]);
    meet("shed", 4, &["shed", "10", "--for", "1h", "--service", "web"]);
    meet("auto", 4, &["auto", "--service", "web"]);
    // A passive signal has fields of its own, and its place is `null` without one.
    let passive = SERVICES.replace("signal = { kind = \"none\" }", "signal = { kind = \"passive\" }");
    // So has a daemon, which leaves everything attached when it is killed.
    let daemon = shedder.daemon(&passive).unwrap();
    // And so has somebody else's program before ours.
    let foreign = Passing::load(Hook::Egress).unwrap();
    let held = network.server.run(|| foreign.attach(&interface, Place::First)).unwrap().unwrap();
    meet("status", 0, &["status"]);
    drop((daemon, held));
    meet("auto", 0, &["auto"]);
    meet("detach", 0, &["detach"]);

    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command-line.md");
    let document = std::fs::read_to_string(document).unwrap();
    let listed: BTreeMap<&str, BTreeSet<String>> = document
        .split("<!-- json: ")
        .skip(1)
        .map(|part| {
            let (name, rest) = part.split_once(" -->").unwrap();
            let (table, _) = rest.split_once("<!-- end -->").unwrap();
            let field = |row: &str| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned());
            (name, table.lines().filter_map(field).collect())
        })
        .collect();
    assert_eq!(listed.keys().collect::<Vec<_>>(), met.keys().collect::<Vec<_>>());
    for (name, fields) in met {
        assert_eq!(fields, listed[name], "{name}");
    }
}

/// The paths of a value's leaves, as the document writes them.
fn fields(value: &Value, path: String, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let key =
                    if path.ends_with("reasons") || path.ends_with("passive.events") { "*" } else { key };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                fields(value, path, into);
            }
        }
        Value::Array(elements) => {
            elements.iter().for_each(|element| fields(element, format!("{path}[]"), into));
        }
        _ => {
            into.insert(path);
        }
    }
}

// --- Instances ---------------------------------------------------------------------------------------------------

#[test]
fn two_instances_with_two_directories_do_not_see_each_other() {
    if !privileged::require() {
        return;
    }
    let network = Network::with("two-instances", &Options { links: 2, ..Options::default() }).unwrap();
    let [first, second] = [0, 1].map(|index| network.links()[index].interface.clone());
    let shedder = Shedder::new(&network);
    shedder.ok(&["attach", "--interface", &first]);
    let other_pins = network.bpffs().join("other");
    let other = |arguments: &[&str]| {
        let mut command = network.server.command(binary());
        command.args(arguments).args(["--json", "--bpffs"]).arg(&other_pins).output().unwrap()
    };
    assert_eq!(other(&["status"]).status.code(), Some(3));
    assert!(other(&["attach", "--interface", &second]).status.success());

    shedder.ok(&["kill"]);
    let seen = parse_line(&other(&["status"]));
    assert_eq!(seen["kill"]["active"], false);
    assert_eq!(seen["interfaces"].as_array().unwrap().len(), 1);
    assert_eq!(seen["interfaces"][0]["name"], second);
    let arrived = |link: &Link| {
        let receiver =
            Receiver::start(&network.server, SocketAddr::new(link.server_v4().into(), 9000)).unwrap();
        let frames = vec![datagram(link, link.client_v4().into(), 40_000, 9000)];
        let sent = flood(&network, link, frames, 200, Duration::from_millis(250));
        wait_for("the datagrams are judged", || total(&shedder, &other_pins, &network, link) >= sent);
        (sent, receiver.finish().unwrap().total())
    };
    let (sent, received) = arrived(&network.links()[1]);
    assert_eq!(received, sent, "the second link is not killed");
    let (sent, received) = arrived(&network.links()[0]);
    assert_eq!((sent > 0, received), (true, 0), "the first link is");

    shedder.ok(&["detach"]);
    assert_eq!(parse_line(&other(&["status"]))["interfaces"][0]["attached"], true);
    assert!(other(&["detach"]).status.success());
}

/// Packets that arrived on a link, whichever instance holds it.
fn total(shedder: &Shedder<'_>, other_pins: &Path, network: &Network, link: &Link) -> u64 {
    let other =
        network.server.command(binary()).args(["status", "--json", "--bpffs"]).arg(other_pins).output();
    let counted = [shedder.run(&["status", "--json"]), other.unwrap()].into_iter().flat_map(|output| {
        let status = parse_line(&output);
        let interfaces = status["interfaces"].as_array().unwrap().clone();
        interfaces.into_iter().filter(|interface| interface["name"] == link.interface)
    });
    counted.map(|interface| arrivals(&interface)).sum()
}

fn arrivals(interface: &Value) -> u64 {
    let of = |what: &str| interface["ingress"][what]["packets"].as_u64().unwrap();
    of("passed") + of("dropped")
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

// --- Shedding by hand --------------------------------------------------------------------------------------------

fn ethernet(link: &Link) -> Ethernet {
    Ethernet { source: link.client_mac(), destination: link.server_mac() }
}

fn datagram(link: &Link, source: IpAddr, from: u16, to: u16) -> Vec<u8> {
    let destination = SocketAddr::new(link.server_v4().into(), to);
    frame::udp(ethernet(link), SocketAddr::new(source, from), destination, b"shedder")
}

/// Some hundred sources.
fn sources(link: &Link) -> Vec<IpAddr> {
    (0..400).map(|i| link.source_v4(1 + (i / 200) as u8, 1 + (i % 200) as u8).into()).collect()
}

/// A connection request from each source.
fn requests(link: &Link, port: u16) -> Vec<Vec<u8>> {
    let destination = SocketAddr::new(link.server_v4().into(), port);
    let request = |source| frame::tcp_syn(ethernet(link), SocketAddr::new(source, 40_000), destination, 1);
    sources(link).into_iter().map(request).collect()
}

/// Sends to the end, and returns how many frames the kernel took.
fn flood(network: &Network, link: &Link, frames: Vec<Vec<u8>>, rate: u64, duration: Duration) -> u64 {
    start(network, link, frames, rate, duration).finish().unwrap()
}

fn start(network: &Network, link: &Link, frames: Vec<Vec<u8>>, rate: u64, duration: Duration) -> Sender {
    let plan = flood::Plan { interface: link.interface.clone(), frames, rate, duration, cpu: None };
    Sender::start(&network.client, plan).unwrap()
}

/// How many packets were shed and admitted on the way in.
fn judged(shedder: &Shedder<'_>) -> (u64, u64) {
    let status = status(shedder);
    let of =
        |reason: &str| status["interfaces"][0]["ingress"]["reasons"][reason]["packets"].as_u64().unwrap();
    (of("shed"), of("admitted"))
}

/// How many of the next thousands of packets are shed and admitted.
fn next_judged(shedder: &Shedder<'_>) -> (u64, u64) {
    const MANY: u64 = 2000;
    let before = judged(shedder);
    let mut found = (0, 0);
    wait_for("new flows are offered", || {
        let now = judged(shedder);
        found = (now.0 - before.0, now.1 - before.1);
        found.0 + found.1 >= MANY
    });
    found
}

#[test]
fn shed_takes_the_share_of_new_flows_that_it_was_told_to() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("shed-share").unwrap();
    let link = network.link();
    let shedder = attach(&network, SERVICES);
    for (port, scope) in [(8080, &["--service", "web"][..]), (9090, &[])] {
        let shed = |percent: &str| json_of(&shedder, 0, &[&["shed", percent], scope].concat());
        let load = start(&network, link, requests(link, port), 4000, LONG);
        shed("50");
        let told = shed("50");
        let share = told["share_of_recent"].as_f64().expect("enough was offered");
        let (dropped, admitted) = next_judged(&shedder);
        let found = dropped as f64 / (dropped + admitted) as f64;
        println!("{scope:?}: told {share:.3}, found {found:.3}, {told}");
        assert!((0.45..=0.55).contains(&share) && (0.45..=0.55).contains(&found), "{share} {found}");
        assert_eq!(shed("0")["cutoff"], 768);
        assert_eq!(next_judged(&shedder).0, 0, "shed 0 sheds nothing");
        assert_eq!(shed("100")["cutoff"], 0);
        assert_eq!(next_judged(&shedder).1, 0, "shed 100 sheds every new flow");
        json_of(&shedder, 0, &[&["auto"], scope].concat());
        assert_eq!(next_judged(&shedder).0, 0, "no daemon sheds");
        load.stop().unwrap();
    }
}

#[test]
fn shed_serves_some_sources_whole_and_others_not_at_all() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("shed-whole").unwrap();
    let link = network.link();
    let shedder = attach(&network, SERVICES);
    // Every datagram is a flow of its own, once.
    let flows = |to: u16, ports: std::ops::Range<u16>| -> Vec<Vec<u8>> {
        ports
            .flat_map(|from| sources(link).into_iter().map(move |source| (source, from)))
            .map(|(source, from)| datagram(link, source, from, to))
            .collect()
    };
    // Long before its end the command has seen what it needs.
    let load = start(&network, link, flows(5300, 1000..1100), 4000, LONG);
    for _ in 0..2 {
        shedder.ok(&["shed", "50", "--service", "dns"]);
    }
    load.stop().unwrap();

    let receiver = Receiver::start(&network.server, SocketAddr::new(link.server_v4().into(), 5300)).unwrap();
    let frames = flows(5300, 2000..2005);
    let each = frames.len() as u64;
    let before = judged(&shedder);
    // The plan's frames are sent in turn, and a whole round is what is wanted.
    let load = start(&network, link, frames, 4000, LONG);
    wait_for("a round is sent", || load.sent() >= each);
    load.stop().unwrap();
    wait_for("a round is judged", || {
        let now = judged(&shedder);
        now.0 + now.1 - before.0 - before.1 >= each
    });
    let arrived = receiver.finish().unwrap();
    let served = arrived.by_source.len();
    println!("{served} of {} sources are served, overflowed {}", sources(link).len(), arrived.overflowed);
    assert!((180..=220).contains(&served), "{served}");
    assert!(arrived.by_source.values().all(|&datagrams| datagrams >= 5), "{:?}", arrived.by_source);
}

/// A connection from the client to `port` of the server, where one comes about in time.
fn connect(network: &Network, port: u16, patience: Duration) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(network.link().server_v4().into(), port);
    let stream = network.client.run(|| TcpStream::connect_timeout(&address, patience)).unwrap()?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

fn listen(network: &Network, port: u16) -> TcpListener {
    let address = SocketAddr::new(network.link().server_v4().into(), port);
    network.server.run(|| TcpListener::bind(address)).unwrap().unwrap()
}

/// Some bytes there and back.
fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    server.set_read_timeout(Some(LONG)).unwrap();
    let mut bytes = [0; 4];
    client.write_all(b"ping").unwrap();
    server.read_exact(&mut bytes).expect("the request arrives");
    server.write_all(&bytes).unwrap();
    client.read_exact(&mut bytes).expect("the answer arrives");
    assert_eq!(&bytes, b"ping");
}

/// How long a connection that must not come about is given.
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn established_connections_live_on_while_every_new_one_is_shed() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("established").unwrap();
    let shedder = attach(&network, SERVICES);
    let listener = listen(&network, 8080);
    let mut client = connect(&network, 8080, LONG).unwrap();
    let mut server = listener.accept().unwrap().0;
    exchange(&mut client, &mut server);
    shedder.ok(&["shed", "100"]);
    let before = judged(&shedder).0;
    assert!(connect(&network, 8080, SHORT).is_err(), "a new connection is shed");
    assert!(judged(&shedder).0 > before);
    exchange(&mut client, &mut server);
    shedder.ok(&["auto"]);
    connect(&network, 8080, LONG).expect("nothing is shed any more");
    exchange(&mut client, &mut server);
}

#[test]
fn an_override_with_a_deadline_ends_by_itself_without_a_daemon() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("override-ends").unwrap();
    let shedder = attach(&network, SERVICES);
    let _listener = listen(&network, 8080);
    let told = json_of(&shedder, 0, &["shed", "100", "--for", "3s"]);
    assert_eq!(told["for_seconds"], 3.0);
    let held = status(&shedder);
    let left = held["override"]["ends_in_seconds"].as_f64().expect("it holds, and has an end");
    assert!(left > 0.0 && left <= 3.0, "{held:#}");
    assert!(connect(&network, 8080, SHORT).is_err());
    status_until(&shedder, "it ends", |status| status["override"]["active"] == false);
    connect(&network, 8080, LONG).expect("it has ended in the kernel as well");
    assert_eq!(json_of(&shedder, 0, &["auto"])["ended"].as_array().map(Vec::len), Some(0));
}

#[test]
fn an_override_of_everything_comes_before_one_of_a_service() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("precedence").unwrap();
    let shedder = attach(&network, SERVICES);
    let _listeners = [8080, 9090].map(|port| listen(&network, port));
    let passes =
        |port| connect(&network, port, if judged_shed(&shedder, port) { SHORT } else { LONG }).is_ok();

    shedder.ok(&["shed", "100", "--service", "web"]);
    assert!(!passes(8080), "the service's own override");
    assert!(passes(9090), "which is about nobody else");

    shedder.ok(&["shed", "0"]);
    assert_eq!(service(&status(&shedder), "web")["in_force"]["by"], "host-override");
    assert!(passes(8080), "everything's comes first");

    shedder.ok(&["shed", "100"]);
    assert!(!passes(8080) && !passes(9090), "it covers the traffic of no service");
    // What it covers meanwhile is kept, and comes back with its end.
    shedder.fails(4, &["shed", "0", "--service", "web"]);
    assert!(!passes(8080));
    shedder.ok(&["auto"]);
    let ended = status(&shedder);
    assert_eq!(
        (&ended["override"]["active"], &service(&ended, "web")["override"]["active"]),
        (&false.into(), &false.into())
    );
    assert!(passes(8080) && passes(9090));
}

/// Whether the status says that new flows to a port are all shed.
fn judged_shed(shedder: &Shedder<'_>, port: u16) -> bool {
    let status = status(shedder);
    let services = status["services"].as_array().unwrap();
    match services.iter().find(|service| service["port"] == port) {
        Some(service) => service["in_force"]["cutoff"] == 0,
        None => status["override"]["cutoff"] == 0,
    }
}
