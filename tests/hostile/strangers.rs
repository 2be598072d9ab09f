//! (28) Who may change anything: root, and of latencies whoever the push socket's group lets. Nobody else on the host, and
//! nobody on the network.

use aya::maps::MapData;
use shedder_common::words::OverrideWord;
use shedder_tests::endpoint;
use shedder_tests::kernel::Attached;
use shedder_tests::netns::Network;
use shedder_tests::shedder::{Shedder, binary};
use shedder_tests::{bpf, privileged};
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const NOBODY: u32 = 65_534;

/// Runs `work` on a thread of its own, as a user without any privilege.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            // The kernel's own calls, which change the calling thread: those of the C library change every thread.
            for (call, id) in [(libc::SYS_setresgid, NOBODY), (libc::SYS_setresuid, NOBODY)] {
                // SAFETY: no memory is involved.
                assert_eq!(unsafe { libc::syscall(call, id, id, id) }, 0);
            }
            work()
        });
        stranger.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn pushed(network: &Network) -> String {
    format!(
        "interfaces = [\"$IF\"]\n[endpoint]\npush = \"{}/push.sock\"\n[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 80\n\
         target = \"50ms\"\nsignal = {{ kind = \"push\" }}\n",
        network.dir().display()
    )
}

#[test]
fn nobody_else_on_the_host_can_look_at_lock_or_change_anything() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("strangers").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.daemon(&pushed(&network)).unwrap();
    let (pins, socket) = (shedder.pins().to_owned(), network.dir().join("push.sock"));
    // As much as anybody could be given: only what shedder made itself stands in the way.
    for open in [network.dir().to_owned(), network.bpffs()] {
        fs::set_permissions(open, Permissions::from_mode(0o1777)).unwrap();
    }
    let meta = MapData::from_pin(pins.join("maps/META")).unwrap().info().unwrap().id();
    as_nobody(|| {
        assert!(fs::metadata(&pins).is_ok() && fs::metadata(&socket).is_ok(), "this test shows nothing");
        let denied = |what: &str, kind: ErrorKind| assert_eq!(kind, ErrorKind::PermissionDenied, "{what}");
        denied("listing the pins", fs::read_dir(&pins).unwrap_err().kind());
        // What a lock would be taken on.
        denied("opening the directory", File::open(&pins).unwrap_err().kind());
        denied("removing a pin", fs::remove_file(pins.join("maps/KILLS")).unwrap_err().kind());
        denied(
            "moving the directory away",
            fs::rename(&pins, pins.with_extension("gone")).unwrap_err().kind(),
        );
        assert!(MapData::from_pin(pins.join("maps/KILLS")).is_err(), "the switch can be opened");
        // With it the keys under which sources are hashed.
        assert!(MapData::from_id(meta).is_err(), "the maps can be found by their ids");
        let sender = UnixDatagram::unbound().unwrap();
        denied("pushing a latency", sender.send_to(b"api 5s", &socket).unwrap_err().kind());
    });
    assert_eq!(fs::metadata(&pins).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(pins.join("maps/KILLS")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// There is no group whose members may command: neither root's, nor one of shedder's own.
#[test]
fn no_command_of_another_user_does_anything_whatever_groups_and_capabilities_he_has() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("commanders").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.daemon(&pushed(&network)).unwrap();
    shedder.ok(&["kill", "--total"]);
    shedder.ok(&["shed", "30"]);
    for open in [network.dir().to_owned(), network.bpffs()] {
        fs::set_permissions(open, Permissions::from_mode(0o1777)).unwrap();
    }
    // Where everybody may execute it, whatever the modes of the directories above the original.
    let program = network.dir().join("shedder");
    fs::copy(binary(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let users: [&[&str]; 3] = [
        &["--clear-groups"],
        &["--groups", "0,4242"],
        // What attaching takes, without what the pins take.
        &["--clear-groups", "--inh-caps=+bpf,+perfmon,+net_admin", "--ambient-caps=+bpf,+perfmon,+net_admin"],
    ];
    let run = |user: &[&str], arguments: &[&str]| {
        let mut command = network.server.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534"]).args(user).arg("--").arg(&program).args(arguments);
        command.output().unwrap()
    };
    let attached = Attached::under(shedder.pins());
    let held = || {
        // The daemon keeps the cutoff up to date.
        let word = OverrideWord(attached.host_override()).with_cutoff(0);
        (attached.kills(), word, bpf::objects_under(&shedder.pins().join("links")).unwrap())
    };
    let before = held();
    let pins = shedder.pins().to_str().unwrap();
    let commands: [&[&str]; 10] = [
        &["kill"],
        &["kill", "--interface", "veth0", "--for", "1s"],
        &["resume"],
        &["resume", "--service", "api"],
        &["shed", "0"],
        &["auto"],
        &["attach", "--interface", "veth0"],
        &["run", "--interface", "veth0"],
        &["detach"],
        &["status"],
    ];
    for user in users {
        assert!(
            run(user, &["--version"]).status.success(),
            "this test shows nothing: {user:?} cannot run it"
        );
        for arguments in commands {
            let output = run(user, &[arguments, &["--bpffs", pins]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{user:?} {arguments:?}: {output:?}");
            let is_told = said.contains("needs root") || said.contains("belongs to user 0");
            assert!(is_told && said.lines().count() == 1, "{user:?} {arguments:?}: {said}");
            assert!(held() == before, "{user:?} {arguments:?} changed something");
        }
    }
    assert!(shedder.pins().join("push").is_symlink() && network.dir().join("push.sock").exists());
    shedder.ok(&["resume"]);
}

/// On a BPF file system that was mounted without a mode, anybody may make a directory.
#[test]
fn a_directory_of_pins_that_somebody_else_made_first_is_refused() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("squatter").unwrap();
    let shedder = Shedder::new(&network);
    let config = shedder.config("interfaces = [\"$IF\"]");
    let attach = ["attach", "--config", config.to_str().unwrap()];
    fs::create_dir(shedder.pins()).unwrap();
    chown(shedder.pins(), Some(NOBODY), Some(NOBODY)).unwrap();
    let said = shedder.fails(1, &attach);
    assert!(said.contains("belongs to user 65534"), "{said}");
    assert_eq!(fs::read_dir(shedder.pins()).unwrap().count(), 0, "nothing was made in it");
    // Ours, and open to others, as earlier builds made it.
    chown(shedder.pins(), Some(0), Some(0)).unwrap();
    fs::set_permissions(shedder.pins(), Permissions::from_mode(0o777)).unwrap();
    shedder.ok(&attach);
    assert_eq!(fs::metadata(shedder.pins()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn no_request_from_the_network_changes_anything() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("read-only").unwrap();
    let shedder = Shedder::new(&network);
    let _daemon = shedder.daemon("interfaces = [\"$IF\"]\n[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 80\ntarget = \"50ms\"\n").unwrap();
    let attached = Attached::under(shedder.pins());
    let held = |attached: &Attached| {
        (attached.kills(), attached.host_override(), shedder.pins().join("links").exists())
    };
    let before = held(&attached);
    let reloads = || endpoint::metric(&network.server, "shedder_config_reloads_total", &[]).unwrap();
    let reloaded = reloads();
    let paths = [
        "/",
        "/kill",
        "/resume",
        "/shed",
        "/shed?percent=100",
        "/auto",
        "/reload",
        "/detach",
        "/metrics",
        "/readyz",
        "/healthz",
        "/-/reload",
        "/-/quit",
        "//kill",
        "/../kill",
        "*",
    ];
    let methods = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "KILL", "GET", "HEAD"];
    for method in methods {
        for path in paths {
            let body = "{\"total\":true}";
            let text = network.server.run(|| {
                let mut stream = TcpStream::connect(endpoint::ADDRESS).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                write!(
                    stream,
                    "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
                let mut text = Vec::new();
                // A peer that is cut short may be reset.
                let _ = stream.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            });
            let text = text.unwrap();
            let read =
                ["GET", "HEAD"].contains(&method) && ["/", "/metrics", "/readyz", "/healthz"].contains(&path);
            let status = text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
            assert_eq!(status < 400 || (read && status == 503), read, "{method} {path}: {text}");
        }
    }
    assert!(held(&attached) == before, "a word was written");
    assert_eq!(reloads(), reloaded);
}
